"""States as integers, so that a shear is undone bit for bit (Levesque & Verlet 1993; Rein & Tamayo 2018, "JANUS").

    q = Q s,  p = P s',    spacings s, s' = 2^-k, 2^-k'
    kick(h):   P += round(h F(q) / s')        drift(h):  Q += round(h p / s)

Integer addition undoes itself, and F sees the same bits in both directions: the reversed trajectory is the forward one,
in any precision of F and for any number of steps.  int32 for float32 states, int64 for float64 ones.

Legend: Q, P integers; s, s' spacings, a pair a token, so that no token's lattice depends on another's state (on a later
one's, that would be a leak); limit: |Q|, |P| and every increment stay below it, so that no sum can wrap around.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

HEADROOM = 16.0  # how far beyond free motion q may go before it overflows
OF_P = 4.0  # and p that many times as far, which free motion leaves alone and only forces change
_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
LIMITS = {torch.int32: 2.0**30, torch.int64: 2.0**52}  # of int64 as many bits as float64 holds
FINEST = 2.0**-26  # spacing of int32
_FINEST = {
    torch.int32: FINEST,
    torch.int64: 2.0**-48,
}  # finer than the rounding of states of order one


class LatticeOverflow(ArithmeticError):
    """A state or an increment left the lattice's range; its gradients would be worthless."""


class LatticeCorrupted(RuntimeError):
    """The reversed trajectory does not end where the forward one began."""


@dataclass
class Grid:
    """Multiples of s, a power of two for each token, and the largest number of them seen anywhere.

    Example:
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
        """What `added` was called with."""
        return X - torch.round(x / self.s).to(self.integer)


@dataclass
class Lattice:
    """A grid for q and one for p, whose scales differ: in a long flow |q| grows to duration |p|, but |p| does not.

    Example:
        >>> lattice = Lattice.around(torch.tensor([3.0]), torch.tensor([0.5]), duration=100.0)
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
        duration: float,
        omega: float = 0.0,
    ) -> Lattice:
        """Around what free motion, or that of an oscillator of frequency omega, reaches in that time.

        q: |q| + duration |p|;  p: `OF_P` times the larger of |p| and omega |q|.
        """
        at, speed = (x.detach().abs().amax(-1, keepdim=True) for x in (q, p))
        return cls(
            Grid.reaching(at + duration * speed),
            Grid.reaching(OF_P * torch.maximum(speed, omega * at)),
        )

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
        largest = torch.maximum(self.q.largest, self.p.largest)
        if not isinstance(largest, FakeTensor):  # whose memory is predicted: it has no value
            _judge(float(largest), LIMITS[self.q.integer])


def _judge(largest: float, limit: float) -> None:
    if largest >= limit:
        raise LatticeOverflow(
            f"a state or increment went beyond the lattice: {largest / limit:.3g} times its range, "
            f"{HEADROOM:g} times that of free motion"
        )


CORRUPTED = (
    "the reversed flow does not end at its start: the saved state, the weights or the kernels changed between "
    "forward and backward"
)


class Watch:
    """Facts about lattices that the device has yet to tell; `settle` raises what they come to."""

    _pending: ClassVar[deque[Watch]] = deque()

    def __init__(self, facts: Float[Tensor, "_"], limit: float) -> None:
        on_gpu = facts.device.type == "cuda"
        self.limit, self.facts = limit, torch.empty(facts.shape, pin_memory=on_gpu)
        self.facts.copy_(facts, non_blocking=on_gpu)
        self.told = torch.cuda.current_stream(facts.device).record_event() if on_gpu else None

    @classmethod
    def add(cls, facts: Float[Tensor, "_"], limit: float) -> None:
        """Have (largest, whether a reversal missed its start, ...) checked, without waiting for the device."""
        if not isinstance(facts, FakeTensor):
            cls._pending.append(cls(facts, limit))

    def judge(self) -> None:
        """Raise what the facts come to."""
        largest, corrupted, *_ = self.facts.tolist()
        _judge(largest, self.limit)
        if corrupted:
            raise LatticeCorrupted(CORRUPTED)

    @classmethod
    def next(cls, *, wait: bool) -> Watch | None:
        """The oldest, if the device has told; with `wait`, after it has."""
        if not cls._pending:
            return None
        told = cls._pending[0].told
        if told and wait:
            told.synchronize()
        return cls._pending.popleft() if told is None or told.query() else None

    @classmethod
    def forget(cls) -> None:
        """All that is pending."""
        cls._pending.clear()


def settle(*, wait: bool = False) -> None:
    """Raise `LatticeOverflow` or `LatticeCorrupted` for a flow on a GPU that has turned out so; wait for it if told."""
    try:
        while found := Watch.next(wait=wait):
            found.judge()
    except (LatticeOverflow, LatticeCorrupted):
        Watch.forget()  # of the same pass: they would be raised again after it has been given up
        raise


def low_bits(
    X: Int[Tensor, "..."], x: Float[Tensor, "..."], s: Float[Tensor, "..."]
) -> Int[Tensor, "..."]:
    """What x = X s, which rounds X to the bits of a float, does not tell of X: a byte, as long as X is in range.

    Example:
        >>> X, s = torch.tensor([2**29 + 3], dtype=torch.int32), torch.tensor(2.0**-26)
        >>> rest = low_bits(X, X.float() * s, s)
        >>> rest, with_low_bits(X.float() * s, rest, s) - 2**29
        (tensor([3], dtype=torch.int8), tensor([3], dtype=torch.int32))
    """
    return (X - torch.round(x / s).to(X.dtype)).to(torch.int8)


def with_low_bits(
    x: Float[Tensor, "..."], rest: Int[Tensor, "..."], s: Float[Tensor, "..."]
) -> Int[Tensor, "..."]:
    """X, of which `low_bits` were taken."""
    return torch.round(x / s).to(_INTEGERS[x.dtype]) + rest


def same(start: Int[Tensor, ""], end: Int[Tensor, ""]) -> bool:
    """Whether two checksums agree. Waits for the device; of tensors without values, whose memory is predicted, True."""
    return isinstance(end, FakeTensor) or torch.equal(start, end)


def checksum(Q: Int[Tensor, "..."], P: Int[Tensor, "..."]) -> Int[Tensor, ""]:
    """64 bits that change with every bit of the state and with its order: sum of X_i (2 i + 1), modulo 2^64."""
    X = torch.stack((Q, P)).flatten().to(torch.int64)
    return (X * (2 * torch.arange(len(X), device=X.device) + 1)).sum()
