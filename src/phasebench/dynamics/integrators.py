"""Symplectic integrators as tables of kicks and drifts.

    kick(h):  p += h F(q)        drift(h):  q += h c p

for H = sum_i c_i p_i^2 / 2 + V(q), F = -dV/dq. Both are shears of phase space: symplectic, and
undone by their own inverse, whatever F is. A step of size dt is the row of its table with every
coefficient times dt. Consecutive shears of one kind are merged over step boundaries, so that
leapfrog needs one force evaluation a step and one more at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Kind = Literal["kick", "drift"]
State = tuple[Tensor, Tensor]  # (q, p), or integers (Q, P)
Vector = Float[Tensor, "... D"]  # of a token, D numbers
Scalar = Float[Tensor, "..."]  # of a token, one number
Point = tuple[Vector, Vector]  # of phase space


@dataclass(frozen=True)
class Shear:
    """One kick or drift by h, in units of time."""

    kind: Kind
    h: float


def _alternate(kicks: tuple[float, ...], drifts: tuple[float, ...]) -> tuple[Shear, ...]:
    """kick, drift, kick, ...; or drift, kick, drift, ..., if there are more drifts."""
    rows = [Shear("kick", h) for h in kicks], [Shear("drift", h) for h in drifts]
    longer, shorter = sorted(rows, key=len, reverse=True)
    pairs = itertools.zip_longest(longer, shorter)
    return tuple(shear for pair in pairs for shear in pair if shear)


def _mirror(half: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Return the palindrome of `count` coefficients with that first half, whose sum is one."""
    missing = count - 2 * len(half)  # 1 or 2 middle coefficients
    middle = ((1 - 2 * sum(half)) / missing,) * missing
    return (*half, *middle, *reversed(half))


_MCLACHLAN = 0.1931833275037836
_YOSHIDA = 1 / (2 - 2 ** (1 / 3))
_YOSHIDA6 = (0.784513610477560, 0.235573213359357, -1.17767998417887)
_SUZUKI = 1 / (4 - 4 ** (1 / 3))


def _leapfrogs(*sizes: float) -> tuple[Shear, ...]:
    """Leapfrog steps of those sizes one after the other; `Schedule` merges neighbouring kicks."""
    return tuple(
        s for h in sizes for s in (Shear("kick", h / 2), Shear("drift", h), Shear("kick", h / 2))
    )


INTEGRATORS: dict[str, tuple[Shear, ...]] = {
    # Stoermer-Verlet: Hairer, Lubich & Wanner, "Geometric Numerical Integration" (2006), section
    # I.3.1
    "leapfrog": _leapfrogs(1.0),
    # the same with the drifts outside: one force evaluation a step, none shared with the next
    "leapfrog_dkd": _alternate((1.0,), (1 / 2, 1 / 2)),
    # McLachlan, SIAM J. Sci. Comput. 16 (1995) 151: order 2 with the least error of two force
    # evaluations a step
    "mclachlan2": _alternate((1 / 2, 1 / 2), (_MCLACHLAN, 1 - 2 * _MCLACHLAN, _MCLACHLAN)),
    # Yoshida, Phys. Lett. A 150 (1990) 262: three leapfrogs, order 4
    "yoshida4": _leapfrogs(_YOSHIDA, 1 - 2 * _YOSHIDA, _YOSHIDA),
    # the same, table 1, solution A: seven leapfrogs, order 6
    "yoshida6": _leapfrogs(*_YOSHIDA6, 1 - 2 * sum(_YOSHIDA6), *reversed(_YOSHIDA6)),
    # Suzuki, Phys. Lett. A 146 (1990) 319: five leapfrogs, order 4
    "suzuki4": _leapfrogs(_SUZUKI, _SUZUKI, 1 - 4 * _SUZUKI, _SUZUKI, _SUZUKI),
    # Omelyan, Mryglod & Folk, Comput. Phys. Commun. 146 (2002) 188, PEFRL: order 4 with four force
    # evaluations a step, none shared with the next
    "omelyan4": _alternate(
        _mirror((0.7123418310626054,), 4),
        _mirror((0.1786178958448091, -0.06626458266981849), 5),
    ),
    # Blanes & Moan, J. Comput. Appl. Math. 142 (2002) 313, SRKN_6^b, order 4: for H = |p|^2 / 2 +
    # V(q)
    "blanes_moan4": _alternate(
        _mirror((0.0829844064174052, 0.396309801498368, -0.0390563049223486), 7),
        _mirror((0.245298957184271, 0.604872665711080), 6),
    ),
    # the same, SRKN_11^b, order 6
    "blanes_moan6": _alternate(
        _mirror(
            (
                0.0414649985182624,
                0.198128671918067,
                -0.0400061921041533,
                0.0752539843015807,
                -0.0115113874206879,
            ),
            12,
        ),
        _mirror(
            (
                0.123229775946271,
                0.290553797799558,
                -0.127049212625417,
                -0.246331761062075,
                0.357208872795928,
            ),
            11,
        ),
    ),
}


@dataclass(frozen=True)
class Schedule:
    """`steps` steps of size dt of an integrator.

    Examples:
        >>> [f"{s.kind} {s.h}" for s in Schedule("leapfrog", 0.5, 2).shears]
        ['kick 0.25', 'drift 0.5', 'kick 0.5', 'drift 0.5', 'kick 0.25']
    """

    integrator: str
    dt: float
    steps: int

    @cached_property
    def shears(self) -> tuple[Shear, ...]:
        """The kicks and drifts, neighbours of one kind merged."""
        merged: list[Shear] = []
        for shear in INTEGRATORS[self.integrator] * self.steps:
            if merged and merged[-1].kind == shear.kind:
                merged[-1] = Shear(shear.kind, merged[-1].h + shear.h * self.dt)
            else:
                merged.append(Shear(shear.kind, shear.h * self.dt))
        return tuple(merged)

    @property
    def reach(self) -> float:
        """Return how far from the start, forwards or backwards in time, the drifts ever are."""
        drifts = (shear.h for shear in self.shears if shear.kind == "drift")
        return max(map(abs, itertools.accumulate(drifts)))


@runtime_checkable
class Field(Protocol):
    """A separable Hamiltonian's derivatives, in the shape and precision of their arguments."""

    def force(self, q: Tensor, /) -> Tensor:
        """F(q) = -dV/dq."""
        ...

    def velocity(self, p: Tensor, /) -> Tensor:
        """dH/dp, linear in p."""
        ...


def integrate(q: Vector, p: Vector, field: Field, shears: Sequence[Shear]) -> Point:
    """Apply the shears one after the other."""
    for shear in shears:
        if shear.kind == "kick":
            p = p + shear.h * field.force(q)
        else:
            q = q + shear.h * field.velocity(p)
    return q, p


def integrate_compensated(
    q: Vector,
    p: Vector,
    q_lost: Vector,
    p_lost: Vector,
    field: Field,
    shears: Sequence[Shear],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Apply the shears, and carry what rounding a sum loses to the next one; 0 at the start.

    Far from where V varies, a kick is smaller than half of p's last bit: plain sums leave it out,
    and energy drifts. Kahan, Commun. ACM 8 (1965) 40; Hairer, Lubich & Wanner (2006), VIII.5.
    """
    for shear in shears:
        if shear.kind == "kick":
            p, p_lost = _add(p, p_lost + shear.h * field.force(q))
        else:
            q, q_lost = _add(q, q_lost + shear.h * field.velocity(p))
    return q, p, q_lost, p_lost


def _add(x: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rounded x + change, and what rounding took from it."""
    total = x + change
    return total, change - (total - x)


def euler(q: Tensor, p: Tensor, field: Field, h: float) -> State:
    """Do one step of explicit Euler, order 1: not symplectic, its energy grows without end."""
    return q + h * field.velocity(p), p + h * field.force(q)


def rk4(q: Tensor, p: Tensor, field: Field, h: float) -> State:
    """Do one step of the classical Runge-Kutta method (Kutta 1901), order 4.

    Not symplectic: its energy drifts slowly.
    """
    F1 = field.force(q)
    q2, p2 = q + h / 2 * field.velocity(p), p + h / 2 * F1
    F2 = field.force(q2)
    q3, p3 = q + h / 2 * field.velocity(p2), p + h / 2 * F2
    F3 = field.force(q3)
    q4, p4 = q + h * field.velocity(p3), p + h * F3
    F4 = field.force(q4)
    mean = (p + 2 * p2 + 2 * p3 + p4) / 6
    return q + h * field.velocity(mean), p + h / 6 * (F1 + 2 * F2 + 2 * F3 + F4)


# for contrast in the energy benchmark only: no shears, so none of the adjoints can undo them
CONTRAST = {"euler": euler, "rk4": rk4}
_CONTRAST_FORCES = {"euler": 1, "rk4": 4}


def force_evaluations(integrator: str, steps: int) -> int:
    """Number of force evaluations of that many steps: of a table, its kicks after merging."""
    if integrator in CONTRAST:
        return _CONTRAST_FORCES[integrator] * steps
    return sum(shear.kind == "kick" for shear in Schedule(integrator, 1.0, steps).shears)
