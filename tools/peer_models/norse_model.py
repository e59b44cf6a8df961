"""Norse: the functional steps of its LIF and LI neurons without synaptic current ("box")."""

import norse.torch as norse
import torch

from .problem import (
    MEMBRANE_DECAY,
    READOUT_DECAY,
    SURROGATE_SLOPE,
    Model,
    Problem,
    for_leaky_input,
    for_leaky_readout,
)
from .torch_loop import build_model

DT = 0.001


def build(problem: Problem) -> Model:
    """Builds the model; Norse scales the input current of a step by `dt * tau_mem_inv`."""
    neuron = norse.LIFBoxParameters(
        tau_mem_inv=torch.tensor((1 - MEMBRANE_DECAY) / DT),
        method="super",
        alpha=torch.tensor(SURROGATE_SLOPE),
        reset_method=norse.reset_subtract,
    )
    integrator = norse.LIBoxParameters(tau_mem_inv=torch.tensor((1 - READOUT_DECAY) / DT))

    def step(current: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = norse.LIFBoxFeedForwardState(v=v)
        z, state = norse.lif_box_feed_forward_step(current, state, neuron, DT)
        return z, state.v

    def readout(currents: torch.Tensor) -> torch.Tensor:
        state = norse.LIBoxState(v=torch.zeros_like(currents[0]))
        voltages = []
        for current in currents.unbind():
            v, state = norse.li_box_feed_forward_step(current, state, integrator, DT)
            voltages.append(v)
        return torch.stack(voltages).mean(0)

    return build_model(for_leaky_readout(for_leaky_input(problem)), step, readout)
