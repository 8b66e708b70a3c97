"""A factorial over parts: which are on in each training, and what each does by least squares.

Legend: x_i = 1/2 where part i is on and -1/2 where it is off; y a logarithm, as of a perplexity;

    y = b + sum_i b_i x_i + sum_{i<j} b_ij x_i x_j + noise

b_i is the effect of part i, averaged over the other parts on and off. b_ij is how much more part i
does with part j on than off. e^b is a ratio. Each effect rests on all trainings (Box, Hunter &
Hunter 2005, "Statistics for Experimenters", chapter 5).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from phasebench.results.stats import quantile

Cell = frozenset[str]  # the parts that are on
NEEDS = {"mera": "memory"}  # a part that is on only where another is


def cells(parts: Sequence[str]) -> list[Cell]:
    """List all combinations of parts that can be, from all off to all on.

    >>> [sorted(cell) for cell in cells(["memory", "mera"])]
    [[], ['memory'], ['memory', 'mera']]
    """
    every = itertools.product((False, True), repeat=len(parts))
    made = (frozenset(itertools.compress(parts, on)) for on in every)
    missing = [(p, needed) for p, needed in NEEDS.items() if needed in parts]
    return [cell for cell in made if not any(p in cell and n not in cell for p, n in missing)]


def assigned(trainings: Sequence[Cell], seeds: Sequence[int], parts: Sequence[str]) -> list[int]:
    """Give each training a random seed, so that seeds are used equally often, and each equally
    often with a part on and off, as far as that can be.

    >>> assigned([frozenset(), frozenset("a"), frozenset("b"), frozenset("ab")], [3, 4], "ab")
    [3, 4, 4, 3]
    """
    used: dict[int, list[Cell]] = {seed: [] for seed in seeds}

    def cost(seed: int, cell: Cell) -> tuple[int, int]:
        own = [*used[seed], cell]
        excess = (sum(1 if part in past else -1 for past in own) for part in parts)
        return len(own), sum(n * n for n in excess)

    chosen = []
    for cell in trainings:
        chosen.append(min(seeds, key=lambda seed: cost(seed, cell)))
        used[chosen[-1]].append(cell)
    return chosen


@dataclass(frozen=True)
class Effect:
    """What a part does to a quantity: a logarithm of a ratio, with its 95 % t interval, if any."""

    part: str  # "memory"; "memory x margin" is an interaction
    log: float
    half: float | None  # half of the interval's width; None: no degree of freedom is left
    df: int

    def ends(self, to: Callable[[float], float]) -> tuple[float | None, float | None]:
        """Return the ends of the interval, each brought to another unit."""
        if self.half is None:
            return None, None
        return to(self.log - self.half), to(self.log + self.half)


ALL = "all"  # the name of the effect of all parts on, against all off


def effects(trainings: Sequence[Cell], y: Sequence[float], parts: Sequence[str]) -> list[Effect]:
    """Fit the effect of all parts together, of each part, and of each pair whose four combinations
    there are.

    Raises ValueError where the trainings cannot tell the effects apart.
    """
    on = np.array([[part in cell for part in parts] for cell in trainings])
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(len(parts)), 2)
        if len({(a, b) for a, b in on[:, [i, j]]}) == 4
    ]
    x = on - 0.5
    columns = [np.ones(len(y)), *x.T, *(x[:, i] * x[:, j] for i, j in pairs)]
    X, values = np.stack(columns, 1), np.array(y)
    if np.linalg.matrix_rank(X) < X.shape[1]:
        raise ValueError(f"{len(y)} trainings cannot tell {X.shape[1]} effects apart")
    inverse = np.linalg.inv(X.T @ X)
    b = inverse @ X.T @ values
    df = len(y) - X.shape[1]
    t = quantile(df) if df else math.nan
    residual = values - X @ b
    variance = float(residual @ residual) / df if df else math.nan
    names = [*parts, *(f"{parts[i]} x {parts[j]}" for i, j in pairs)]
    together = np.zeros(len(b))
    together[1 : len(parts) + 1] = 1.0  # products are the same with all on and all off
    contrasts = [(ALL, together), *zip(names, np.eye(len(b))[1:], strict=True)]
    return [
        Effect(
            name,
            float(weight @ b),
            t * math.sqrt(variance * float(weight @ inverse @ weight)) if df else None,
            df,
        )
        for name, weight in contrasts
    ]
