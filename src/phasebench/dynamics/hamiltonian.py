"""The Hamiltonian of a token's state, in closed form: energy, force, curvature.

    H(q, p)  = sum_i c_i p_i^2 / 2 + V(q),        c > 0
    V(q)     = a . sigma(z),   z = W n + b,       n = r q,   r = (mean_i q_i^2 + eps)^(-1/2)
    dn/dq    = r (1 - n n^T / D) =: J,            symmetric
    F(q)     = -dV/dq = -J u,                     u = W^T (a . sigma'(z))
    V''(q) v = J x - r^2 (mu u + m v + (kappa - 3 mu m) n),
               y = J v,  x = W^T (a . sigma''(z) . W y),  m = <n u>, mu = <n v>, kappa = <u v>

with < > the mean over the D coordinates. |n| < D^(1/2), so V is bounded: it has a floor, energy
bounds |p|, and q grows at most linearly in time, without a confining wall. F is orthogonal to q up
to eps: n . F = -eps r^3 n . u. Without the norm (`eps` None) n = q, r = 1, J = 1: then V has
whatever floor sigma gives it.

Shapes: q, p, v, c (..., D); W (H, D); a, b, z (..., H). Energies have shape (...), one a token. H
is the number of terms of V (`hidden` in the configuration). Forces from autograd would need a
double backward and twice the time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Activation:
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


def _gelu_slopes(z: Tensor) -> tuple[Tensor, Tensor]:
    density = _density(z)
    return torch.special.ndtr(z) + z * density, density * (2 - z * z)


def _gelu_integral(z: Tensor) -> Tensor:
    """The antiderivative of z Phi(z), by parts: ((z^2 - 1) Phi(z) + z phi(z)) / 2."""
    return ((z * z - 1) * torch.special.ndtr(z) + z * _density(z)) / 2


def _gelu_integral_slopes(z: Tensor) -> tuple[Tensor, Tensor]:
    below = torch.special.ndtr(z)
    return z * below, below + z * _density(z)


def _softplus_slopes(z: Tensor) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(z)
    return s, s * (1 - s)


POTENTIALS: dict[str, Activation] = {
    "logcosh": Activation(_logcosh, torch.tanh, _logcosh_slopes),
    # a slope is not written out otherwise: a reversal needs the same bits from it and the slopes
    "gelu": Activation(F.gelu, lambda z: _gelu_slopes(z)[0], _gelu_slopes),
    "softplus": Activation(F.softplus, torch.sigmoid, _softplus_slopes),
    "gelu_integral": Activation(
        _gelu_integral, lambda z: z * torch.special.ndtr(z), _gelu_integral_slopes
    ),
}


@dataclass(frozen=True)
class Hamiltonian:
    """H(q, p), with the products of V in `dtype` (None: that of the weights).

    Example:
        >>> W, one = torch.eye(2), torch.ones(2)
        >>> H = Hamiltonian(W, one, 0 * one, one, POTENTIALS["logcosh"], eps=0.5)
        >>> H.force(torch.tensor([[1.0, -1.0]])).abs() < 0.3  # along q it is only eps's share
        tensor([[True, True]])
    """

    W: Float[Tensor, "H D"]
    a: Float[Tensor, " H"]
    b: Float[Tensor, " H"]
    c: Float[Tensor, " D"]
    sigma: Activation
    eps: float | None
    dtype: torch.dtype | None = None

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return W, a, b, c: what is learned."""
        return self.W, self.a, self.b, self.c

    def of(self, *weights: Tensor) -> Hamiltonian:
        """Return the same function of other weights."""
        return dataclasses.replace(self, **dict(zip("Wabc", weights, strict=True)))

    def cast(self) -> Hamiltonian:
        """Return H with V's weights in `dtype`, once for many forces.

        c, which meets no product, is in float32 or better.
        """
        if self.dtype is None:
            return self
        exact = torch.promote_types(self.dtype, torch.float32)
        return self.of(*(x.to(self.dtype) for x in self.weights[:3]), self.c.to(exact))

    def normalised(
        self, q: Float[Tensor, "... D"]
    ) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."] | None]:
        """Return n, and r of shape (..., 1); without the norm q, and None."""
        if self.eps is None:
            return q, None
        r = (q.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return r * q, r

    def z(self, n: Float[Tensor, "... D"]) -> Float[Tensor, "... H"]:
        """Return W n + b."""
        return F.linear(n.to(self.W.dtype), self.W, self.b)

    def value(self, q: Float[Tensor, "... D"]) -> Float[Tensor, ...]:
        """Return V(q)."""
        return self.sigma.value(self.z(self.normalised(q)[0])) @ self.a

    def energy(self, q: Float[Tensor, "... D"], p: Float[Tensor, "... D"]) -> Float[Tensor, ...]:
        """Return H(q, p)."""
        return self.kinetic(p) + self.value(q)

    def kinetic(self, p: Float[Tensor, "... D"]) -> Float[Tensor, ...]:
        """Return sum_i c_i p_i^2 / 2."""
        return (p * self.velocity(p)).sum(-1) / 2

    def velocity(self, p: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Return dH/dp = c p, in the precision of p."""
        return self.c.to(p.dtype) * p

    def force(self, q: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Return F(q) = -J u, in the precision of q."""
        n, r = self.normalised(q)
        return -pull((self.a * self.sigma.slope(self.z(n)) @ self.W).to(q.dtype), n, r)


def pull(
    u: Float[Tensor, "... D"], n: Float[Tensor, "... D"], r: Float[Tensor, "..."] | None
) -> Float[Tensor, "... D"]:
    """Return J u = r (u - n <n u>); u itself without the norm (r None)."""
    return u if r is None else r * (u - n * (n * u).mean(-1, keepdim=True))


def curvature(
    x: Float[Tensor, "... D"],
    u: Float[Tensor, "... D"],
    v: Float[Tensor, "... D"],
    n: Float[Tensor, "... D"],
    r: Float[Tensor, "..."] | None,
) -> Float[Tensor, "... D"]:
    """Return V''(q) v, from the x and u of the legend."""
    if r is None:
        return x
    m, mu, kappa = ((s * t).mean(-1, keepdim=True) for s, t in ((n, u), (n, v), (u, v)))
    return pull(x, n, r) - r * r * (mu * u + m * v + (kappa - 3 * mu * m) * n)
