"""The adjoint of the discrete flow: each shear is undone, and its exact transpose applied.

Legend: q, p state; w = dL/dq, v = dL/dp adjoints; h the shear's size; x a weight of V; sums are
over tokens.

    kick  p += h F(q)     transposed:  w -= h V''(q) v,   dL/dx -= h sum d<v, dV/dq> / dx
    drift q += h c p      transposed:  v += h c . w,      dL/dc += h sum p . w

V'' is symmetric, so a kick's transpose costs its Hessian-vector product (`Potential.adjoint`).

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

from phasebench.dynamics.hamiltonian import Hamiltonian, column_sums
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
        q, p = integrate(q, p, problem.H.cast(weights), problem.schedule.shears)
        ctx.save_for_backward(q, p, *weights)
        ctx.problem = problem
        return q, p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        q, p, *weights = ctx.saved_tensors
        H, sums = ctx.problem.H.cast(weights), [torch.zeros_like(x) for x in weights]
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

    Adds the gradients of V's weights to sums.
    """
    F, Hv, gradients = H.potential.adjoint(q, v)
    for total, gradient in zip(sums[:-1], gradients, strict=True):  # the last is of c
        total -= h * gradient
    return F, w - h * Hv


def transpose_drift(
    p: Tensor, w: Tensor, v: Tensor, H: Hamiltonian, h: float, sums: list[Tensor]
) -> Tensor:
    """Apply a drift's transpose: return the new v. Adds dc to sums."""
    if H.c.ndim:  # learned, or of a test
        sums[-1] += h * column_sums(p * w, sums[-1].dtype)
    return v + h * H.velocity(w)
