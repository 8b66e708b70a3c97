"""Simulates torch's caching allocator: blocks, reserved memory, and when memory runs out.

Sizes are rounded up to 512 bytes. Those of at most 1 MiB come from segments of 2 MiB, others from
segments of 20 MiB or, from 10 MiB on, of their own size rounded up to 2 MiB. A request takes the
smallest free block that holds it, whose rest becomes a free block if it is large enough; neighbours
that are free are merged. Free segments stay reserved until a limit would be passed: then they are
given back and the request is tried once more. (pytorch, c10/cuda/CUDACachingAllocator.cpp, the
native allocator with its default settings, on one stream.)
"""

from __future__ import annotations

import bisect
import math
from typing import Protocol

BLOCK = 512  # bytes
SMALL, LARGE = 2**20, 10 * 2**20
_SMALL_SEGMENT, _SEGMENT, _ROUND = 2 * 2**20, 20 * 2**20, 2 * 2**20


class PredictedOutOfMemory(MemoryError):
    """A request that the limit does not allow."""


class Allocator(Protocol):
    """Hands out bytes."""

    allocated: int  # handed out now
    reserved: int  # taken from the device now

    def malloc(self, size: int) -> Block:
        """A block of at least that size."""
        ...

    def free(self, block: Block) -> None:
        """Take it back."""
        ...


class Block:
    """A piece of a segment."""

    __slots__ = ("address", "next", "previous", "size", "used")

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size, self.used = address, size, False
        self.previous: Block | None = None
        self.next: Block | None = None

    def __lt__(self, other: Block) -> bool:
        return False  # in a list ordered by size and address, which no two blocks share


_NONE = Block(0, 0)


def rounded(size: int) -> int:
    """Round up to a multiple of 512, at least 512."""
    return max(1, -(-size // BLOCK)) * BLOCK


class ExactAllocator:
    """Hands out what is asked for, rounded up to 512 bytes; of an empty request, nothing."""

    def __init__(self) -> None:
        self.allocated = self.reserved = 0

    def malloc(self, size: int) -> Block:
        """A block of that size."""
        block = Block(0, rounded(size) if size else 0)
        self.allocated += block.size
        self.reserved = max(self.reserved, self.allocated)
        return block

    def free(self, block: Block) -> None:
        """Take it back."""
        self.allocated -= block.size


class CachingAllocator:
    """The caching allocator, of whose device `limit` bytes may be reserved (None: any number).

    Example:
        >>> memory = CachingAllocator()
        >>> block = memory.malloc(11 * 2**20)
        >>> memory.allocated // 2**20, memory.reserved // 2**20
        (12, 12)
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit, self.allocated, self.reserved, self.reserved_peak = limit, 0, 0, 0
        self._free: dict[bool, list[tuple[int, float, Block]]] = {
            True: [],
            False: [],
        }  # by pool: is it that of small ones
        self._end = 0  # of the addresses given so far

    def malloc(self, size: int) -> Block:
        """Hand out a block of at least that size. Raises `PredictedOutOfMemory`."""
        if not size:
            return Block(-1, 0)
        size = rounded(size)
        small = size <= SMALL
        found = bisect.bisect_left(self._free[small], (size, -math.inf, _NONE))
        block = (
            self._free[small].pop(found)[2]
            if found < len(self._free[small])
            else self._segment(size)
        )
        rest = block.size - size
        if rest >= BLOCK if small else rest > SMALL:
            self._split(block, size, small)
        block.used = True
        self.allocated += block.size
        return block

    def free(self, block: Block) -> None:
        """Take it back, and merge it with its neighbours if they are free."""
        if not block.size:
            return
        self.allocated -= block.size
        block.used = False
        small = block.address < 0
        for other in (block.previous, block.next):
            if other and not other.used:
                self._forget(other, small)
                block = _merged(block, other)
        bisect.insort(self._free[small], (block.size, block.address, block))

    def _segment(self, size: int) -> Block:
        segment = (
            _SMALL_SEGMENT
            if size <= SMALL
            else _SEGMENT
            if size < LARGE
            else -(-size // _ROUND) * _ROUND
        )
        if self.limit is not None and self.reserved + segment > self.limit:
            self._give_back()
            if self.reserved + segment > self.limit:
                raise PredictedOutOfMemory(
                    f"{size} bytes more, with {self.allocated} in use of {self.limit}"
                )
        self.reserved += segment
        self.reserved_peak = max(self.reserved_peak, self.reserved)
        start, self._end = self._end, self._end + segment
        return Block(-self._end if size <= SMALL else start, segment)  # the pool shows in the sign

    def _split(self, block: Block, size: int, small: bool) -> None:
        rest = Block(block.address + size, block.size - size)
        rest.previous, rest.next, block.size = block, block.next, size
        if rest.next:
            rest.next.previous = rest
        block.next = rest
        bisect.insort(self._free[small], (rest.size, rest.address, rest))

    def _forget(self, block: Block, small: bool) -> None:
        blocks = self._free[small]
        del blocks[bisect.bisect_left(blocks, (block.size, block.address, block))]

    def _give_back(self) -> None:
        for small, blocks in self._free.items():
            kept = [entry for entry in blocks if entry[2].previous or entry[2].next]
            self.reserved -= sum(
                size for size, _, block in blocks if not (block.previous or block.next)
            )
            self._free[small] = kept


def _merged(one: Block, other: Block) -> Block:
    first, second = (other, one) if one.previous is other else (one, other)
    first.size += second.size
    first.next = second.next
    if first.next:
        first.next.previous = first
    first.used = False
    return first
