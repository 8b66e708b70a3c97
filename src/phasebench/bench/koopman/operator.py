"""A linear operator on observables of one flow: extended dynamic mode decomposition.

    g(x) = (1, q, p, F, dF/dt),   x = (q, p),   F = -dV/dq,   dF/dt = -V''(q) c p
    K    = argmin sum_i |g(x_i(t_i + h)) - g(x_i(t_i)) K|^2   t_i: 0, h, ... over the flow's time
    x'   = the columns of q and p in g(x(0)) K^n                  iterated; n h is the flow's time

Williams, Kevrekidis & Rowley, J. Nonlinear Sci. 25 (2015) 1307. Errors are |x' - x| / |x - x_free|
over tokens and channels, x_free = (q + t c p, p): motion without a force has the error 1. All in
float64; x by omelyan4 in steps of h.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phasebench.dynamics import HamiltonianFlow

TRUTH, RIVAL = "omelyan4", "leapfrog_dkd"  # which has one force evaluation a step
SINGULAR = 1e-12  # smallest / largest singular value of the observables, below which K has a ridge
FITTED = 4 / 5  # of the states; the others judge
FORCES = {"linear": 0, "force": 1, "force_rate": 1}  # V'' v is two products more, as a force is


@dataclass(frozen=True)
class Operator:
    """An operator of one layer: errors on states that it was not fitted to, and its spectrum.

    Attributes:
        observables: how many functions it acts on, the constant included.
        one_step: error after one step h, of what the force does in it.
        iterated: error of K^n over the flow's time.
        direct: error of a map fitted to the whole time.
        leapfrog: error of leapfrog with as many force evaluations as the observables take.
        radius: the largest modulus of an eigenvalue of K.
        above_1: eigenvalues whose modulus is above 1 by more than 1e-9.
        ridge: relative penalty on K where the observables are linearly dependent; else 0.
    """

    kinds: str
    observables: int
    force_evaluations: int
    states_per_coefficient: float
    one_step: float
    iterated: float
    direct: float
    leapfrog: float
    radius: float
    above_1: int
    ridge: float


@torch.no_grad()
def operators(
    flow: HamiltonianFlow, q: Tensor, p: Tensor, kinds: list[str], h: float
) -> list[Operator]:
    """Fit an operator with the first of the kinds of observables, the first two, and so on.

    q, p (..., D) are states that the flow starts from, h is the operator's step.
    """
    q, p = (x.double().flatten(0, -2) for x in (q, p))
    steps, fitted = round(flow.time / h), int(FITTED * len(q))
    start, before, after, end = _visited(flow, q, p, steps, h)
    at_start, at_before, at_after = (observe(flow, x, kinds) for x in (start, before, after))
    made, used = [], 0
    for n, kind in enumerate(kinds, 1):
        X0, X1, X2 = (torch.cat(x[:n], -1) for x in (at_start, at_before, at_after))
        used += FORCES[kind]
        K, ridge = least_squares(X1[:fitted], X2[:fitted])
        direct, _ = least_squares(X0[:fitted], end[:fitted])
        forces, judged = max(used, 1), (q[fitted:], p[fitted:])
        *_, leapfrog = flow.trajectory(
            *judged, steps=forces, dt=flow.time / forces, integrator=RIVAL
        )
        x, x0 = end[fitted:], start[fitted:]
        state = slice(1, 1 + x.shape[1])  # the columns of q and p among the observables
        moduli = torch.linalg.eigvals(K.cpu()).abs()
        made.append(
            Operator(
                "+".join(kinds[:n]),
                X0.shape[1],
                used,
                fitted / X0.shape[1],
                _error(flow, (X1[fitted:] @ K)[:, state], after[fitted:], before[fitted:], h),
                _error(flow, (X0[fitted:] @ K.matrix_power(steps))[:, state], x, x0, flow.time),
                _error(flow, X0[fitted:] @ direct, x, x0, flow.time),
                _error(flow, torch.cat(leapfrog, -1), x, x0, flow.time),
                moduli.max().item(),
                int((moduli > 1 + 1e-9).sum()),
                ridge,
            )
        )
    return made


def _visited(
    flow: HamiltonianFlow, q: Tensor, p: Tensor, steps: int, h: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x at the start, before and after one step of each token, and at the end.

    Tokens take turns at the steps: an operator that is iterated must hold all along the flow.
    """
    own = torch.arange(len(q), device=q.device)[:, None] % steps
    start = before = after = end = torch.cat((q, p), -1)
    for k, point in enumerate(flow.trajectory(q, p, steps=steps, dt=h, integrator=TRUTH)):
        end = torch.cat(point, -1)
        before, after = end.where(own == k, before), end.where(own == k - 1, after)
    return start, before, after, end


def observe(flow: HamiltonianFlow, x: Tensor, kinds: list[str]) -> list[Tensor]:
    """Return the observables of each kind, in the order of kinds."""
    H, (q, p) = flow.hamiltonian(torch.float64).cast(), x.chunk(2, -1)
    F, rate, _ = H.potential.adjoint(q, H.velocity(p))
    known = {
        "linear": torch.cat((torch.ones_like(q[:, :1]), x), -1),
        "force": F,
        "force_rate": -rate,
    }
    return [known[kind] for kind in kinds]


def least_squares(X: Tensor, Y: Tensor) -> tuple[Tensor, float]:
    """Return the A that minimises |X A - Y|, and the relative ridge that a singular X needed.

    The ridge is added to X^T X, in units of the square of X's largest singular value.
    """
    Q, R = torch.linalg.qr(X)
    values = torch.linalg.svdvals(R)
    ridge = 0.0
    if not values[-1] > SINGULAR * values[0]:
        ridge = SINGULAR
        weight = ridge**0.5 * values[0] * torch.eye(X.shape[1], dtype=X.dtype, device=X.device)
        Q, R = torch.linalg.qr(torch.cat((X, weight)))
        Q = Q[: len(X)]
    return torch.linalg.solve_triangular(R, Q.T @ Y, upper=True), ridge


def _error(flow: HamiltonianFlow, made: Tensor, x: Tensor, start: Tensor, t: float) -> float:
    q, p = start.chunk(2, -1)
    free = torch.cat((q + t * flow.hamiltonian().velocity(p), p), -1)
    return ((made - x).norm() / (x - free).norm()).item()
