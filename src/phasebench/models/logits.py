"""What cross-entropy needs of a chunk of logits: their log-sums, and its gradient in their place.

Legend: y logits (n, width) in the precision of the products, of whose columns the first V are words and the others
padding; t targets (n, 1), words all of them; c = ln sum_v e^{y_v} (n, 1); w weights (n, 1).  Arithmetic is in float32
or better.  Both functions use y up; columns must be contiguous.  On a GPU each is one pass over y by a kernel of
`loss_kernels`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from phasebench.dynamics.gpu.launch import launch, no_kernels

BLOCK = 4096  # logits at a time


def normalizers(
    y: Float[Tensor, "n width"], t: Int[Tensor, "n 1"], V: int
) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """c and y_t."""
    if _fused(y):
        c, at_target = (y.new_empty(len(y), 1, dtype=torch.float32) for _ in range(2))
        _launch("normalizers", (len(y),), y, t, c, at_target, V, y.stride(0))
        return c, at_target
    y = _accurate(y, V)
    at_target, largest = y.gather(1, t), y.amax(-1, keepdim=True)
    return y.sub_(largest).exp_().sum(-1, keepdim=True).log_().add_(largest), at_target


def gradients(
    y: Float[Tensor, "n width"],
    t: Int[Tensor, "n 1"],
    c: Float[Tensor, "n 1"],
    w: Float[Tensor, "n 1"],
    V: int,
) -> Float[Tensor, "n width"]:
    """w (e^{y - c} - onehot(t)), in y's precision; zero in the padding."""
    if _fused(y):
        grid = len(y), -(-y.shape[1] // BLOCK)
        _launch("gradients", grid, y, t, c, w, V, y.shape[1], y.stride(0))
        return y
    dy = _accurate(y, V).sub_(c).exp_()
    dy.scatter_(1, t, dy.gather(1, t) - 1)
    dy = dy.mul_(w).to(y.dtype)
    return F.pad(dy, (0, y.shape[1] - V)) if y.shape[1] > V else dy


def _fused(y: Tensor) -> bool:
    return y.dtype != torch.float64 and len(y) > 0 and no_kernels(y.device) is None


def _accurate(y: Tensor, V: int) -> Tensor:
    """The words' columns, in float32 or better."""
    return y[:, :V].to(torch.promote_types(y.dtype, torch.float32))


def _launch(name: str, grid: tuple[int, ...], y: Tensor, *args: Any) -> None:
    with torch.cuda.device_of(y):  # which Triton takes to be the current one
        launch(
            "phasebench.models.cross_entropy_kernels",
            name,
            grid,
            y,
            *args,
            BLOCK=BLOCK,
            num_warps=8,
        )
