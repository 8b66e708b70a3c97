"""The adjoint on a lattice: the states of the forward pass, bit for bit, from its end alone.

Legend: as in `adjoint` (q, p state; w, v adjoints; h shear) and `lattice` (Q, P integers). Rounding
onto the lattice is differentiated as the identity (straight through).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from phasebench.dynamics.adjoint import Problem, transpose_drift, transpose_kick
from phasebench.dynamics.hamiltonian import Hamiltonian
from phasebench.dynamics.integrators import Shear, State
from phasebench.dynamics.lattice import LIMITS, Lattice, check_facts, checksum
from phasebench.dynamics.precision import float32_products


def adjoint_exact(q: Tensor, p: Tensor, problem: Problem) -> State:
    """Keep the final state only and run the flow backwards bit for bit.

    Raises `LatticeOverflow` if a state grows beyond the lattice chosen for its start, and in the
    backward pass `LatticeCorrupted` if the reversal does not end at the start.  States of half
    precision are held in float32.
    """
    given, wide = q.dtype, torch.promote_types(q.dtype, torch.float32)
    q1, p1 = _AdjointExact.apply(problem, q.to(wide), p.to(wide), *problem.H.weights)
    return q1.to(given), p1.to(given)


def lattice_of(q: Tensor, p: Tensor, problem: Problem) -> Lattice:
    """Choose the lattice on which that problem moves (q, p)."""
    return Lattice.around(q, p, problem.schedule.reach * problem.H.c.detach().amax().to(q.dtype))


def advance(
    Q: Tensor, P: Tensor, lattice: Lattice, H: Hamiltonian, shears: Sequence[Shear]
) -> State:
    """Apply the shears to integers; in reverse order and negated, they undo themselves."""
    for shear in shears:
        if shear.kind == "kick":
            P = lattice.p.added(P, shear.h * H.force(lattice.q.decode(Q)))
        else:
            Q = lattice.q.added(Q, shear.h * H.velocity(lattice.p.decode(P)))
    return Q, P


def retreat(
    Q: Tensor,
    P: Tensor,
    w: Tensor,
    v: Tensor,
    lattice: Lattice,
    H: Hamiltonian,
    shears: Sequence[Shear],
    sums: list[Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Undo `advance`, and carry the adjoints back with it: return Q, P, w, v at the start.

    Adds the gradients of H's weights to sums.
    """
    for shear in reversed(shears):
        if shear.kind == "kick":
            F, w = transpose_kick(lattice.q.decode(Q), w, v, H, shear.h, sums)
            P = lattice.p.subtracted(P, shear.h * F)
        else:
            p = lattice.p.decode(P)
            Q = lattice.q.subtracted(Q, shear.h * H.velocity(p))
            v = transpose_drift(p, w, v, H, shear.h, sums)
    return Q, P, w, v


@torch.no_grad()
def round_trip(q: Tensor, p: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    """Return the start on its lattice and what the reversal of the flow brings back.

    Both are integers (Q, P), of shape (2, ..., D).
    """
    lattice, H, shears = lattice_of(q, p, problem), problem.H.cast(), problem.schedule.shears
    start = lattice.encode(q, p)
    end = advance(*start, lattice, H, shears)
    back = advance(*end, lattice, H, [Shear(s.kind, -s.h) for s in reversed(shears)])
    return torch.stack(start), torch.stack(back)


class _AdjointExact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: Problem, q: Tensor, p: Tensor, *weights: Tensor) -> State:
        lattice = lattice_of(q, p, problem)
        Q, P = lattice.encode(q, p)
        start = checksum(Q, P)
        Q, P = advance(Q, P, lattice, problem.H.cast(weights), problem.schedule.shears)
        lattice.check()
        q1, p1 = lattice.decode(Q, P)
        # the end as floats, which whatever comes next is likely to keep too, and a byte a number
        # for what they round off
        rests = lattice.q.low_bits(Q, q1), lattice.p.low_bits(P, p1)
        ctx.save_for_backward(q1, p1, *rests, start, *weights)
        ctx.problem, ctx.lattice = problem, lattice
        ctx.products = torch.get_float32_matmul_precision()
        return q1, p1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        q1, p1, rest_q, rest_p, start, *weights = ctx.saved_tensors
        lattice, H = ctx.lattice, ctx.problem.H.cast(weights)
        Q, P = lattice.q.with_low_bits(q1, rest_q), lattice.p.with_low_bits(p1, rest_p)
        sums = [torch.zeros_like(x) for x in weights]
        with float32_products(ctx.products):  # the forward pass', or F would have other bits
            shears = ctx.problem.schedule.shears
            Q, P, w, v = retreat(Q, P, w, v, lattice, H, shears, sums)
        missed = (checksum(Q, P) != start).float()
        check_facts(torch.stack((torch.zeros_like(missed), missed)), LIMITS[Q.dtype])
        return None, w, v, *sums
