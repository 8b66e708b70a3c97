"""Welch's t-test: whether two means differ by more than the spread of their repeats explains.

    t = (m1 - m0) / sqrt(v0/n0 + v1/n1)
    degrees = (v0/n0 + v1/n1)^2 / ((v0/n0)^2 / (n0 - 1) + (v1/n1)^2 / (n1 - 1))
    p = P(|T| > |t|)          two-sided, T Student's with those degrees of freedom

m mean, v variance (n - 1), n repeats. Welch, Biometrika 34 (1947) 28; the degrees of freedom are Satterthwaite's,
Biometrics Bulletin 2 (1946) 110.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from phasebench.results.stats import beyond


def welch_p(base: Sequence[float], new: Sequence[float]) -> float | None:
    """The two-sided p-value; None where there is no test: fewer than two values on a side, or no spread at all.

    Example:
        >>> round(welch_p([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), 3)
        0.288
    """
    if min(len(base), len(new)) < 2:
        return None
    share = [statistics.variance(side) / len(side) for side in (base, new)]
    if sum(share) == 0 or not math.isfinite(sum(share)):
        return None
    t = (statistics.fmean(new) - statistics.fmean(base)) / math.sqrt(sum(share))
    relative = [
        part / sum(share) for part in share
    ]  # so that squares of tiny variances do not vanish
    degrees = 1 / sum(
        part**2 / (len(side) - 1) for part, side in zip(relative, (base, new), strict=True)
    )
    return beyond(t, degrees)
