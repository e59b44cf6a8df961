"""The loop, the loss and the update that the three PyTorch peers share."""

import os
import shutil
import sys
from collections.abc import Callable

import torch
from torch.nn import Parameter, functional

from .problem import LEARNING_RATE, Model, Problem

# (current [B, N], membrane [B, N]) -> (spikes [B, N], membrane [B, N])
Step = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
# currents [T, B, K] -> logits [B, K]: a leaky integrator, averaged over time
Readout = Callable[[torch.Tensor], torch.Tensor]


def compiled(step: Step) -> Step:
    """Compiles a neuron's step where a C++ compiler is there, a fifth to a quarter faster."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        print("no C++ compiler: torch.compile is left out", file=sys.stderr)
        return step
    torch.compiler.reset()
    return torch.compile(step, dynamic=False)


def build_model(problem: Problem, step: Step, readout: Readout) -> Model:
    """Runs a library's neuron step in a loop and its readout on the whole sequence.

    `unbind` and `stack` matter: indexing a step out of the sequence would make the backward
    pass fill a whole sequence with zeros in every step.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    x, labels = torch.from_numpy(problem.x), torch.from_numpy(problem.labels)
    weights = [Parameter(torch.tensor(w)) for w in (problem.w_in, problem.w_rec, problem.w_out)]
    w_in, w_rec, w_out = weights
    optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE, fused=True)
    fast_step = compiled(step)

    def forward() -> torch.Tensor:
        currents = x @ w_in  # [T, B, N]
        z = v = torch.zeros_like(currents[0])
        spikes = []
        for current in currents.unbind():
            z, v = fast_step(torch.addmm(current, z, w_rec), v)
            spikes.append(z)
        return readout(torch.stack(spikes) @ w_out)

    def train() -> float:
        optimizer.zero_grad()
        loss = functional.cross_entropy(forward(), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return Model(train, torch.inference_mode()(forward))
