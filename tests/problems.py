"""Mechanical problems with known answers, as potentials: force(q) and energy(q, p) of unit masses,
float64.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from phasebench.dynamics import (
    POTENTIALS,
    AutogradPotential,
    Hamiltonian,
    HamiltonianFlow,
    PerceptronPotential,
)
from phasebench.dynamics.perceptron import Activation


class UnitMasses:
    def velocity(self, p: Tensor) -> Tensor:
        return p


class Oscillator(UnitMasses):
    """V = omega^2 q^2 / 2, exact flow: rotation by omega t in (omega q, p)."""

    q0, p0 = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64)
    time = 4.0

    def __init__(self, omega: float = 1.5) -> None:
        self.omega = omega

    def force(self, q: Tensor) -> Tensor:
        return -(self.omega**2) * q

    def energy(self, q: Tensor, p: Tensor) -> Tensor:
        return (p**2 + self.omega**2 * q**2).sum(-1) / 2

    def exact(self, t: float) -> tuple[Tensor, Tensor]:
        c, s, w = math.cos(self.omega * t), math.sin(self.omega * t), self.omega
        return c * self.q0 + s / w * self.p0, c * self.p0 - s * w * self.q0


class Pendulum(UnitMasses):
    """V = -cos q."""

    q0, p0 = torch.tensor([[1.2]], dtype=torch.float64), torch.tensor([[0.3]], dtype=torch.float64)
    time = 2.0

    def force(self, q: Tensor) -> Tensor:
        return -torch.sin(q)

    def energy(self, q: Tensor, p: Tensor) -> Tensor:
        return (p**2 / 2 - torch.cos(q)).sum(-1)


class Kepler(UnitMasses):
    """V = -1/|q|, an orbit of eccentricity e and period 2 pi, started at its nearest point."""

    e = 0.3
    q0 = torch.tensor([[1 - e, 0.0]], dtype=torch.float64)
    p0 = torch.tensor([[0.0, ((1 + e) / (1 - e)) ** 0.5]], dtype=torch.float64)
    time = 2.0

    def force(self, q: Tensor) -> Tensor:
        return -q / q.norm(dim=-1, keepdim=True) ** 3

    def energy(self, q: Tensor, p: Tensor) -> Tensor:
        return p.square().sum(-1) / 2 - 1 / q.norm(dim=-1)

    def exact(self, t: float) -> tuple[Tensor, Tensor]:
        """By Newton's method on Kepler's equation t = u - e sin u."""
        e, u = self.e, t
        for _ in range(50):
            u -= (u - e * math.sin(u) - t) / (1 - e * math.cos(u))
        rate, axis = 1 / (1 - e * math.cos(u)), math.sqrt(1 - e * e)
        q = [[math.cos(u) - e, axis * math.sin(u)]]
        p = [[-math.sin(u) * rate, axis * math.cos(u) * rate]]
        return torch.tensor(q, dtype=torch.float64), torch.tensor(p, dtype=torch.float64)


SQUARE = Activation(lambda z: z * z / 2, lambda z: z, lambda z: (z, torch.ones_like(z)))


def perceptron(
    W: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    name: str,
    eps: float | None,
    dtype: torch.dtype | None = None,
) -> Hamiltonian:
    """H of the potential of Stage 2 with these weights."""
    return Hamiltonian(PerceptronPotential(W, a, b, POTENTIALS[name], eps), c, dtype)


def perceptron_flow(
    dim: int,
    hidden: int,
    *,
    potential: str = "gelu_integral",
    coupling: float = 0.4,
    eps: float | None = 0.25,
    gradient: str = "adjoint",
    **options: Any,
) -> HamiltonianFlow:
    """A flow by the potential of Stage 2, with learned masses."""
    V = PerceptronPotential.random(dim, hidden, sigma=potential, coupling=coupling, eps=eps)
    return HamiltonianFlow(V, dim=dim, gradient=gradient, **options)


def oscillator(omega: float = 1.0) -> HamiltonianFlow:
    """A flow of one channel whose potential is omega^2 q^2 / 2."""
    W, a, b = (nn.Parameter(torch.tensor(x)) for x in ([[omega]], [1.0], [0.0]))
    V = PerceptronPotential(W, a, b, SQUARE, eps=None)
    return HamiltonianFlow(V, dim=1, steps=1, dt=0.1, integrator="leapfrog", gradient="adjoint")


class Waves(AutogradPotential):
    """V(q) = cos(k q): a potential as a user writes it."""

    def __init__(self, dim: int, depth: float = 1.0) -> None:
        super().__init__()
        self.k = nn.Parameter(depth * torch.randn(dim, dim))

    def value(self, q: Tensor) -> Tensor:
        return torch.cos(q @ self.k).sum(-1)
