"""snnTorch: `Leaky` in the loop, `StateLeaky` (a causal convolution) as the readout."""

import math

import snntorch
import torch
from snntorch import surrogate

from .problem import MEMBRANE_DECAY, READOUT_DECAY, SURROGATE_SLOPE, Model, Problem
from .torch_loop import build_model

# READOUT_DECAY to this power is 2e-6: the convolution's cut tail is below its rounding.
KERNEL_STEPS = 256


def build(problem: Problem) -> Model:
    """Builds the model; `RLeaky`, the recurrent form, does the same in more operations."""
    neuron = snntorch.Leaky(
        beta=MEMBRANE_DECAY,
        spike_grad=surrogate.fast_sigmoid(slope=SURROGATE_SLOPE),
        reset_mechanism="subtract",
    )
    integrator = snntorch.StateLeaky(
        beta=1 + math.log(READOUT_DECAY),  # its decay is exp(beta - 1)
        channels=problem.w_out.shape[1],
        output=False,
        kernel_truncation_steps=KERNEL_STEPS,
    )

    def readout(currents: torch.Tensor) -> torch.Tensor:
        return integrator(currents).mean(0)

    def step(current: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return neuron(current, v)

    return build_model(problem, step, readout)
