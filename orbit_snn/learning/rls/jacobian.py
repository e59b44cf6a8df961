"""Derivatives of every output of a window by every synapse: one row for each output and step.

An output depends on a synapse through the current that the synapse adds, so a row is the product of
what arrived at the synapses and the gradient to the currents that a reverse pass gives, seeded with
that one output. All seeds are one reverse pass, of a batch that is as many times larger.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from orbit_snn import unroll
from orbit_snn.cells import Cell
from orbit_snn.learning.places import Place, places
from orbit_snn.learning.rls.layers import Layer
from orbit_snn.types import CellTrajectory, OutputGradients, Trajectory


def synapse_rows(layer: Layer, trajectory: CellTrajectory, last: int) -> tf.Tensor:
    """Derivative of each neuron's output by its own synapses, the others' outputs as they are.

    Args:
      layer: onto the neurons.
      trajectory: of the neurons.
      last: of how many of the last steps, S.

    Returns:
      `[S B, M, N]`: of the output of neuron n at a step by its synapse m, through the
      neuron's own memory from the first step of the window on: eligibility traces.
    """
    steps, size, units = trajectory.outputs.shape
    chosen = tf.eye(steps, dtype=layer.dtype)[:, -last:, tf.newaxis]
    doutputs = _for_every_example(tf.broadcast_to(chosen, [steps, last, units]), size)
    back = _reverse(layer.place.cell, _repeated(trajectory, last), doutputs, couple=False)
    return _rows(layer, trajectory, back.currents, last)


def output_rows(
    place: Place, layers: Mapping[Place, Layer], trajectory: Trajectory, last: int
) -> dict[Place, tf.Tensor]:
    """Derivative of every output of one cell or readout by all synapses on the way to it.

    Args:
      place: whose outputs.
      layers: trained ones of its network.
      trajectory: of the network.
      last: of how many of the last steps, S.

    Returns:
      `[S K B, M, N]` for each layer; those that the output does not depend on are left out.
    """
    node, network = place.node, place.node.module
    own = place.trajectory({node.name: trajectory})
    steps, size, outputs = own.outputs.shape
    count = last * outputs
    every = tf.eye(steps * outputs, dtype=place.cell.neuron.dtype)
    seeds = tf.reshape(every[-count:], [count, steps, outputs])
    signal: Any = _for_every_example(tf.transpose(seeds, [1, 0, 2]), size)
    if network.steps_together(trajectory):
        return _together(place, layers, trajectory, signal, count)
    top = len(network.cells) - 1 if isinstance(place.key, str) else place.key
    path = [Place(node, index) for index in reversed(range(top + 1))]
    found = {}
    for each in [place, *path] if isinstance(place.key, str) else path:
        cell_trajectory = each.trajectory({node.name: trajectory})
        back = _reverse(each.cell, _repeated(cell_trajectory, count), signal, couple=True)
        if each in layers:
            found[each] = _rows(layers[each], cell_trajectory, back.currents, count)
        signal = back.inputs
    return found


def _together(
    place: Place, layers: Mapping[Place, Layer], trajectory: Trajectory, seeds: Any, count: int
) -> dict[Place, tf.Tensor]:
    """`output_rows` of a network whose readouts feed back, so that all cells are on the way."""
    network, given = place.node.module, trajectory.given
    every = Trajectory(
        tuple(_repeated(each, count) for each in trajectory.cells),
        {name: _repeated(each, count) for name, each in trajectory.readouts.items()},
        None if given is None else tf.concat([given] * count, axis=1),
    )
    zeros = {name: tf.zeros_like(each.outputs) for name, each in every.readouts.items()}
    cells: list[Any] = [None] * len(network.cells)
    if isinstance(place.key, str):
        zeros[place.key] = seeds
    else:
        cells[place.key] = seeds
    backs = network.reverse_all(every, OutputGradients(cells, [None] * len(cells), zeros))
    whole = {place.node.name: trajectory}
    return {
        each: _rows(layers[each], each.trajectory(whole), back.currents, count)
        for each, back in zip(places(place.node), backs, strict=True)
        if each in layers
    }


def _reverse(
    cell: Cell, trajectory: CellTrajectory, doutputs: tf.Tensor, couple: bool
) -> unroll.Reverse:
    return unroll.reverse(cell, trajectory, doutputs, couple=couple)


def _for_every_example(seeds: tf.Tensor, size: int) -> tf.Tensor:
    """`[T, S, N]` to `[T, S B, N]`."""
    return tf.repeat(seeds, size, axis=1)


def _repeated(trajectory: CellTrajectory, count: int) -> CellTrajectory:
    """A trajectory whose batch stands there `count` times."""
    along = lambda axis: lambda x: tf.concat([x] * count, axis=axis)  # noqa: E731
    over = {name: 1 for name in ("inputs", "history", "currents", "outputs", "previous_outputs")}
    over |= {"initial": 0, "final": 0}
    changed = {
        name: tf.nest.map_structure(along(axis), getattr(trajectory, name))
        for name, axis in over.items()
        if getattr(trajectory, name) is not None
    }
    return trajectory._replace(**changed)


def _rows(layer: Layer, trajectory: CellTrajectory, dcurrents: tf.Tensor, count: int) -> tf.Tensor:
    """`[S B, M, N]` of gradients to the currents, `[T, S B, N]`."""
    arriving = layer.arriving(trajectory)
    steps, size, _ = arriving.shape
    dcurrents = tf.reshape(dcurrents, [steps, count, size, layer.units])
    products = layer.products(arriving, dcurrents)
    return tf.reshape(products, [count * size, layer.synapses, layer.units])
