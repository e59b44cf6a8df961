"""Local plasticity of a convolution in float64, by loops over the positions of its kernel.

Spikes are [T, B, H, W, C] and [T, B, oh, ow, F] (channels last), kernels [kh, kw, C, F]; every
receptive position adds to the entry of the kernel that it uses (Sigma_r of 2.1), before the batch
reduction. Padding is TensorFlow's.
"""

from __future__ import annotations

from math import exp

import numpy as np

from .plasticity import Array
from .plasticity_rules import Terms

Size = tuple[int, int]
Position = tuple[int, int, int, int, int, int]


def conv_positions(
    size: Size, kernel: Size, stride: Size = (1, 1), padding: str = "valid"
) -> tuple[Size, list[Position]]:
    """Output size, and (y, x, out y, out x, kernel y, kernel x) of every product that is taken."""
    if padding not in ("valid", "same"):
        raise ValueError(f"no padding {padding!r}")
    out, before = [], []
    for n, k, s in zip(size, kernel, stride, strict=True):
        if padding == "valid":
            out.append((n - k) // s + 1)
            before.append(0)
        else:
            out.append(-(-n // s))
            before.append(max((out[-1] - 1) * s + k - n, 0) // 2)
    found = []
    for oy, ox, ky, kx in np.ndindex(*out, *kernel):
        y, x = oy * stride[0] + ky - before[0], ox * stride[1] + kx - before[1]
        if 0 <= y < size[0] and 0 <= x < size[1]:
            found.append((y, x, oy, ox, ky, kx))
    return (out[0], out[1]), found


def conv_pair_stdp(
    pre: Array,
    post: Array,
    kernel: Size,
    *,
    lr_post: float,
    lr_pre: float,
    tc_post: float,
    tc_pre: float,
    dt: float = 1.0,
    stride: Size = (1, 1),
    padding: str = "valid",
) -> Terms:
    """Pair STDP with cumulative traces, pos and neg [T, B, kh, kw, C, F]."""
    steps, batch, height, width, channels = pre.shape
    filters = post.shape[-1]
    out, positions = conv_positions((height, width), kernel, stride, padding)
    if out != post.shape[2:4]:
        raise ValueError(f"output {post.shape[2:4]}, not {out}")
    pos = np.zeros((steps, batch, *kernel, channels, filters))
    neg = np.zeros(pos.shape)
    x_pre, x_post = np.zeros(pre.shape[1:]), np.zeros(post.shape[1:])
    for t in range(steps):
        x_pre = x_pre * exp(-dt / tc_pre) + abs(lr_post) * pre[t]
        x_post = x_post * exp(-dt / tc_post) + abs(lr_pre) * post[t]
        for b, c, f in np.ndindex(batch, channels, filters):
            for y, x, oy, ox, ky, kx in positions:
                dpost = post[t, b, oy, ox, f] * x_pre[b, y, x, c]
                dpre = pre[t, b, y, x, c] * x_post[b, oy, ox, f]
                (pos if lr_post >= 0 else neg)[t, b, ky, kx, c, f] += dpost
                (pos if lr_pre >= 0 else neg)[t, b, ky, kx, c, f] += dpre
    return Terms(pos, neg)


def conv_sum(
    terms: Terms,
    size: Size,
    kernel: Size,
    channels: int,
    filters: int,
    stride: Size = (1, 1),
    padding: str = "valid",
) -> Terms:
    """Any all-to-all terms [T, B, H W C, oh ow F] summed into the kernel, [T, B, kh, kw, C, F].

    Neurons are flattened in the order of their axes. Not for `linear_homeostasis`, a mean.
    """
    out, positions = conv_positions(size, kernel, stride, padding)
    sums = []
    for side in terms:
        shared = np.zeros((*side.shape[:2], *kernel, channels, filters))
        dense = side.reshape(*side.shape[:2], *size, channels, *out, filters)
        for y, x, oy, ox, ky, kx in positions:
            shared[:, :, ky, kx] += dense[:, :, y, x, :, oy, ox]
        sums.append(shared)
    return Terms(*sums)
