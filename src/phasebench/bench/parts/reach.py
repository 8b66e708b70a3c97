"""How many tokens a training reads until its validation perplexity is that of another one.

A selection of tokens claims to learn faster, so its measure is not the end of a training: the level
is what the training without selection has at 70 % of its budget. Between two validations nats are
linear in the logarithm of the tokens. Read tokens count, scored or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEVEL = 0.7  # of the budget of the training without selection
VALIDATIONS = 50  # in a training, at least: one in 2 % of its budget


class NotReached(ValueError):
    """There is no such number; the message says why."""


def sparsest(steps: int) -> int:
    """Return the most steps between two validations of a training of so many steps."""
    return max(1, steps // VALIDATIONS)


def log_ratio(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> float:
    """Compute ln(tokens / tokens) until both have the level of theirs, from their validations.

    Batches of both have the same size. Raises `NotReached` where ours never has it, or where
    validations are too sparse.

    >>> theirs = [{"step": n, "nats_per_token": 9 - math.log(n)} for n in range(1, 101)]
    >>> faster = [{"step": n, "nats_per_token": 9 - math.log(2 * n)} for n in range(1, 101)]
    >>> round(math.exp(log_ratio(faster, theirs)), 6)
    0.5
    """
    (steps, nats), (their_steps, their_nats) = (
        np.array([(v["step"], v["nats_per_token"]) for v in one], dtype=float).reshape(-1, 2).T
        for one in (ours, theirs)
    )
    for each in (steps, their_steps):
        limit = sparsest(int(max(each, default=0)))
        if len(each) < 2 or max(np.diff(each)) > limit:
            raise NotReached(f"validations are too sparse: train.validate_every={limit} at most")
    reached = math.log(LEVEL * their_steps[-1])
    level = np.interp(reached, np.log(their_steps), their_nats)
    below = np.flatnonzero(nats <= level)
    if not len(below):
        raise NotReached("a training with selection never has the level of the one without")
    i = int(below[0])
    if i == 0:
        raise NotReached("a training with selection has the level before its first validation")
    first = np.interp(-level, -nats[i - 1 : i + 1], np.log(steps[i - 1 : i + 1]))
    return float(first - reached)
