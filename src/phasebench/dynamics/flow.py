"""The flow of H as a layer.

Legend: q, p state; H(q, p) = sum c p^2 / 2 + V(q) (`hamiltonian`); n steps of size dt.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from phasebench.config import ConfigError
from phasebench.dynamics.adjoint import Problem
from phasebench.dynamics.gpu.launch import capturing, recorded
from phasebench.dynamics.gradients import GRADIENTS, checkpointed
from phasebench.dynamics.hamiltonian import Hamiltonian, Potential, probe
from phasebench.dynamics.integrators import (
    CONTRAST,
    INTEGRATORS,
    Point,
    Scalar,
    Schedule,
    Vector,
    integrate,
    integrate_compensated,
)
from phasebench.dynamics.lattice import LatticeOverflow, Watch
from phasebench.dynamics.perceptron import PerceptronPotential
from phasebench.dynamics.precision import autocast_dtype

RECORDED = 1000  # steps from which a trajectory's step is recorded: launches take most of its time


class HamiltonianFlow(nn.Module):
    """(q, p) -> the state after `steps` steps of size dt, per token: nothing couples two tokens.

    Args:
        potential: V(q): one's own `AutogradPotential`, or a `Potential` in closed form.
        steps: number of steps.
        dt: their size, in the units of H's time.
        dim: channels D, whose masses are then learned (c = exp(log_c), at first 1); None: c = 1.
        integrator: how kicks and drifts compose a step, a key of `INTEGRATORS`.
        gradient: how the backward pass gets the states of the trajectory, a key of `GRADIENTS`.
        on_overflow: where a state leaves the lattice of `adjoint_exact`: "error" raises
            `LatticeOverflow`, "checkpoint" differentiates that flow by `checkpoint` instead,
            and counts it in `overflows`.

    Raises `ConfigError` for other values and, at the first call, for a V that is not as `probe`
    wants it. An exact adjoint raises `LatticeOverflow`, and in the backward pass
    `LatticeCorrupted` where weights have changed since the forward pass.

    Attributes:
        run_as: "flow", or a stand-in that tells whether a model uses it: "first_order" or "free".

    Examples:
        >>> ode = HamiltonianFlow(PerceptronPotential.random(4, 8), steps=10, dt=0.1)
        >>> q, p = ode(torch.zeros(2, 3, 4), torch.ones(2, 3, 4))
        >>> ode.h_func(q, p).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        potential: Potential,
        *,
        steps: int,
        dt: float,
        dim: int | None = None,
        integrator: str = "blanes_moan4",
        gradient: str = "adjoint_exact",
        on_overflow: str = "error",
    ) -> None:
        super().__init__()
        for key, name, known in (
            ("integrator", integrator, INTEGRATORS),
            ("gradient", gradient, GRADIENTS),
        ):
            if name not in known:
                raise ConfigError(key, name, f"unknown; choices: {', '.join(known)}")
        if steps < 1:
            raise ConfigError("steps", steps, "out of range", "at least 1")
        self.steps, self.dt, self.integrator, self.gradient = steps, dt, integrator, gradient
        self.on_overflow, self.overflows, self.run_as = on_overflow, 0, "flow"
        self.watch = Watch()
        self.potential = potential
        # a list, so that it follows the potential's parameters: norms of gradients add in this
        # order
        self.log_c = nn.ParameterList([torch.zeros(dim)] if dim else [])

    @property
    def c(self) -> Tensor:
        """Return the inverse masses of the channels; one number, 1, where they are not learned."""
        return self.log_c[0].exp() if len(self.log_c) else torch.ones(())

    def hamiltonian(self, dtype: torch.dtype | None = None) -> Hamiltonian:
        """Return H with the products of V in dtype (None: that of the weights)."""
        return Hamiltonian(self.potential, self.c, dtype)

    def problem(self, dtype: torch.dtype | None = None) -> Problem:
        """Return what `forward` integrates, with forces in dtype."""
        schedule = Schedule(self.integrator, self.dt, self.steps)
        return Problem(self.hamiltonian(dtype), schedule, self.watch)

    @property
    def time(self) -> float:
        """Return how long the flow lasts, n dt."""
        return self.steps * self.dt

    def h_func(self, q: Vector, p: Vector) -> Scalar:
        """Return the energy H(q, p) of each token, in the precision of q."""
        return self.hamiltonian(q.dtype).cast().energy(q, p)

    def check(self) -> None:
        """Raise `LatticeOverflow` or `LatticeCorrupted` if a flow since the last check came to it.

        Waits for the device. Only the fused flow waits to be asked; others raise at once.
        """
        self.watch.check()

    def forward(self, q: Vector, p: Vector) -> Point:
        """Return the state after the flow; under autocast only forces are in its precision."""
        dtype = autocast_dtype(q.device)
        with torch.autocast(q.device.type, enabled=False):
            if not isinstance(self.potential, PerceptronPotential):
                probe(self.potential, q)
            if self.run_as != "flow":
                return STAND_INS[self.run_as](self, q, p, dtype)
            problem, method = self.problem(dtype), GRADIENTS[self.gradient]
            if self.on_overflow != "checkpoint" or capturing(q.device):
                return method(q, p, problem)
            try:
                end = method(q, p, problem)
                self.check()
                return end
            except LatticeOverflow:
                self.overflows += 1
                return checkpointed(q, p, problem)

    def free_motion(self, q: Vector, p: Vector, dtype: torch.dtype | None = None) -> Point:
        """Return (q + c t p, p), the state without a force, by the same drifts."""
        velocity = self.hamiltonian().velocity(p)
        for shear in self.problem().schedule.shears:
            if shear.kind == "drift":
                q = q + shear.h * velocity
        return q, p

    def first_order(self, q: Vector, p: Vector, dtype: torch.dtype | None = None) -> Point:
        """Return first-order perturbation theory: forces along the straight path of free motion.

        p1 = p + sum_i h_i F(q + c t_i p) with the integrator's own kicks h_i at its own times t_i,
        and q1 by its drifts of what p is by then: as many force evaluations as the flow's, of which
        none sees what another did. Forces are in dtype (None: that of q).
        """
        H = self.hamiltonian(dtype or q.dtype).cast()
        q1, p1, t, speed = q, p, 0.0, H.velocity(p)
        for shear in self.problem().schedule.shears:
            if shear.kind == "kick":
                p1 = p1 + shear.h * H.force(q + t * speed)
            else:
                q1, t = q1 + shear.h * H.velocity(p1), t + shear.h
        return q1, p1

    def trajectory(
        self,
        q: Vector,
        p: Vector,
        *,
        steps: int,
        dt: float,
        integrator: str | None = None,
        compensated: bool = False,
    ) -> Iterator[Point]:
        """Yield the initial state and the state after each step; integrator None: the flow's own.

        Kicks are not merged, so that q and p are at one time. Besides the tables, `euler` and `rk4`
        are understood, without compensated sums (`integrate_compensated`).
        """
        H, name = self.hamiltonian(q.dtype).cast(), integrator or self.integrator
        # a step may begin where one ended: the last force is not computed again
        force = functools.lru_cache(maxsize=1)(H.force)
        field: Any = SimpleNamespace(force=force, velocity=H.velocity)
        state: tuple[Tensor, ...] = (q, p)
        step: Any
        if name in CONTRAST:
            step = functools.partial(CONTRAST[name], field=field, h=dt)
        else:
            shears = Schedule(name, dt, 1).shears
            step = functools.partial(
                integrate_compensated if compensated else integrate, field=field, shears=shears
            )
            if compensated:
                state = (q, p, torch.zeros_like(q), torch.zeros_like(p))
        if q.is_cuda and steps >= RECORDED and not torch.is_grad_enabled():
            step = recorded(step, state)
        yield q, p
        for _ in range(steps):
            state = step(*state)
            yield state[0], state[1]


# of `HamiltonianFlow.run_as`
STAND_INS = {"first_order": HamiltonianFlow.first_order, "free": HamiltonianFlow.free_motion}


def exact_adjoint(
    potential: Potential,
    q: Vector,
    p: Vector,
    *,
    steps: int,
    dt: float,
    integrator: str = "blanes_moan4",
) -> Point:
    """Move (q, p) along the flow of |p|^2 / 2 + V(q), for a module of one's own.

    The backward pass gets the states of the forward pass bit for bit from its end, so memory does
    not grow with `steps`. Arguments and errors are those of `HamiltonianFlow`.

    Examples:
        >>> q, p = torch.zeros(2, 4), torch.ones(2, 4)
        >>> q1, p1 = exact_adjoint(PerceptronPotential.random(4, 8), q, p, steps=10, dt=0.1)
    """
    flow = HamiltonianFlow(potential, steps=steps, dt=dt, integrator=integrator)
    end = flow(q, p)
    flow.check()
    return end
