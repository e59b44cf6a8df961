"""Whole steps as a TPU would get them, and what of them a TPU could not run.

`traced` and `lowered` look at a step before and after XLA's front end has seen it.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

# Operations that run on the host, or that write or print.
HOST = re.compile(
    r"PyFunc|Print|Summary|Assert|CheckNumerics|^(En|De)code|String|Save|Restore|File"
)
# Of unknown size until they run.
SIZELESS = {"Where", "Unique", "UniqueV2", "UniqueWithCounts", "NonMaxSuppressionV3", "ListDiff"}

DYNAMIC = ("set-dimension-size", "get-dimension-size", "dynamic-reshape")
TRANSFERS = ("infeed", "outfeed", "send", "recv", "send-done", "recv-done")
# What is known to have failed on TPUs in 64 bits, which they emulate by pairs of 32:
# all-reduce (pytorch/xla#1952, openxla/xla#26995), bitcast-convert (jax-ml/jax#21108), sort
# (pytorch/xla#2627), map (JuliaGPU/XLA.jl#7); other products, exchanges and solvers for safety.
NARROW = re.compile(
    r"all-|collective|reduce-scatter|bitcast-convert|^sort|^map|^dot|convolution|cholesky"
    r"|triangular-solve|custom-call|rng|fft|topk"
)
# Targets of custom calls that a TPU's compiler has its own code for.
CUSTOM_CALLS: frozenset[str] = frozenset()

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?\S+ = (\(.*?\)|\S+) ([a-z][a-z0-9-]*)\((.*)$")


def functions_of(graph: Any) -> Iterator[tuple[str, Any]]:
    """A traced graph and every function that it calls, with their names."""
    waiting, seen = [("step", graph)], set()
    while waiting:
        name, current = waiting.pop()
        yield name, current
        for key, function in current._functions.items():
            if key not in seen:
                seen.add(key)
                waiting.append((key, function.graph))


def traced_faults(graph: Any) -> list[str]:
    """What in a traced step is not for a device: shapes that are not known, things for the host."""
    found = []
    for name, function in functions_of(graph):
        for op in function.get_operations():
            where = f"{op.type} {op.name} in {name}"
            if HOST.search(op.type) or op.type in SIZELESS:
                found.append(where)
            found += [
                f"{where}: {x.dtype.name} {x.shape}"
                for x in op.outputs
                if x.dtype == tf.string or not (x.shape.is_fully_defined() or _unused(x))
            ]
    return found


def _unused(x: Any) -> bool:
    """Whether it is a loop's value that its condition is given and does not look at."""
    return x.op.type == "Placeholder" and not x.consumers()


def instructions(hlo: str) -> Iterator[tuple[str, str, str]]:
    """Operation, shape and the rest of every instruction of a program."""
    for line in hlo.splitlines():
        if match := _INSTRUCTION.match(line):
            yield match[2], match[1], match[3]


def lowered_faults(hlo: str) -> list[str]:
    """What in a program has no static shape, talks to the host, or needs 64 bits in earnest."""
    found = []
    for operation, shape, rest in instructions(hlo):
        what = f"{operation}({rest}"[:200]
        target = re.search(r'custom_call_target="([^"]*)"', rest)
        if "<=" in shape or operation in DYNAMIC:
            found.append(f"dynamic shape: {shape} {what}")
        if operation in TRANSFERS or "is_host_transfer=true" in rest:
            found.append(f"transfer: {what}")
        if target and target[1] not in CUSTOM_CALLS:
            found.append(f"custom call: {what}")
        if NARROW.search(operation) and re.search(r"\b[fsuc](64|128)\[", shape + rest):
            found.append(f"64 bits: {shape} {what}")
    return found


def lowered(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """A function as one program: the traced graph, and the HLO before any device is known."""
    whole = tf.function(function, jit_compile=True, autograph=False)
    graph = whole.get_concrete_function(*arguments).graph
    return graph, whole.experimental_get_compiler_ir(*arguments)(stage="hlo")
