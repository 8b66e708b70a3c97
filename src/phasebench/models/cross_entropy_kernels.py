"""Triton kernels of the head's cross-entropy: one pass over the logits each, whatever their
precision, in float32.

Legend: as in `cross_entropy`: y logits (n, width) of which the first V columns count, c their
log-sums (n), w weights (n).

With TRITON_INTERPRET=1 they run on the CPU, for tests.
"""
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def normalizers(
    y, targets, c, at_target, mean, V, stride, BLOCK: tl.constexpr, AVERAGED: tl.constexpr
):
    """c = ln sum_v e^{y_v} and y_target of a row (Milakov & Gimelshein 2018).

    If AVERAGED, also the mean sum_v e^{y_v - c} y_v.
    """
    row = tl.program_id(0).to(tl.int64)
    y += row * stride
    largest, total, moment = float("-inf"), 0.0, 0.0
    for first in range(0, V, BLOCK):
        v = first + tl.arange(0, BLOCK)
        x = tl.load(y + v, mask=v < V, other=float("-inf")).to(tl.float32)
        top = tl.maximum(largest, tl.max(x, 0))
        total = total * tl.exp(largest - top) + tl.sum(tl.exp(x - top), 0)
        if AVERAGED:
            weighted = tl.exp(x - top) * tl.where(v < V, x, 0.0)
            moment = moment * tl.exp(largest - top) + tl.sum(weighted, 0)
        largest = top
    if AVERAGED:
        tl.store(mean + row, moment / total)
    tl.store(c + row, tl.log(total) + largest)
    tl.store(at_target + row, tl.load(y + tl.load(targets + row)).to(tl.float32))


@triton.jit
def gradients(y, targets, c, w, V, width, stride, BLOCK: tl.constexpr):
    """y = w (e^{y - c} - onehot(target)), in its place; zero from column V on."""
    row = tl.program_id(0).to(tl.int64)
    y += row * stride
    v = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(y + v, mask=v < V, other=float("-inf")).to(tl.float32)
    dy = tl.exp(x - tl.load(c + row)) - tl.where(v == tl.load(targets + row), 1.0, 0.0)
    tl.store(
        y + v, tl.where(v < V, dy * tl.load(w + row), 0.0).to(y.dtype.element_ty), mask=v < width
    )
