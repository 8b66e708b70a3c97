"""A separable Hamiltonian of a token's state: any potential, and masses.

    H(q, p) = sum_i c_i p_i^2 / 2 + V(q),   c > 0,      F(q) = -dV/dq

Shapes: q, p, v, c (..., D). Energies have shape (...), one a token: nothing couples two tokens. A
potential that coupled them would push backwards in time, since the force between two tokens acts on
both.
"""

from __future__ import annotations

import copy
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from phasebench.config import ConfigError
from phasebench.dynamics.integrators import Scalar, Vector


@runtime_checkable
class Potential(Protocol):
    """V(q) of each token alone, with what the gradient methods need of it.

    Whoever writes all of it in closed form saves the time of autograd; `AutogradPotential` needs
    `value` only. The exact adjoint wants the same bits from `force` and from `adjoint`.
    """

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """What gradients are taken of, in full precision."""
        ...

    def of(self, *weights: Tensor, dtype: torch.dtype | None = None) -> Self:
        """Return the same function of other weights, its products in dtype (None: as they are)."""
        ...

    def value(self, q: Vector, /) -> Scalar:
        """V(q), one number a token."""
        ...

    def force(self, q: Vector, /) -> Vector:
        """F(q) = -dV/dq, in the precision of q."""
        ...

    def adjoint(self, q: Vector, v: Vector, /) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
        """F(q), the Hessian-vector product V''(q) v, and d<v, dV/dq> / dw of each weight w, summed
        over tokens.
        """
        ...


class AutogradPotential(nn.Module, ABC):
    """One's own V(q), written as `value` alone: force and adjoint are derived by autograd.

    Its weights are its parameters. Under autocast it is computed in float32 all the same, unless
    `value` says otherwise.

    Examples:
        >>> class Pendulums(AutogradPotential):
        ...     def value(self, q):
        ...         return (1 - q.cos()).sum(-1)
        >>> Pendulums().force(torch.tensor([[torch.pi / 2, torch.pi / 6]])).detach()
        tensor([[-1.0000, -0.5000]])
    """

    @abstractmethod
    def value(self, q: Vector) -> Scalar:
        """Return V(q), one number a token, by operations that torch can differentiate twice."""

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """Return the parameters."""
        return tuple(self.parameters())

    def of(self, *weights: Tensor, dtype: torch.dtype | None = None) -> Self:
        """Return a copy with other tensors as its parameters, in dtype, float32 at least."""
        buffers = list(self.buffers())
        tensors = [*weights, *buffers]
        if dtype is not None:
            wide = torch.promote_types(dtype, torch.float32)
            tensors = [x.to(wide) if x.is_floating_point() else x for x in tensors]
        if not torch.is_grad_enabled():  # leaves of its own, for `adjoint` to differentiate
            tensors[: len(weights)] = (x.detach().requires_grad_() for x in tensors[: len(weights)])
        olds = [*self.parameters(), *buffers]
        return copy.deepcopy(self, dict(zip(map(id, olds), tensors, strict=True)))

    def force(self, q: Vector) -> Vector:
        """Return F(q); differentiable where gradients are enabled."""
        if not torch.is_grad_enabled():
            with _NOTHING_KEPT:
                return -self._slope(q.detach().requires_grad_()).detach()
        return -self._slope(q if q.requires_grad else q.detach().requires_grad_())

    def adjoint(self, q: Vector, v: Vector) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
        """Return F(q), V''(q) v and d<v, dV/dq> / dw of each weight."""
        inputs = [q.detach().requires_grad_(), *self.weights]
        slope = self._slope(inputs[0])
        if slope.requires_grad:
            Hv, *dw = torch.autograd.grad(slope, inputs, v, materialize_grads=True)
        else:  # of a V that is linear in q
            Hv, *dw = (torch.zeros_like(x) for x in inputs)
        return -slope.detach(), Hv, dw

    @torch.enable_grad()
    def _slope(self, q: Tensor) -> Tensor:
        # always with its graph: without one, torch may take kernels that round otherwise
        return torch.autograd.grad(self.value(q).sum(), q, create_graph=True)[0]


@dataclass(frozen=True)
class Hamiltonian:
    """H(q, p), with c of shape (D,) or (), and V's products in `dtype` (None: as its weights)."""

    potential: Potential
    c: Tensor
    dtype: torch.dtype | None = None

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """Return the weights of V, and c: what is learned."""
        return *self.potential.weights, self.c

    def cast(self, weights: Sequence[Tensor] | None = None) -> Hamiltonian:
        """Return H of those weights (None: its own), V's products in `dtype`, for many forces.

        c, which meets no product, is in float32 or better.
        """
        *of_V, c = self.weights if weights is None else weights
        if self.dtype is not None:
            c = c.to(torch.promote_types(self.dtype, torch.float32))
        return Hamiltonian(self.potential.of(*of_V, dtype=self.dtype), c)

    def value(self, q: Vector) -> Scalar:
        """Return V(q)."""
        return self.potential.value(q)

    def force(self, q: Vector) -> Vector:
        """Return F(q) = -dV/dq, in the precision of q."""
        return self.potential.force(q)

    def energy(self, q: Vector, p: Vector) -> Scalar:
        """Return H(q, p)."""
        return self.kinetic(p) + self.value(q)

    def kinetic(self, p: Vector) -> Scalar:
        """Return sum_i c_i p_i^2 / 2."""
        return (p * self.velocity(p)).sum(-1) / 2

    def velocity(self, p: Vector) -> Vector:
        """Return dH/dp = c p, in the precision of p."""
        return self.c.to(p.dtype) * p


def column_sums(x: Vector, dtype: torch.dtype) -> Tensor:
    """Sum over all axes but the last, in two stages.

    In one stage the CUDA kernel would take 64 MiB for partial sums.
    """
    rows = x.reshape(-1, x.shape[-1])
    whole = len(rows) - len(rows) % 64
    stages = rows[:whole].unflatten(0, (whole // 64, 64)).sum(1, dtype=dtype).sum(0)
    return stages + rows[whole:].sum(0, dtype=dtype)


# a caller's hooks are for tensors that it keeps, not for those of a graph that ends at once
_NOTHING_KEPT = torch.autograd.graph.saved_tensors_hooks(torch.detach, lambda x: x)
_probed: weakref.WeakSet[Potential] = weakref.WeakSet()


@torch.no_grad()
def probe(V: Potential, q: Vector) -> None:
    """Raise `ConfigError`, naming the method, where V does not give what a `Potential` must.

    One number a token by `value`, the shape of q by `force` and `adjoint`, the same bits when asked
    again, and nothing of a token that another one has an effect on. Tried once for each V, on six
    tokens like q. Where memory is predicted, tensors have no values and nothing is tried.
    """
    if V in _probed or type(q) not in (Tensor, nn.Parameter) or q.device.type == "meta":
        return
    D = q.shape[-1]
    x = torch.linspace(-1, 1, 6 * D, dtype=q.dtype, device=q.device).view(2, 3, D)
    with _NOTHING_KEPT:
        fault = _fault(V, x)
    if fault:
        raise ConfigError("potential", type(V).__name__, *fault)
    _probed.add(V)


def _fault(V: Potential, x: Tensor) -> tuple[str, str] | None:
    """Return what is wrong with V, tried on tokens x of shape (2, 3, D), and the fix."""
    if not isinstance(V, Potential):
        fix = "a subclass of phasebench.AutogradPotential, whose value(self, q) is V(q)"
        return "has not the methods of a phasebench.Potential", fix
    with torch.enable_grad():
        y = V.value(x.clone().requires_grad_())
    if isinstance(V, AutogradPotential) and not y.requires_grad:
        return "value(q) is cut off from q", "compute it by torch's operations, undetached"
    with_nan, V = x.clone(), V.of(*V.weights)
    with_nan[0, 0] = torch.nan
    for name, method in {
        "value(q)": lambda x: V.value(x),
        "force(q)": lambda x: V.force(x),
        "adjoint(q, v)[1]": lambda x: V.adjoint(x, x)[1],
    }.items():
        y, wanted = method(x), x.shape[: 2 if name == "value(q)" else 3]
        if y.shape != wanted:
            what = f"{name} has shape {tuple(y.shape)} for q of shape {tuple(x.shape)}"
            return what, f"return {tuple(wanted)}; value is one number a token, as by .sum(-1)"
        if not torch.allclose(y, method(x), rtol=0.0, atol=0.0, equal_nan=True):
            return f"{name} differs from call to call", "no dropout, nor other random numbers"
        others = y.flatten(0, 1)[1:], method(with_nan).flatten(0, 1)[1:]
        if not torch.allclose(*others, equal_nan=True):
            return f"{name} of a token depends on another token", "work along the last axis only"
    return None
