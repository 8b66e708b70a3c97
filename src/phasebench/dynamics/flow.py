"""The flow of H as a layer.

Legend: q = Re z, p = Im z; H(q, p) = |p|^2 / 2 + V(q); n steps of size dt.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phasebench.dynamics.adjoint_exact import adjoint_exact as adjoint_exact_eager
from phasebench.dynamics.adjoint_exact import round_trip as round_trip_eager
from phasebench.dynamics.gpu.adjoint_exact import adjoint_exact, round_trip
from phasebench.dynamics.gradients import (
    Method,
    adjoint,
    autograd,
    backprop,
    checkpointed,
    checkpointed_sqrt,
)
from phasebench.dynamics.hamiltonian import POTENTIALS, Potential
from phasebench.dynamics.integrators import CONTRAST, integrate, schedule
from phasebench.dynamics.lattice import LatticeOverflow, settle

GRADIENTS: dict[str, Method] = {
    "adjoint": adjoint,
    "adjoint_exact": adjoint_exact,
    "adjoint_exact_eager": adjoint_exact_eager,
    "backprop": backprop,
    "autograd": autograd,
    "checkpoint": checkpointed,
    "checkpoint_sqrt": checkpointed_sqrt,
}


# of the methods that reverse the trajectory bit for bit: the start, and what comes back, as integers
ROUND_TRIPS = {"adjoint_exact": round_trip, "adjoint_exact_eager": round_trip_eager}


class _LastForce:
    """A potential whose force at the last point asked for is not computed again: a step may begin where one ended."""

    def __init__(self, V: Potential) -> None:
        self.V = V
        self.at: Tensor | None = None
        self.last = torch.empty(0)

    def force(self, q: Tensor) -> Tensor:
        """F(q)."""
        if q is not self.at:
            self.at, self.last = q, self.V.force(q)
        return self.last


class HamiltonianFlow(nn.Module):
    """(q, p) -> the state after `steps` steps of size dt, per token: nothing couples two tokens.

    A potential that coupled tokens would push backwards in time, since the force between two tokens acts on both.

    Args:
        dim: complex channels D.
        hidden: terms H of the potential.
        on_overflow: where a state leaves the lattice of `adjoint_exact`: "error" raises `LatticeOverflow`, "checkpoint"
            differentiates that flow by `checkpoint` instead, and counts it in `overflows`.
        coupling: root mean square of the force on each coordinate at initialisation, for coordinates of variance 1/2.
            The trained `a` is of order one; V is `coupling` times what it would be without.

    Example:
        >>> ode = HamiltonianFlow(4, 8, steps=10, dt=0.1)
        >>> q, p = ode(torch.zeros(2, 3, 4), torch.ones(2, 3, 4))
        >>> ode.h_func(q, p).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        steps: int,
        dt: float,
        integrator: str = "leapfrog",
        gradient: str = "adjoint",
        potential: str = "logcosh",
        omega: float = 0.0,
        coupling: float = 0.2,
        on_overflow: str = "error",
    ) -> None:
        super().__init__()
        self.steps, self.dt, self.integrator, self.gradient = steps, dt, integrator, gradient
        self.sigma, self.omega = POTENTIALS[potential], omega
        self.on_overflow, self.overflows = on_overflow, 0
        self.g = coupling * (dim / hidden) ** 0.5 / 0.6  # 0.6: rms of sigma' at initialisation
        self.W = nn.Parameter(torch.randn(hidden, dim) / dim**0.5)
        self.b = nn.Parameter(torch.randn(hidden) * 0.5)
        self.a = nn.Parameter(torch.randn(hidden))

    def potential(self, dtype: torch.dtype | None = None) -> Potential:
        """V with its products in dtype (None: that of the parameters)."""
        return Potential(self.W, self.a, self.b, self.g, self.omega, self.sigma, dtype)

    @property
    def time(self) -> float:
        """How long the flow lasts, n dt."""
        return self.steps * self.dt

    def free_map(self) -> tuple[float, float, float, float]:
        """What the flow would do to every (q, p) if a were zero: M of (M0 q + M1 p, M2 q + M3 p).

        Free motion, (1, n dt, 0, 1), or where omega > 0 the integrator's oscillation.
        """
        M0, M1, M2, M3 = 1.0, 0.0, 0.0, 1.0
        for shear in schedule(self.integrator, self.dt, self.steps):
            if shear.kind == "kick":
                h = -shear.h * self.omega**2
                M2, M3 = M2 + h * M0, M3 + h * M1
            else:
                M0, M1 = M0 + shear.h * M2, M1 + shear.h * M3
        return M0, M1, M2, M3

    def h_func(self, q: Float[Tensor, "... D"], p: Float[Tensor, "... D"]) -> Float[Tensor, ...]:
        """The energy H(q, p) of each token, in the precision of q."""
        return self.potential().cast(q.dtype).energy(q, p)

    def forward(
        self, q: Float[Tensor, "... D"], p: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... D"], Float[Tensor, "... D"]]:
        """The state after the flow; under autocast the forces, not the state, are in its precision."""
        kind = q.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        with torch.autocast(kind, enabled=False):
            plan = (self.potential(dtype), self.integrator, self.dt, self.steps)
            if self.on_overflow != "checkpoint":
                return GRADIENTS[self.gradient](q, p, *plan)
            try:
                end = GRADIENTS[self.gradient](q, p, *plan)
                settle(wait=True)
                return end
            except LatticeOverflow:
                self.overflows += 1
                return checkpointed(q, p, *plan)

    def trajectory(
        self,
        q: Float[Tensor, "... D"],
        p: Float[Tensor, "... D"],
        *,
        steps: int,
        dt: float,
        integrator: str,
    ) -> Iterator[tuple[Float[Tensor, "... D"], Float[Tensor, "... D"]]]:
        """The initial state and the state after each step, kicks not merged, so that q and p are at one time.

        Besides the tables, `euler` and `rk4` are understood.
        """
        V = _LastForce(self.potential().cast(q.dtype))
        shears = [] if integrator in CONTRAST else schedule(integrator, dt, 1)
        yield q, p
        for _ in range(steps):
            q, p = integrate(q, p, V, shears) if shears else CONTRAST[integrator](q, p, V, dt)
            yield q, p
