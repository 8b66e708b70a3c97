"""States as integers, so that a shear is undone bit for bit (Levesque & Verlet 1993; Rein & Tamayo 2018, "JANUS").

    q = Q s,  p = P s,    spacing s = 2^-k
    kick(h):   P += round(h F(q) / s)        drift(h):  Q += round(h P)

Integer addition undoes itself, and F sees the same bits in both directions: the reversed trajectory is the forward one,
in any precision of F and for any number of steps.  int32 for float32 states, int64 for float64 ones.

Legend: Q, P integers; s spacing, a 0-dim tensor on the state's device; limit: |Q| and |P| stay below it, and so does
every increment, so that no sum can wrap around.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

HEADROOM = 4.0  # how far beyond free motion a state may go before it overflows
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
_LIMITS = {torch.int32: 2.0**30, torch.int64: 2.0**52}  # of int64 as many bits as float64 holds
_FINEST = {torch.int32: 2.0**-26, torch.int64: 2.0**-48}  # finer than the rounding of states of order one


class LatticeOverflow(ArithmeticError):
    """A state or an increment left the lattice's range; its gradients would be worthless."""


class LatticeCorrupted(RuntimeError):
    """The reversed trajectory does not end where the forward one began."""


@dataclass
class Lattice:
    """A lattice of spacing s, and the largest value seen on it, in units of s.

    Example:
        >>> lattice = Lattice.around(torch.tensor([1.0, -0.3]), torch.zeros(2), duration=1.0)
        >>> lattice.decode(lattice.encode(torch.tensor([1.0, -0.5])))
        tensor([ 1.0000, -0.5000])
    """

    s: Float[Tensor, ""]
    integer: torch.dtype
    largest: Float[Tensor, ""]

    @classmethod
    def around(cls, q: Float[Tensor, "..."], p: Float[Tensor, "..."], duration: float) -> Lattice:
        """The finest lattice that holds `HEADROOM` times what free motion reaches in that time, |q| + duration |p|."""
        integer = _INTEGERS[q.dtype]
        at, speed = (x.detach().abs().max() if x.numel() else x.new_zeros(()) for x in (q, p))
        reach = torch.maximum(at + duration * speed, speed)
        s = torch.exp2(torch.ceil(torch.log2(HEADROOM * reach / _LIMITS[integer]))).clamp(min=_FINEST[integer])
        return cls(s, integer, torch.zeros_like(s))

    def encode(self, x: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
        """round(x / s); remembers the largest."""
        units = torch.round(x / self.s)
        if x.numel():
            self.largest = torch.maximum(self.largest, units.abs().max().nan_to_num(torch.inf))
        return units.to(self.integer)

    def decode(self, X: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """X s, in the state's precision."""
        return X.to(self.s.dtype) * self.s

    def added(self, X: Int[Tensor, "..."], x: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
        """X + round(x / s); remembers the largest sum and increment."""
        X = X + self.encode(x)
        if X.numel():
            self.largest = torch.maximum(self.largest, X.abs().max().to(self.largest.dtype))
        return X

    def subtracted(self, X: Int[Tensor, "..."], x: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
        """What `added` was called with."""
        return X - torch.round(x / self.s).to(self.integer)

    def check(self) -> None:
        """Raise `LatticeOverflow` if any value left the range. Waits for the device."""
        if isinstance(self.largest, FakeTensor):
            return  # memory is being predicted: there are no values
        limit = _LIMITS[self.integer]
        if float(self.largest) >= limit:
            reach = limit * float(self.s)
            found = float(self.largest * self.s)
            raise LatticeOverflow(f"a state or increment reached {found:.3g}, beyond the lattice's +-{reach:.3g} "
                                  f"({HEADROOM:g} times what free motion reaches)")  # fmt: skip


def same(start: Int[Tensor, ""], end: Int[Tensor, ""]) -> bool:
    """Whether two checksums agree. Waits for the device; of tensors without values, whose memory is predicted, True."""
    return isinstance(end, FakeTensor) or torch.equal(start, end)


def checksum(Q: Int[Tensor, "..."], P: Int[Tensor, "..."]) -> Int[Tensor, ""]:
    """64 bits that change with every bit of the state and with its order: sum of X_i (2 i + 1), modulo 2^64."""
    X = torch.stack((Q, P)).flatten().to(torch.int64)
    return (X * (2 * torch.arange(len(X), device=X.device) + 1)).sum()
