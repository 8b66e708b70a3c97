"""The potential of Stage 2 in closed form: value, force, and the adjoint of the force.

    V(q)     = a . sigma(z),   z = W n + b,       n = r q,   r = (mean_i q_i^2 + eps)^(-1/2)
    dn/dq    = r (1 - n n^T / D) =: J,            symmetric
    F(q)     = -dV/dq = -J u,                     u = W^T (a . sigma'(z))
    V''(q) v = J x - r^2 (mu u + m v + (kappa - 3 mu m) n),
               y = J v,  x = W^T (a . sigma''(z) . W y),  m = <n u>, mu = <n v>, kappa = <u v>

with < > the mean over the D coordinates. |n| < D^(1/2), so V is bounded: it has a floor, energy
bounds |p|, and q grows at most linearly in time, without a confining wall. F is orthogonal to q up
to eps: n . F = -eps r^3 n . u. Without the norm (`eps` None) n = q, r = 1, J = 1: then V has
whatever floor sigma gives it.

Shapes: q, v (..., D); W (H, D); a, b, z (..., H). H is the number of terms of V (`hidden` in the
configuration). Forces from autograd would need a double backward and twice the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.dynamics.hamiltonian import column_sums
from phasebench.dynamics.integrators import Scalar, Vector


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


class PerceptronPotential(nn.Module):
    """V(q) = a . sigma(W n + b), a `Potential` with few operations and kernels of its own on a GPU.

    Args:
        W: parameter, or a tensor that depends on others, of shape (H, D).
        a: the same of shape (H,).
        b: the same of shape (H,).
        sigma: the activation and its derivatives.
        eps: of the norm; None: V of q itself, which may have no floor.
        g: a fixed factor on a.

    Examples:
        >>> W, one = torch.eye(2), torch.ones(2)
        >>> V = PerceptronPotential(W, one, 0 * one, POTENTIALS["logcosh"], eps=0.5)
        >>> V.force(torch.tensor([[1.0, -1.0]])).abs() < 0.3  # along q it is only eps's share
        tensor([[True, True]])
    """

    def __init__(
        self,
        W: Tensor,
        a: Tensor,
        b: Tensor,
        sigma: Activation,
        eps: float | None,
        g: float = 1.0,
    ) -> None:
        super().__init__()
        self.W, self.b, self.a = W, b, a
        self.sigma, self.eps, self.g = sigma, eps, g

    @classmethod
    def random(
        cls,
        dim: int,
        hidden: int,
        *,
        sigma: str = "gelu_integral",
        coupling: float = 0.4,
        eps: float | None = 0.25,
    ) -> PerceptronPotential:
        """Draw the weights of `hidden` terms over `dim` channels from torch's global generator.

        coupling is about the rms force on a coordinate, of coordinates of variance 1/2. sigma:
        logcosh, gelu, softplus, gelu_integral.
        """
        W = nn.Parameter(torch.randn(hidden, dim) / dim**0.5)
        b = nn.Parameter(torch.randn(hidden) * 0.5)
        a = nn.Parameter(torch.randn(hidden))
        # so that a is of order one: 0.6 is about the rms of sigma' before training
        g = coupling * (dim / hidden) ** 0.5 / 0.6
        return cls(W, a, b, POTENTIALS[sigma], eps, g)

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """Return W, g a, b."""
        return self.W, self.a if self.g == 1.0 else self.g * self.a, self.b

    def of(self, *weights: Tensor, dtype: torch.dtype | None = None) -> PerceptronPotential:
        """Return the same function of other weights, with its products in dtype."""
        W, a, b = (x if dtype is None else x.to(dtype) for x in weights)
        return PerceptronPotential(W, a, b, self.sigma, self.eps)

    def normalised(self, q: Vector) -> tuple[Vector, Tensor | None]:
        """Return n, and r of shape (..., 1); without the norm q, and None."""
        if self.eps is None:
            return q, None
        r = (q.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return r * q, r

    def z(self, n: Vector) -> Tensor:
        """Return W n + b."""
        return F.linear(n.to(self.W.dtype), self.W, self.b)

    def value(self, q: Vector) -> Scalar:
        """Return V(q)."""
        return self.sigma.value(self.z(self.normalised(q)[0])) @ self.weights[1]

    def force(self, q: Vector) -> Vector:
        """Return F(q) = -J u, in the precision of q."""
        (n, r), (W, a, _) = self.normalised(q), self.weights
        return -pull((a * self.sigma.slope(self.z(n)) @ W).to(q.dtype), n, r)

    def adjoint(self, q: Vector, v: Vector) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return F(q), V''(q) v and d<v, dV/dq> / d(W, a, b), whose sums are over tokens.

        dW = C^T n + S^T y,   da = sum sigma'(z) . U,   db = sum C
        with U = W y,  S = a . sigma'(z),  C = a . sigma''(z) . U,  u = W^T S,  x = W^T C
        """
        (n, r), (W, a, _) = self.normalised(q), self.weights
        y, wide = pull(v, n, r), torch.promote_types(W.dtype, torch.float32)
        slope, C = self.sigma.slopes(self.z(n))
        # in place from here: tensors of H numbers a token are the peak of the backward pass
        U = y.to(W.dtype) @ W.T
        C.mul_(U).mul_(a)
        U.mul_(slope)
        da = column_sums(U, wide)
        del U
        S = slope.mul_(a)
        u, x = ((rows @ W).to(q.dtype) for rows in (S, C))
        flat = [t.to(W.dtype).reshape(-1, t.shape[-1]) for t in (C, n, S, y)]
        dW = flat[0].T @ flat[1] + flat[2].T @ flat[3]
        return -pull(u, n, r), curvature(x, u, v, n, r), (dW, da, column_sums(C, wide))


def pull(u: Vector, n: Vector, r: Scalar | None) -> Vector:
    """Return J u = r (u - n <n u>); u itself without the norm (r None)."""
    return u if r is None else r * (u - n * (n * u).mean(-1, keepdim=True))


def curvature(
    x: Vector,
    u: Vector,
    v: Vector,
    n: Vector,
    r: Scalar | None,
) -> Vector:
    """Return V''(q) v, from the x and u of the legend."""
    if r is None:
        return x
    m, mu, kappa = ((s * t).mean(-1, keepdim=True) for s, t in ((n, u), (n, v), (u, v)))
    return pull(x, n, r) - r * r * (mu * u + m * v + (kappa - 3 * mu * m) * n)
