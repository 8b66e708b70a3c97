"""States as integers, so that a shear is undone bit for bit.

(Levesque & Verlet 1993; Rein & Tamayo 2018, "JANUS".)

    q = Q s,  p = P s',    spacings s, s' = 2^-k, 2^-k'
    kick(h):   P += round(h F(q) / s')        drift(h):  Q += round(h c p / s)

Integer addition undoes itself, and F sees the same bits in both directions: the reversed trajectory
is the forward one, in any precision of F and for any number of steps.  int32 for float32 states,
int64 for float64 ones.

Legend: Q, P integers; s, s' spacings, a pair a token, so that no token's lattice depends on
another's state (on a later one's, that would be a leak); limit: |Q|, |P| and every increment stay
below it, so that no sum can wrap around.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

HEADROOM = 8.0  # how far beyond free motion q may go before it overflows
OF_P = 4.0  # and p that many times as far, which free motion leaves alone and only forces change
KICKED = 1.0  # the least |p| that a lattice is chosen for: forces of order one move a state at rest
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
LIMITS = {torch.int32: 2.0**30, torch.int64: 2.0**52}  # of int64 as many bits as float64 holds
FINEST = 2.0**-26  # spacing of int32
# finer than the rounding of states of order one
_FINEST = {torch.int32: FINEST, torch.int64: 2.0**-48}


class LatticeOverflow(ArithmeticError):
    """A state or an increment left the lattice's range; its gradients would be worthless."""


class LatticeCorrupted(RuntimeError):
    """The reversed trajectory does not end where the forward one began."""


@dataclass
class Grid:
    """Multiples of s, a power of two for each token, and the largest number of them seen anywhere.

    Examples:
        >>> grid = Grid.reaching(torch.tensor([1.0]))
        >>> grid.decode(grid.encode(torch.tensor([1.0, -0.5])))
        tensor([ 1.0000, -0.5000])
    """

    s: Float[Tensor, "*tokens 1"]
    integer: torch.dtype
    largest: Float[Tensor, ""]

    @classmethod
    def reaching(cls, reach: Float[Tensor, "*tokens 1"]) -> Grid:
        """The finest that holds `HEADROOM` times reach."""
        integer = _INTEGERS[reach.dtype]
        s = torch.exp2(torch.ceil(torch.log2(HEADROOM * reach / LIMITS[integer]))).clamp(
            min=_FINEST[integer]
        )
        return cls(s, integer, s.new_zeros(()))

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
        """The X of which X + round(x / s) was made, bit for bit."""
        return X - torch.round(x / self.s).to(self.integer)

    def low_bits(self, X: Int[Tensor, "..."], x: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Return what x = X s, which rounds X to a float's bits, does not tell of X: a byte.

        Examples:
            >>> grid = Grid.reaching(torch.tensor([1.0]))
            >>> X = torch.tensor([2**29 + 3], dtype=torch.int32)
            >>> x = grid.decode(X)
            >>> rest = grid.low_bits(X, x)
            >>> rest, grid.with_low_bits(x, rest) - 2**29
            (tensor([3], dtype=torch.int8), tensor([3], dtype=torch.int32))
        """
        return (X - torch.round(x / self.s).to(self.integer)).to(torch.int8)

    def with_low_bits(
        self, x: Float[Tensor, "..."], rest: Int[Tensor, "..."]
    ) -> Int[Tensor, "..."]:
        """Return X, of which `low_bits` were taken."""
        return torch.round(x / self.s).to(self.integer) + rest


@dataclass
class Lattice:
    """A grid for q and one for p, whose scales differ: a long flow makes |q| grow, but |p| hardly.

    Examples:
        >>> lattice = Lattice.around(torch.tensor([3.0]), torch.tensor([2.0]), reach=100.0)
        >>> float(lattice.q.s / lattice.p.s)
        32.0
    """

    q: Grid
    p: Grid

    @classmethod
    def around(
        cls,
        q: Float[Tensor, "*tokens D"],
        p: Float[Tensor, "*tokens D"],
        reach: Float[Tensor, ""] | float,
    ) -> Lattice:
        """Choose it for what forces of order one make of (q, p); |.| is a token's largest
        coordinate.

        p: `OF_P` times the larger of |p| and `KICKED`. Energy bounds it: sum c p^2 / 2 gains at
        most V(0) - min V, some E_ref. q: |q| + reach max(|p|, KICKED); reach is how far a unit of p
        carries q, the flow's time times the largest c.
        """
        at, speed = (x.detach().abs().amax(-1, keepdim=True) for x in (q, p))
        speed = speed.clamp(min=KICKED)
        return cls(Grid.reaching(at + reach * speed), Grid.reaching(OF_P * speed))

    @classmethod
    def of_range(cls, q: Float[Tensor, "*tokens D"], reach: float) -> Lattice:
        """Make one for all tokens, of states in the precision of q that stay near `reach`."""
        return cls(*(Grid.reaching(q.new_full((1,), reach)) for _ in range(2)))

    def encode(
        self, q: Float[Tensor, "..."], p: Float[Tensor, "..."]
    ) -> tuple[Int[Tensor, "..."], Int[Tensor, "..."]]:
        """(Q, P)"""
        return self.q.encode(q), self.p.encode(p)

    def decode(
        self, Q: Int[Tensor, "..."], P: Int[Tensor, "..."]
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """(q, p), in the state's precision"""
        return self.q.decode(Q), self.p.decode(P)

    def check(self) -> None:
        """Raise `LatticeOverflow` if any value left the range. Waits for the device."""
        largest = torch.maximum(self.q.largest, self.p.largest).float()
        check_facts(torch.stack((largest, torch.zeros_like(largest))), LIMITS[self.q.integer])


# An operator, since it asks for values: where memory is predicted tensors have none, and its fake
# asks nothing.
@torch.library.custom_op(
    "phasebench::check_lattice", mutates_args=(), schema="(Tensor facts, float limit) -> ()"
)
def check_facts(facts: Tensor, limit: float) -> None:
    """Raise what (largest number, whether a reversal missed its start) come to.

    Raises `LatticeOverflow` or `LatticeCorrupted`.
    """
    largest, missed = facts.tolist()
    if largest >= limit:
        raise LatticeOverflow(
            f"a state or increment went beyond the lattice: {largest / limit:.3g} times its range, "
            f"{HEADROOM:g} times that of free motion"
        )
    if missed:
        raise LatticeCorrupted(
            "the reversed flow does not end at its start: the saved state, the weights or the "
            "kernels changed between forward and backward"
        )


@check_facts.register_fake
def _(facts: Tensor, limit: float) -> None: ...


class Watch:
    """Tell how a flow's lattices have fared on a GPU, where asking at once would mean to wait.

    Kernels keep the largest number and whether a reversal missed its start in `facts`, on their
    device; those of a CUDA graph that is replayed do so too. Whoever waits for the device anyway
    asks by `check`.
    """

    def __init__(self) -> None:
        self._facts: Tensor | None = None

    def facts(self, device: torch.device) -> Float[Tensor, "2"]:
        """Where kernels of that device write."""
        if self._facts is None or self._facts.device != device:
            self._facts = torch.zeros(2, device=device)
        return self._facts

    def note(self, largest: Tensor, missed: Tensor, integer: torch.dtype) -> None:
        """Take note of a lattice's facts; on a GPU they are told by `check`, elsewhere now."""
        facts = torch.stack((largest.float(), missed.float()))
        if facts.device.type == "cuda":
            known = self.facts(facts.device)
            known.copy_(torch.maximum(known, facts))
        else:
            check_facts(facts, LIMITS[integer])

    def check(self) -> None:
        """Raise what the facts since the last check come to. Waits for the device."""
        if self._facts is None:
            return
        try:
            check_facts(self._facts, LIMITS[torch.int32])
        except (LatticeOverflow, LatticeCorrupted):
            self._facts.zero_()  # told once
            raise


def checksum(Q: Int[Tensor, "..."], P: Int[Tensor, "..."]) -> Int[Tensor, ""]:
    """Return 64 bits that change with every bit of the state and with its order.

    sum of X_i (2 i + 1), modulo 2^64.
    """
    X = torch.stack((Q, P)).flatten().to(torch.int64)
    return (X * (2 * torch.arange(len(X), device=X.device) + 1)).sum()
