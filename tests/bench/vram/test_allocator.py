"""The simulated caching allocator: which block, what is reserved, when memory runs out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasebench.bench.vram.allocator import (
    BLOCK,
    CachingAllocator,
    ExactAllocator,
    PredictedOutOfMemory,
    rounded,
)

MIB = 2**20


def test_sizes_are_rounded_to_blocks() -> None:
    assert [rounded(n) for n in (1, 512, 513, 1024)] == [512, 512, 1024, 1024]
    memory = ExactAllocator()
    memory.malloc(0)
    block = memory.malloc(700)
    assert memory.allocated == 1024
    memory.free(block)
    assert (memory.allocated, memory.reserved) == (0, 1024)


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, BLOCK, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + BLOCK, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # a rest of up to 1 MiB is not cut off
        (49 * MIB + 1, 50 * MIB, 50 * MIB),
        (
            51_463_168,
            52_428_800,
            52_428_800,
        ),  # 256 x 50,257 float32 numbers, as the H100 of the kept run counted them
    ],
)
def test_segments(size: int, allocated: int, reserved: int) -> None:
    memory = CachingAllocator()
    memory.malloc(size)
    assert (memory.allocated, memory.reserved) == (allocated, reserved)


def test_the_smallest_free_block_that_fits_is_cut_and_neighbours_are_merged() -> None:
    memory = CachingAllocator()
    large, small = memory.malloc(40 * MIB), memory.malloc(20 * MIB)
    memory.free(large)
    memory.free(small)
    again = memory.malloc(15 * MIB)
    assert memory.reserved == 60 * MIB
    rest = memory.malloc(5 * MIB)  # what is left of the 20
    assert memory.reserved == 60 * MIB
    memory.free(again)
    memory.free(rest)
    memory.malloc(20 * MIB)  # fits only if both halves are one again
    memory.malloc(40 * MIB)
    assert memory.reserved == 60 * MIB


def test_a_limit_first_gives_back_what_is_free() -> None:
    memory = CachingAllocator(limit=100 * MIB)
    first = memory.malloc(60 * MIB)
    memory.free(first)
    memory.malloc(70 * MIB)
    assert memory.reserved == 70 * MIB
    with pytest.raises(PredictedOutOfMemory):
        memory.malloc(40 * MIB)


def test_a_segment_in_use_cannot_be_given_back() -> None:
    memory = CachingAllocator(limit=100 * MIB)
    first = memory.malloc(80 * MIB)
    memory.free(first)
    memory.malloc(15 * MIB)  # of the 80
    with pytest.raises(PredictedOutOfMemory):
        memory.malloc(70 * MIB)
    memory.malloc(65 * MIB)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60 * MIB)), max_size=60))
@settings(deadline=None, max_examples=60)
def test_blocks_never_overlap_and_all_can_be_returned(events: list[tuple[bool, int]]) -> None:
    memory, held = CachingAllocator(), []
    for release, size in events:
        if release and held:
            memory.free(held.pop(size % len(held)))
        else:
            held.append(memory.malloc(size))
        spans = sorted((b.address, b.address + b.size) for b in held if b.size)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert memory.allocated == sum(b.size for b in held) <= memory.reserved
    for block in held:
        memory.free(block)
    free = [block for pool in memory._free.values() for block in pool]
    assert memory.allocated == 0
    assert sum(block.size for block in free) == memory.reserved
    # every segment is whole again
    assert not any(block.previous or block.next for block in free)
