"""The regularized incomplete beta function I_x(a, b). Needs no torch.

By its continued fraction, DLMF 8.17.22 (https://dlmf.nist.gov/8.17.E22), evaluated by the modified Lentz method:
Thompson & Barnett, J. Comput. Phys. 64 (1986) 490.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

_TINY = 1e-300
_TERMS = 10_000


def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) for positive a and b and 0 <= x <= 1.

    Example:
        >>> round(incomplete_beta(2, 3, 0.5), 4)
        0.6875
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (
        a + b + 2
    ):  # the fraction converges fast below, and I_x(a, b) = 1 - I_{1-x}(b, a)
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return math.exp(log_front) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)), by modified Lentz."""
    value = c = 1.0
    d = 0.0
    for term in _terms(a, b, x):
        d = 1 / (1 + term * d or _TINY)
        c = 1 + term / c or _TINY
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _terms(a: float, b: float, x: float) -> Iterator[float]:
    """d1, d2, ... of DLMF 8.17.23."""
    for m in range(_TERMS):
        yield -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        yield (m + 1) * (b - m - 1) * x / ((a + 2 * m + 1) * (a + 2 * m + 2))
