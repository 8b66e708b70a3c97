"""Times of several things to compare: interleaved, in changing order, after a warm-up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from phasebench.results.progress import Work


@dataclass(frozen=True)
class Timed:
    """Raw samples of one thing: seconds, and peak bytes of the caching allocator (None without a
    GPU).
    """

    seconds: list[float]
    peak_bytes: list[int] | None

    @property
    def median_s(self) -> float:
        """The upper median: always a sample."""
        return sorted(self.seconds)[len(self.seconds) // 2]


def interleaved(
    things: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warmup: int,
    seed: int,
    device: torch.device,
) -> dict[str, Timed]:
    """Call each thing warmup times, then all of them `repeats` rounds, shuffled anew each round.

    The machine's load then falls on all alike. What a thing raises goes to the caller.
    """
    order, seconds, peaks = list(things), {n: [] for n in things}, {n: [] for n in things}
    on_gpu = device.type == "cuda"
    shuffle = random.Random(seed).shuffle
    with Work("timed calls", (warmup + repeats) * len(order)) as work:
        for name in order * warmup:
            things[name]()
            work.tick()
        for _ in range(repeats):
            shuffle(order)
            for name in order:
                if on_gpu:
                    torch.cuda.synchronize(device)
                    torch.cuda.reset_peak_memory_stats(device)
                start = time.perf_counter()
                things[name]()
                if on_gpu:
                    torch.cuda.synchronize(device)
                    peaks[name].append(torch.cuda.max_memory_allocated(device))
                seconds[name].append(time.perf_counter() - start)
                work.tick()
    return {name: Timed(seconds[name], peaks[name] if on_gpu else None) for name in things}
