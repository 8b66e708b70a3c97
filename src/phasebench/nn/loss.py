"""Cross-entropy of a linear head without ever holding all its logits.

Legend: z states (N, D); W head (V, D); y = W z logits; L = sum_n -ln softmax(y_n)[target_n], in nats;
dL/dy = softmax(y) - onehot(target).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

IGNORED = -100  # a target that is not scored


def linear_cross_entropy(
    z: Float[Tensor, "N D"], W: Float[Tensor, "V D"], targets: Int[Tensor, " N"], chunk: int
) -> Float[Tensor, ""]:
    """L, over the scored targets: those of -100 are not.

    At most chunk x V logits exist at one time; the backward pass computes them again, and adds to one dL/dW in place.
    (torch 2.13 has such a loss, 2.11 has not; `torch.utils.checkpoint` around a chunk holds three dL/dW.)
    Products are in the precision of autocast, L and dL/dy in float32 or better.
    """
    kind = z.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else z.dtype
    return _LinearCrossEntropy.apply(z, W, targets, chunk, dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, W: Tensor, targets: Tensor, chunk: int, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(z, W, targets)
        ctx.plain = chunk, dtype
        with torch.autocast(z.device.type, enabled=False):
            head = _head(W, dtype)
            parts = zip(z.split(chunk), targets.split(chunk), strict=True)
            losses = [
                F.cross_entropy(_logits(x, head, len(W)), t, ignore_index=IGNORED, reduction="sum") for x, t in parts
            ]
        return torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        (z, W, targets), (chunk, dtype) = ctx.saved_tensors, ctx.plain
        dW, dz = torch.zeros_like(W), torch.empty_like(z)
        with torch.autocast(z.device.type, enabled=False):
            head = _head(W, dtype)
            for start in range(0, z.shape[0], chunk):
                x, t = z[start : start + chunk], targets[start : start + chunk]
                dy = _logit_gradient(_logits(x, head, len(W)), t).mul_(upstream)
                dy = _widened(dy.to(dtype), len(head))
                dz[start : start + chunk] = dy @ head
                _add_product(dW, dy, x.to(dtype))
        return dz, dW, None, None, None


def _head(W: Tensor, dtype: torch.dtype) -> Tensor:
    """W in dtype; where that is a copy anyway, with rows of zeros up to a multiple of 64, as fast kernels need."""
    if W.dtype == dtype:
        return W
    return F.pad(W.to(dtype), (0, 0, 0, -len(W) % 64))


def _widened(x: Tensor, width: int) -> Tensor:
    return F.pad(x, (0, width - x.shape[1])) if x.shape[1] < width else x


def _logits(z: Tensor, head: Tensor, vocab: int) -> Tensor:
    y = F.linear(z.to(head.dtype), head)[:, :vocab]
    return y.to(torch.promote_types(y.dtype, torch.float32))


def _logit_gradient(y: Tensor, targets: Tensor) -> Tensor:
    scored = targets != IGNORED
    rows = torch.arange(len(targets), device=y.device)
    gradient = torch.softmax(y, -1)
    gradient[rows, targets.clamp(min=0)] -= 1
    return gradient.mul_(scored[:, None])


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left^T right, of whose rows only as many are used as total has."""
    if left.dtype == total.dtype:
        total.addmm_(left[:, : len(total)].T, right)
    else:
        total += (left.T @ right)[: len(total)]
