"""The adjoint on a lattice: the states of the forward pass, bit for bit, from its end alone.

Legend: as in `gradients` (q, p state; w, v adjoints; h shear) and `lattice` (Q, P integers).  Rounding onto
the lattice is differentiated as the identity (straight through).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from phasebench.dynamics.gradients import State, transpose_kick
from phasebench.dynamics.hamiltonian import Potential, Sigma
from phasebench.dynamics.integrators import Shear, duration, schedule
from phasebench.dynamics.lattice import (
    CORRUPTED,
    Lattice,
    LatticeCorrupted,
    checksum,
    low_bits,
    same,
    with_low_bits,
)
from phasebench.dynamics.precision import float32_products


def adjoint_exact(
    q: Tensor, p: Tensor, V: Potential, integrator: str, dt: float, steps: int
) -> State:
    """Backprop that keeps the final state only and runs the flow backwards bit for bit.

    Raises `LatticeOverflow` if a state grows beyond the lattice chosen for its start, and in the backward pass
    `LatticeCorrupted` if the reversal does not end at the start.  States of half precision are held in float32.
    """
    kind, wide = q.dtype, torch.promote_types(q.dtype, torch.float32)
    q1, p1 = _AdjointExact.apply(
        q.to(wide),
        p.to(wide),
        V.W,
        V.a,
        V.b,
        V.g,
        V.omega,
        V.sigma,
        V.dtype,
        schedule(integrator, dt, steps),
    )
    return q1.to(kind), p1.to(kind)


def advance(Q: Tensor, P: Tensor, lattice: Lattice, V: Potential, shears: list[Shear]) -> State:
    """Apply the shears to integers."""
    for shear in shears:
        if shear.kind == "kick":
            P = lattice.p.added(P, shear.h * V.force(lattice.q.decode(Q)))
        else:
            Q = lattice.q.added(Q, shear.h * lattice.p.decode(P))
    return Q, P


def retreat(Q: Tensor, P: Tensor, lattice: Lattice, V: Potential, shears: list[Shear]) -> State:
    """Undo what `advance` did, from the last shear to the first."""
    for shear in reversed(shears):
        if shear.kind == "kick":
            P = lattice.p.subtracted(P, shear.h * V.force(lattice.q.decode(Q)))
        else:
            Q = lattice.q.subtracted(Q, shear.h * lattice.p.decode(P))
    return Q, P


@torch.no_grad()
def round_trip(
    q: Tensor, p: Tensor, V: Potential, integrator: str, dt: float, steps: int
) -> tuple[Tensor, Tensor]:
    """The start on its lattice, and what the reversal of the flow brings back: (Q, P), integers of shape (2, ...)."""
    shears, V = schedule(integrator, dt, steps), V.cast(V.dtype)
    lattice = Lattice.around(q, p, duration(shears), V.omega)
    start = lattice.encode(q, p)
    return torch.stack(start), torch.stack(
        retreat(*advance(*start, lattice, V, shears), lattice, V, shears)
    )


class _AdjointExact(torch.autograd.Function):
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
        lattice = Lattice.around(q, p, duration(shears), omega)
        Q, P = lattice.encode(q, p)
        start = checksum(Q, P)
        Q, P = advance(Q, P, lattice, Potential(W, a, b, g, omega, sigma).cast(dtype), shears)
        lattice.check()
        q1, p1 = lattice.decode(Q, P)
        # the end as floats, which whatever comes next is likely to keep too, and a byte a number that they do not tell
        rests = low_bits(Q, q1, lattice.q.s), low_bits(P, p1, lattice.p.s)
        ctx.save_for_backward(q1, p1, *rests, start, W, a, b)
        ctx.plain = lattice, (g, omega, sigma), dtype, shears
        ctx.products = torch.get_float32_matmul_precision()
        return q1, p1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        with float32_products(ctx.products):  # the forward pass', or F would have other bits
            return _reversed(ctx, w, v)


def _reversed(ctx: Any, w: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:
    q1, p1, rest_q, rest_p, start, W, a, b = ctx.saved_tensors
    lattice, plain, dtype, shears = ctx.plain
    Q, P = with_low_bits(q1, rest_q, lattice.q.s), with_low_bits(p1, rest_p, lattice.p.s)
    V = Potential(W, a, b, *plain).cast(dtype)
    sums = [torch.zeros_like(x) for x in (W, a, b)]
    for shear in reversed(shears):
        if shear.kind == "kick":
            F, w = transpose_kick(lattice.q.decode(Q), w, v, V, shear.h, sums)
            P = lattice.p.subtracted(P, shear.h * F)
        else:
            Q, v = lattice.q.subtracted(Q, shear.h * lattice.p.decode(P)), v + shear.h * w
    if not same(start, checksum(Q, P)):
        raise LatticeCorrupted(CORRUPTED)
    return w, v, *sums, None, None, None, None, None
