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
from dataclasses import dataclass
from operator import attrgetter

MIB = 2**20
BLOCK = 512  # bytes
SMALL, LARGE = MIB, 10 * MIB
_SMALL_SEGMENT, _SEGMENT, _ROUND = 2 * MIB, 20 * MIB, 2 * MIB


class PredictedOutOfMemory(MemoryError):
    """A request that the limit does not allow."""


@dataclass(slots=True, eq=False)
class Block:
    """A piece of a segment, with its neighbours there."""

    address: int  # negative in segments for small requests
    size: int
    used: bool = False
    previous: Block | None = None
    next: Block | None = None


_size = attrgetter("size")
_order = attrgetter("size", "address")  # of free blocks


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

    Examples:
        >>> memory = CachingAllocator()
        >>> block = memory.malloc(11 * 2**20)
        >>> memory.allocated // 2**20, memory.reserved // 2**20
        (12, 12)
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit, self.allocated, self.reserved = limit, 0, 0
        # by whether they are of segments for small requests; each in `_order`
        self._free: dict[bool, list[Block]] = {True: [], False: []}
        self._end = 0  # of the addresses given so far

    def malloc(self, size: int) -> Block:
        """Hand out a block of at least that size. Raises `PredictedOutOfMemory`."""
        if not size:
            return Block(-1, 0)
        size = rounded(size)
        small = size <= SMALL
        free = self._free[small]
        found = bisect.bisect_left(free, size, key=_size)
        block = free.pop(found) if found < len(free) else self._segment(size)
        left = block.size - size
        if left >= BLOCK if small else left > SMALL:
            rest = Block(block.address + size, left, previous=block, next=block.next)
            if rest.next:
                rest.next.previous = rest
            block.size, block.next = size, rest
            bisect.insort(free, rest, key=_order)
        block.used = True
        self.allocated += block.size
        return block

    def free(self, block: Block) -> None:
        """Take it back, and merge it with its neighbours if they are free."""
        if not block.size:
            return
        self.allocated -= block.size
        block.used = False
        free = self._free[block.address < 0]
        for other in (block.previous, block.next):
            if other and not other.used:
                del free[bisect.bisect_left(free, _order(other), key=_order)]
                first, second = (other, block) if other is block.previous else (block, other)
                first.size += second.size
                first.next = second.next
                if first.next:
                    first.next.previous = first
                block = first
        bisect.insort(free, block, key=_order)

    def _segment(self, size: int) -> Block:
        """Reserve a segment for a request, after giving back free ones where the limit demands."""
        if size <= SMALL:
            segment = _SMALL_SEGMENT
        else:
            segment = _SEGMENT if size < LARGE else -(-size // _ROUND) * _ROUND
        if self.limit is not None and self.reserved + segment > self.limit:
            for free in self._free.values():
                whole = [block for block in free if not (block.previous or block.next)]
                self.reserved -= sum(block.size for block in whole)
                free[:] = [block for block in free if block.previous or block.next]
            if self.reserved + segment > self.limit:
                used = f"with {self.allocated} in use of {self.limit}"
                raise PredictedOutOfMemory(f"{size} bytes more, {used}")
        self.reserved += segment
        self._end += segment
        return Block(-self._end if size <= SMALL else self._end - segment, segment)
