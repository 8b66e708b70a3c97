"""Cross-entropy of a linear head without ever holding all its logits.

Legend: z states (N, D); W head (V, D); y = W z logits; c_n = ln sum_v e^{y_nv}; L = sum_n c_n -
y_n[target_n], in nats; dL/dy = e^{y - c} - onehot(target). Of a chunk of logits y (n, width), in
the precision of the products, the first V columns are words and the others padding; its targets t,
c and weights w are columns (n, 1), and targets are words, all of them. On a GPU each pass over y is
one kernel.

With a margin eps (`Objective`) the target's logit is y_t - mu, mu = eps |e_t| |z|, where the length
of the row e_t is a constant. With p = e^{y_t - c}

    c' = c + ln(1 - p (1 - e^{-mu})),   L' = c' - y_t + mu
    dL'/dy = softmax(y') - onehot(t),   dL'/dmu = 1 - e^{-L'},   dmu/dz = eps |e_t| z / |z|

With label smoothing a it is (1 - a) y_t + a mean_v y_v, so dL/dy = softmax(y) - (1 - a) onehot(t) -
a / V.
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
from phasebench.models.objective import PLAIN, Objective
from phasebench.models.tied_table import Deferred

BLOCK = 4096  # logits at a time


def linear_cross_entropy(
    z: Float[Tensor, "N D"],
    W: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    chunk: int,
    deferred: Deferred | None = None,
    objective: Objective = PLAIN,
) -> Float[Tensor, ""]:
    """L, over the scored targets: those of -100 are not, nor those that the objective leaves out.

    At most chunk x V logits exist at one time; the backward pass computes them again, and adds to
    one dL/dW in place. With `deferred`, dL/dW is left to it: so that it need not live through the
    backward pass of the whole model, the logits are then computed a third time, which is a fifth of
    the head's arithmetic more. (torch 2.13 has such a loss, 2.11 has not; `torch.utils.checkpoint`
    around a chunk holds three dL/dW.) Products are in the precision of autocast, L and dL/dy in
    float32 or better. The backward pass takes the rows of scored targets alone.
    """
    dtype = autocast_dtype(z.device) or z.dtype
    return _LinearCrossEntropy.apply(z, W, targets, chunk, dtype, deferred, objective)


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
        objective: Objective,
    ) -> Tensor:
        known = targets.clamp(min=0)[:, None]
        c, at_target = z.new_empty(2, len(z), 1, dtype=torch.promote_types(dtype, torch.float32))
        mean = torch.empty_like(c) if objective.reads_mean else None
        with torch.autocast(z.device.type, enabled=False):
            head = _head(W, dtype)
            for part in _chunks(z, chunk):
                own = None if mean is None else mean[part]
                c[part], at_target[part] = normalizers(
                    F.linear(z[part].to(dtype), head), known[part], len(W), own
                )
        chosen, reach = objective.choose(targets, c, at_target, mean), None  # reach: eps |e_t|
        if objective.margin:
            reach = objective.margin * torch.linalg.vector_norm(W, dim=1)[known]
            mu = reach * torch.linalg.vector_norm(z, dim=1, keepdim=True)
            c = c + torch.log1p((at_target - c).exp() * torch.expm1(-mu))
            at_target = at_target - mu
        if objective.smoothing:
            average = (z * W.mean(0)).sum(1, keepdim=True).to(c.dtype)  # of a token's logits
            at_target = torch.lerp(at_target, average, objective.smoothing)
        losses = torch.where((targets != IGNORED)[:, None], c - at_target, 0.0)
        ctx.save_for_backward(z, W, targets, c, chosen, reach, None if reach is None else losses)
        ctx.plain = chunk, dtype, deferred, objective.smoothing
        return losses.sum() if chosen is None else losses[chosen].sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        z, W, targets, c, chosen, reach, losses = ctx.saved_tensors
        chunk, dtype, deferred, smoothing = ctx.plain
        parts = _chunks(z, chunk) if chosen is None else chosen.split(chunk)
        products = torch.get_float32_matmul_precision()

        def add(dz: Tensor | None, dW: Tensor | None) -> None:
            """Fill in dL/dz and add dL/dW, of those given, with one chunk of logits at a time."""
            weights = torch.where(targets != IGNORED, upstream, 0.0)[:, None]
            known = targets.clamp(min=0)[:, None]
            dmu = None if reach is None else weights * -torch.expm1(-losses)
            with float32_products(products), torch.autocast(z.device.type, enabled=False):
                head = _head(W, dtype)
                for part in parts:
                    y, t = F.linear(z[part].to(dtype), head), known[part]
                    dy = gradients(y, t, c[part], weights[part], len(W))
                    del y
                    if dmu is not None:
                        dy.scatter_(1, t, -dmu[part].to(dy.dtype))
                    if smoothing:
                        moved = smoothing * weights[part]
                        dy.scatter_add_(1, t, moved.to(dy.dtype))
                        dy[:, : len(W)] -= moved / len(W)
                    if dz is not None:
                        dz[part] = dy @ head
                        if reach is not None and dmu is not None:
                            dz[part] += dmu[part] * reach[part] * F.normalize(z[part], dim=1)
                    if dW is not None:
                        _add_product(dW, dy, z[part].to(dtype))
                    del dy

        dz = torch.empty_like(z) if chosen is None else torch.zeros_like(z)
        dW = None if deferred else torch.zeros_like(W)
        add(dz, dW)
        if deferred:
            deferred.parts.append(lambda dW: add(None, dW))
        return dz, dW, None, None, None, None, None


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
    y: Float[Tensor, "n width"],
    t: Int[Tensor, "n 1"],
    V: int,
    mean: Float[Tensor, "n 1"] | None = None,
) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """Return c and y_t, and fill in the mean sum_v e^{y_v - c} y_v, if given. Uses y up."""
    if _fused(y):
        c, at_target = (y.new_empty(len(y), 1, dtype=torch.float32) for _ in range(2))
        results = c, at_target, c if mean is None else mean
        averaged = mean is not None
        _launch("normalizers", (len(y),), y, t, *results, V, y.stride(0), AVERAGED=averaged)
        return c, at_target
    y = _accurate(y, V)
    at_target, largest = y.gather(1, t), y.amax(-1, keepdim=True)
    total = y.sub_(largest).exp_().sum(-1, keepdim=True)
    if mean is not None:  # y is e^(y - largest) by now
        mean.copy_(largest - torch.special.entr(y).sum(-1, keepdim=True) / total)
    return total.log_().add_(largest), at_target


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


def _launch(name: str, grid: tuple[int, ...], y: Tensor, *args: Any, **constants: Any) -> None:
    with torch.cuda.device_of(y):  # which Triton takes to be the current one
        launch(
            "phasebench.models.cross_entropy_kernels",
            name,
            grid,
            y,
            *args,
            BLOCK=BLOCK,
            num_warps=8,
            **constants,
        )
