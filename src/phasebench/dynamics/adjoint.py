"""The adjoint of the discrete flow: each shear is undone, and its exact transpose applied.

Legend: q, p state; w = dL/dq, v = dL/dp adjoints; h the shear's size; n, r, z, u, x, y, J as in
`hamiltonian`; sums are over tokens.

    kick  p += h F(q)     transposed:  w -= h V''(q) v
                          dW -= h (C^T n + S^T y),   da -= h sum sigma'(z) . U,   db -= h sum C
                          with U = W y,  S = a . sigma'(z),  C = a . sigma''(z) . U
    drift q += h c p      transposed:  v += h c . w,   dc += h sum p . w

V'' is symmetric, so a kick's transpose costs its Hessian-vector product, with u = W^T S and
x = W^T C.

The reversal here is in floating point: it sees states that differ from the forward pass' by
rounding.  Its memory is independent of the number of steps, its gradient is not.  `adjoint_exact`
reverses bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from phasebench.dynamics.hamiltonian import Hamiltonian, curvature, pull
from phasebench.dynamics.integrators import Schedule, State, integrate
from phasebench.dynamics.lattice import Watch


@dataclass(frozen=True)
class Problem:
    """What is integrated: H and its precision, the shears, and who watches a GPU's lattice."""

    H: Hamiltonian
    schedule: Schedule
    watch: Watch = field(default_factory=Watch)


Method = Callable[[Tensor, Tensor, Problem], State]


def adjoint(q: Tensor, p: Tensor, problem: Problem) -> State:
    """Keep the final state only and run the flow backwards."""
    return _Adjoint.apply(problem, q, p, *problem.H.weights)


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: Problem, q: Tensor, p: Tensor, *weights: Tensor) -> State:
        q, p = integrate(q, p, problem.H.of(*weights).cast(), problem.schedule.shears)
        ctx.save_for_backward(q, p, *weights)
        ctx.problem = problem
        return q, p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        q, p, *weights = ctx.saved_tensors
        H, sums = ctx.problem.H.of(*weights).cast(), [torch.zeros_like(x) for x in weights]
        for shear in reversed(ctx.problem.schedule.shears):
            if shear.kind == "kick":
                F, w = transpose_kick(q, w, v, H, shear.h, sums)
                p = p - shear.h * F
            else:
                q = q - shear.h * H.velocity(p)
                v = transpose_drift(p, w, v, H, shear.h, sums)
        return None, w, v, *sums


def transpose_kick(
    q: Tensor, w: Tensor, v: Tensor, H: Hamiltonian, h: float, sums: list[Tensor]
) -> State:
    """Apply a kick's transpose: return F(q), with the bits of `H.force`, and the new w.

    Adds dW, da, db to sums.
    """
    n, r = H.normalised(q)
    y, kind = pull(v, n, r), H.W.dtype
    slope, C = H.sigma.slopes(H.z(n))
    # in place from here: tensors of H numbers a token are the peak of the backward pass
    U = y.to(kind) @ H.W.T
    C.mul_(U).mul_(H.a)
    U.mul_(slope)
    sums[1] -= h * _column_sums(U, sums[1].dtype)
    del U
    S = slope.mul_(H.a)
    u, x = ((rows @ H.W).to(q.dtype) for rows in (S, C))
    w = w - h * curvature(x, u, v, n, r)
    flat = [t.to(kind).reshape(-1, t.shape[-1]) for t in (C, n, S, y)]
    sums[0] -= h * (flat[0].T @ flat[1] + flat[2].T @ flat[3])
    sums[2] -= h * _column_sums(C, sums[2].dtype)
    return -pull(u, n, r), w


def transpose_drift(
    p: Tensor, w: Tensor, v: Tensor, H: Hamiltonian, h: float, sums: list[Tensor]
) -> Tensor:
    """Apply a drift's transpose: return the new v. Adds dc to sums."""
    sums[3] += h * _column_sums(p * w, sums[3].dtype)
    return v + h * H.velocity(w)


def _column_sums(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum over all axes but the last, in two stages.

    In one stage the CUDA kernel would take 64 MiB for partial sums.
    """
    rows = x.reshape(-1, x.shape[-1])
    whole = len(rows) - len(rows) % 64
    stages = rows[:whole].unflatten(0, (whole // 64, 64)).sum(1, dtype=dtype).sum(0)
    return stages + rows[whole:].sum(0, dtype=dtype)
