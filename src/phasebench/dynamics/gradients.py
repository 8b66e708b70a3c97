"""Ways to differentiate the discrete flow: which states of the trajectory are kept, and which are made again.

    autograd    forces from autograd, two a step, every state kept: the way it is usually written
    backprop    forces in closed form, kicks merged, every state kept
    checkpoint  as backprop, but only the state at each step kept (torch.utils.checkpoint); checkpoint_sqrt: at sqrt(n)
    adjoint     nothing kept but the end: each shear is undone, and its exact transpose applied (legend below)
    adjoint_exact  the same on a lattice, where a shear is undone bit for bit (phasebench.dynamics.adjoint_exact)

Legend: q, p state; v, w adjoints dL/dp and dL/dq; z = W q + b; h the shear's size, k = h g.  A kick p += h F(q)
transposes, with u = W v and c = a . sigma''(z) . u, to
    w -= k W^T c + h omega^2 v,  dW -= k (c^T q + (a . sigma'(z))^T v),  da -= k sum sigma'(z) . u,  db -= k sum c
and a drift q += h p to v += h w.  The adjoint reverses in floating point: it sees states that differ from the forward
pass' by rounding, so its memory, but not its gradient, is independent of the number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from phasebench.dynamics.hamiltonian import Potential, Sigma
from phasebench.dynamics.integrators import INTEGRATORS, Shear, integrate, schedule

State = tuple[Tensor, Tensor]
Method = Callable[[Tensor, Tensor, Potential, str, float, int], State]


def backprop(q: Tensor, p: Tensor, V: Potential, integrator: str, dt: float, steps: int) -> State:
    """Full backprop through closed-form forces with merged kicks."""
    return integrate(q, p, V.cast(V.dtype), schedule(integrator, dt, steps))


def autograd(q: Tensor, p: Tensor, V: Potential, integrator: str, dt: float, steps: int) -> State:
    """Full backprop through forces that autograd derives from V, with the kicks of neighbouring steps kept apart."""
    V = V.cast(V.dtype)
    for shear in INTEGRATORS[integrator] * steps:
        if shear.kind == "kick":
            p = p + shear.h * dt * _autograd_force(q, V)
        else:
            q = q + shear.h * dt * p
    return q, p


def _autograd_force(q: Tensor, V: Potential) -> Tensor:
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        at = q if q.requires_grad else q.detach().requires_grad_()
        (slope,) = torch.autograd.grad(V.value(at).sum(), at, create_graph=differentiable)
    return -slope


def checkpointed(
    q: Tensor, p: Tensor, V: Potential, integrator: str, dt: float, steps: int
) -> State:
    """Backprop that keeps one state a step and computes what is between again."""
    return _checkpointed(q, p, V, schedule(integrator, dt, steps), steps)


def checkpointed_sqrt(
    q: Tensor, p: Tensor, V: Potential, integrator: str, dt: float, steps: int
) -> State:
    """Backprop that keeps sqrt(steps) states (Chen et al. 2016, "Training deep nets with sublinear memory cost")."""
    return _checkpointed(q, p, V, schedule(integrator, dt, steps), math.isqrt(steps))


def _checkpointed(q: Tensor, p: Tensor, V: Potential, shears: list[Shear], segments: int) -> State:
    """One checkpoint a segment; what merging leaves over at the end is a short segment of its own."""
    V, size = V.cast(V.dtype), max(1, (len(shears) - 1) // segments)
    for start in range(0, len(shears), size):
        q, p = checkpoint(integrate, q, p, V, shears[start : start + size], use_reentrant=False)
    return q, p


def adjoint(q: Tensor, p: Tensor, V: Potential, integrator: str, dt: float, steps: int) -> State:
    """Backprop that keeps the final state only and runs the flow backwards."""
    return _Adjoint.apply(
        q, p, V.W, V.a, V.b, V.g, V.omega, V.sigma, V.dtype, schedule(integrator, dt, steps)
    )


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        p: Tensor,
        W: Tensor,
        a: Tensor,
        b: Tensor,
        g: float,
        omega: float,
        sigma: Sigma,
        dtype: torch.dtype | None,
        shears: list[Shear],
    ) -> State:
        q, p = integrate(q, p, Potential(W, a, b, g, omega, sigma).cast(dtype), shears)
        ctx.save_for_backward(q, p, W, a, b)
        ctx.plain = g, omega, sigma, dtype, shears
        return q, p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        q, p, W, a, b = ctx.saved_tensors
        g, omega, sigma, dtype, shears = ctx.plain
        V = Potential(W, a, b, g, omega, sigma).cast(dtype)
        sums = [torch.zeros_like(x) for x in (W, a, b)]
        for shear in reversed(shears):
            if shear.kind == "kick":
                F, w = transpose_kick(q, w, v, V, shear.h, sums)
                p = p - shear.h * F
            else:
                q, v = q - shear.h * p, v + shear.h * w
        return w, v, *sums, None, None, None, None, None


def transpose_kick(
    q: Tensor, w: Tensor, v: Tensor, V: Potential, h: float, sums: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Apply a kick's transpose to (w, v): returns F(q) and the new w, and adds dW, da, db to sums in place."""
    slope, c = V.sigma.slopes(V.z(q))
    k, kind = h * V.g, V.W.dtype
    u = (
        v.to(kind) @ V.W.T
    )  # in place from here: tensors of H numbers a token are the peak of the backward pass
    c.mul_(u).mul_(V.a)
    u.mul_(slope)
    sums[1] -= k * _column_sums(u, sums[1].dtype)
    del u
    scaled = slope.mul_(V.a)
    del slope
    F = V.pull(scaled @ V.W, q)
    w = w - k * (c @ V.W).to(w.dtype) - h * V.omega**2 * v
    rows = [x.to(kind).reshape(-1, x.shape[-1]) for x in (c, q, scaled, v)]
    sums[0] -= k * (rows[0].T @ rows[1] + rows[2].T @ rows[3])
    sums[2] -= k * _column_sums(rows[0], sums[2].dtype)
    return F, w


def _column_sums(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Over all axes but the last, in two stages: of one stage the CUDA kernel takes 64 MiB for partial sums."""
    rows = x.reshape(-1, x.shape[-1])
    whole = len(rows) - len(rows) % 64
    stages = rows[:whole].unflatten(0, (whole // 64, 64)).sum(1, dtype=dtype).sum(0)
    return stages + rows[whole:].sum(0, dtype=dtype)
