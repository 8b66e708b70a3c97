"""What counts as a regression: ``METRIC:+2%``, ``METRIC:-5%``, ``METRIC:+0.1``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from phasebench.config import ConfigError

_LIMIT = re.compile(
    r"(?P<metric>[^:]+):(?P<sign>[+-])(?P<size>[0-9.]+(?:[eE][+-]?[0-9]+)?)(?P<percent>%?)"
)
_ROUNDING = 1e-9  # of the limit: 1.02 - 1.0 is more than 0.02 in floating point
_FIX = "METRIC:+2% fails above BASE by more than 2 %, METRIC:-5% below by more than 5 %, METRIC:+0.1 above by 0.1"


@dataclass(frozen=True)
class Limit:
    """How far NEW may lie above (sign 1) or below (sign -1) BASE."""

    text: str
    metric: str
    sign: int
    size: float
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Raises `ConfigError` for what is no limit.

        Example:
            >>> Limit.parse("ppl_ratio:+2%")
            Limit(text='ppl_ratio:+2%', metric='ppl_ratio', sign=1, size=2.0, percent=True)
        """
        found = _LIMIT.fullmatch(text)
        try:
            size = float(found["size"]) if found else math.nan
        except ValueError:
            size = math.nan
        if found is None or not math.isfinite(size):
            raise ConfigError("--fail", text, "is not a metric and a limit with its sign", _FIX)
        sign = 1 if found["sign"] == "+" else -1
        return cls(text, found["metric"], sign, size, bool(found["percent"]))

    def exceeded(self, base: float, new: float) -> bool | None:
        """Whether NEW lies too far from BASE in the limit's direction; None for a percentage of a BASE of 0.

        Example:
            >>> Limit.parse("x:+2%").exceeded(1.0, 1.02), Limit.parse("x:-5%").exceeded(100.0, 94.0)
            (False, True)
        """
        if self.percent and base == 0:
            return None if self.sign * new > 0 else False
        allowed = self.size / 100 * abs(base) if self.percent else self.size
        return self.sign * (new - base) > allowed * (1 + _ROUNDING)
