"""The separable Hamiltonian H(q, p) = |p|^2 / 2 + V(q) and its derivatives in closed form.

    V(q)    = g a . sigma(z) + omega^2 |q|^2 / 2,    z = W q + b
    F(q)    = -dV/dq = -g W^T (a . sigma'(z)) - omega^2 q
    V''(q)v = g W^T (a . sigma''(z) . W v) + omega^2 v

Shapes: q, p, v (..., D); W (H, D); a, b, z (..., H).  Energies have shape (...), one a token.  H is the number of
terms of V (`hidden` in the configuration).  g is a number of its own, applied in the precision of the state, so that a
weak coupling does not underflow in float16.  Forces from autograd would need a double backward and twice the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Sigma:
    """A scalar function and its first two derivatives."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    slopes: Callable[[Tensor], tuple[Tensor, Tensor]]  # z -> (sigma', sigma''), which share work


def _logcosh(z: Tensor) -> Tensor:
    return z.abs() + F.softplus(-2 * z.abs()) - math.log(2)


def _logcosh_slopes(z: Tensor) -> tuple[Tensor, Tensor]:
    t = torch.tanh(z)
    return t, 1 - t * t


def _density(z: Tensor) -> Tensor:
    return torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _gelu_slope(z: Tensor) -> Tensor:
    return _gelu_slopes(z)[
        0
    ]  # not written out: the reversal of a flow needs the same bits from both


def _gelu_slopes(z: Tensor) -> tuple[Tensor, Tensor]:
    density = _density(z)
    return torch.special.ndtr(z) + z * density, density * (2 - z * z)


def _gelu_integral(z: Tensor) -> Tensor:
    """The antiderivative of z Phi(z), by parts: ((z^2 - 1) Phi(z) + z phi(z)) / 2."""
    return ((z * z - 1) * torch.special.ndtr(z) + z * _density(z)) / 2


def _gelu_integral_slope(z: Tensor) -> Tensor:
    return z * torch.special.ndtr(
        z
    )  # as `_gelu_integral_slopes` has it, not F.gelu: the same bits from both


def _gelu_integral_slopes(z: Tensor) -> tuple[Tensor, Tensor]:
    below = torch.special.ndtr(z)
    return z * below, below + z * _density(z)


def _softplus_slopes(z: Tensor) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(z)
    return s, s * (1 - s)


POTENTIALS: dict[str, Sigma] = {
    "logcosh": Sigma(_logcosh, torch.tanh, _logcosh_slopes),
    "gelu": Sigma(F.gelu, _gelu_slope, _gelu_slopes),
    "softplus": Sigma(F.softplus, torch.sigmoid, _softplus_slopes),
    "gelu_integral": Sigma(_gelu_integral, _gelu_integral_slope, _gelu_integral_slopes),
}


@dataclass(frozen=True)
class Potential:
    """V(q) = g a . sigma(W q + b) + omega^2 |q|^2 / 2, with products in `dtype` (None: that of the parameters).

    Example:
        >>> V = Potential(torch.eye(2), torch.zeros(2), torch.zeros(2), 1.0, 2.0, POTENTIALS["logcosh"])
        >>> V.force(torch.tensor([[1.0, -1.0]]))
        tensor([[-4.,  4.]])
    """

    W: Float[Tensor, "H D"]
    a: Float[Tensor, " H"]
    b: Float[Tensor, " H"]
    g: float
    omega: float
    sigma: Sigma
    dtype: torch.dtype | None = None

    def cast(self, dtype: torch.dtype | None) -> Potential:
        """The same potential with its parameters, and so its products, in another precision (None: unchanged)."""
        if dtype is None:
            return self
        return Potential(
            self.W.to(dtype),
            self.a.to(dtype),
            self.b.to(dtype),
            self.g,
            self.omega,
            self.sigma,
            dtype,
        )

    def z(self, q: Float[Tensor, "... D"]) -> Float[Tensor, "... H"]:
        """W q + b."""
        return F.linear(q.to(self.W.dtype), self.W, self.b)

    def value(self, q: Float[Tensor, "... D"]) -> Float[Tensor, ...]:
        """V(q)."""
        return self.g * (self.sigma.value(self.z(q)) @ self.a) + self.omega**2 / 2 * q.square().sum(
            -1
        )

    def energy(self, q: Float[Tensor, "... D"], p: Float[Tensor, "... D"]) -> Float[Tensor, ...]:
        """H(q, p)."""
        return p.square().sum(-1) / 2 + self.value(q)

    def force(self, q: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """F(q) = -dV/dq, in the precision of q."""
        return self.pull((self.a * self.sigma.slope(self.z(q))) @ self.W, q)

    def pull(self, x: Float[Tensor, "... D"], q: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """-g x - omega^2 q, in the precision of q."""
        F = -self.g * x.to(q.dtype)
        return F - self.omega**2 * q if self.omega else F
