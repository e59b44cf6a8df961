"""SpikingJelly: a neuron on `SimpleBaseNode` in the loop, `NonSpikingLIFNode` as the readout."""

import torch
from spikingjelly.activation_based import neuron, surrogate

from .problem import MEMBRANE_DECAY, READOUT_DECAY, Model, Problem, for_leaky_readout
from .torch_loop import build_model

# SuperSpike is alpha / (|x| + 1)^2, without a slope: a small alpha keeps long gradients finite.
SURROGATE_HEIGHT = 0.3


class LIF(neuron.SimpleBaseNode):
    """LIF whose input is not scaled; the base class fires and, with no `v_reset`, subtracts."""

    v: torch.Tensor

    def neuronal_charge(self, x: torch.Tensor) -> None:
        """Integrates one step of input."""
        self.v = MEMBRANE_DECAY * self.v + x


def build(problem: Problem) -> Model:
    """Builds the model; `LIFNode` goes through a custom operator, slower in a single step."""
    node = LIF(
        v_threshold=1.0,
        v_reset=None,
        surrogate_function=surrogate.SuperSpike(alpha=SURROGATE_HEIGHT),
        detach_reset=True,
    )
    readout = neuron.NonSpikingLIFNode(tau=1 / (1 - READOUT_DECAY), decode="mean-mem")

    def step(current: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        node.v = v
        return node(current), node.v

    return build_model(for_leaky_readout(problem), step, readout)
