"""Cross-entropy of a linear head without ever holding all its logits.

Legend: z states (N, D); W head (V, D); y = W z logits; c_n = ln sum_v e^{y_nv}; L = sum_n c_n -
y_n[target_n], in nats; dL/dy = e^{y - c} - onehot(target). Of a chunk of logits y (n, width), in
the precision of the products, the first V columns are words and the others padding; its targets t,
c and weights w are columns (n, 1), and targets are words, all of them. On a GPU each pass over y is
one kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from phasebench.data.batches import IGNORED
from phasebench.dynamics.gpu.launch import launch, no_kernels, pretending
from phasebench.dynamics.precision import autocast_dtype, float32_products
from phasebench.models.tied_table import Deferred

BLOCK = 4096  # logits at a time


def linear_cross_entropy(
    z: Float[Tensor, "N D"],
    W: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    chunk: int,
    deferred: Deferred | None = None,
) -> Float[Tensor, ""]:
    """L, over the scored targets: those of -100 are not.

    At most chunk x V logits exist at one time; the backward pass computes them again, and adds to
    one dL/dW in place. With `deferred`, dL/dW is left to it: so that it need not live through the
    backward pass of the whole model, the logits are then computed a third time, which is a fifth of
    the head's arithmetic more. (torch 2.13 has such a loss, 2.11 has not; `torch.utils.checkpoint`
    around a chunk holds three dL/dW.) Products are in the precision of autocast, L and dL/dy in
    float32 or better.
    """
    dtype = autocast_dtype(z.device) or z.dtype
    return _LinearCrossEntropy.apply(z, W, targets, chunk, dtype, deferred)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        W: Tensor,
        targets: Tensor,
        chunk: int,
        dtype: torch.dtype,
        deferred: Deferred | None,
    ) -> Tensor:
        known = targets.clamp(min=0)[:, None]
        c, at_target = z.new_empty(2, len(z), 1, dtype=torch.promote_types(dtype, torch.float32))
        with torch.autocast(z.device.type, enabled=False):
            head = _head(W, dtype)
            for part in _chunks(z, chunk):
                c[part], at_target[part] = normalizers(
                    F.linear(z[part].to(dtype), head), known[part], len(W)
                )
        ctx.save_for_backward(z, W, targets, c)
        ctx.plain = chunk, dtype, deferred
        return torch.where((targets != IGNORED)[:, None], c - at_target, 0.0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        (z, W, targets, c), (chunk, dtype, deferred) = ctx.saved_tensors, ctx.plain
        products = torch.get_float32_matmul_precision()

        def add(dz: Tensor | None, dW: Tensor | None) -> None:
            """Fill in dL/dz and add dL/dW, of those given, with one chunk of logits at a time."""
            weights = torch.where(targets != IGNORED, upstream, 0.0)[:, None]
            known = targets.clamp(min=0)[:, None]
            with float32_products(products), torch.autocast(z.device.type, enabled=False):
                head = _head(W, dtype)
                for part in _chunks(z, chunk):
                    y = F.linear(z[part].to(dtype), head)
                    dy = gradients(y, known[part], c[part], weights[part], len(W))
                    del y
                    if dz is not None:
                        dz[part] = dy @ head
                    if dW is not None:
                        _add_product(dW, dy, z[part].to(dtype))
                    del dy

        dz, dW = torch.empty_like(z), None if deferred else torch.zeros_like(W)
        add(dz, dW)
        if deferred:
            deferred.parts.append(lambda dW: add(None, dW))
        return dz, dW, None, None, None, None


def _chunks(z: Tensor, chunk: int) -> list[slice]:
    """The rows of each chunk; where memory is predicted, three chunks stand for all."""
    parts = [slice(start, start + chunk) for start in range(0, len(z), chunk)]
    return [*parts[:2], parts[-1]] if pretending() and len(parts) > 3 else parts


def _head(W: Tensor, dtype: torch.dtype) -> Tensor:
    """Return W in dtype; a copy has rows of zeros up to a multiple of 64, as fast kernels need."""
    if W.dtype == dtype:
        return W
    return F.pad(W.to(dtype), (0, 0, 0, -len(W) % 64))


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left^T right, of whose rows only as many are used as total has."""
    if left.dtype == total.dtype:
        total.addmm_(left[:, : len(total)].T, right)
    else:
        total += (left.T @ right)[: len(total)]


def normalizers(
    y: Float[Tensor, "n width"], t: Int[Tensor, "n 1"], V: int
) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """Return c and y_t. Uses y up."""
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
    """Return w (e^{y - c} - onehot(t)), in y's precision; zero in the padding. Uses y up."""
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
