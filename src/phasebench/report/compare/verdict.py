"""Judge a metric at one point, BASE against NEW: means, difference, test, and what the limits say.

A limit is ``METRIC:+2%``, ``METRIC:-5%`` or ``METRIC:+0.1``. It is broken where the means differ by
more than it allows and, if both sides have repeats that vary, Welch's test does not explain the
difference by them (p < alpha). Without a test the limit alone decides.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from phasebench.config import ConfigError
from phasebench.report.compare.matching import Place
from phasebench.report.text import is_number
from phasebench.results.stats import welch_p

Result = Literal["regression", "ok", "within spread", "not judged", ""]

_LIMIT = re.compile(
    r"(?P<metric>[^:]+):(?P<sign>[+-])(?P<size>[0-9.]+(?:[eE][+-]?[0-9]+)?)(?P<percent>%?)"
)
_ROUNDING = 1e-9  # of the limit: 1.02 - 1.0 is more than 0.02 in floating point
_FIX = (
    "METRIC:+2% fails above BASE by more than 2 %, METRIC:-5% below by more than 5 %,"
    " METRIC:+0.1 above by 0.1"
)


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
        """Read a limit from the command line. Raises `ConfigError` for what is none.

        Example:
            >>> Limit.parse("ppl_ratio:+2%")
            Limit(text='ppl_ratio:+2%', metric='ppl_ratio', sign=1, size=2.0, percent=True)
        """
        parts = _LIMIT.fullmatch(text)
        try:
            size = float(parts["size"]) if parts else math.nan
        except ValueError:  # 1.2.3
            size = math.nan
        if parts is None or not math.isfinite(size):
            raise ConfigError("--fail", text, "is not a metric and a limit with its sign", _FIX)
        sign = 1 if parts["sign"] == "+" else -1
        return cls(text, parts["metric"], sign, size, bool(parts["percent"]))

    def applies(self, bench: str, metric: str) -> bool:
        """Tell whether it means that metric: by its name, or by bench and name."""
        return self.metric in (metric, f"{bench}.{metric}")

    def exceeded(self, base: float, new: float) -> bool | None:
        """Tell whether NEW lies too far from BASE; None for a percentage of a BASE of 0.

        Example:
            >>> Limit.parse("x:+2%").exceeded(1.0, 1.02), Limit.parse("x:-5%").exceeded(100.0, 94.0)
            (False, True)
        """
        if self.percent and base == 0:
            return None if self.sign * new > 0 else False
        allowed = self.size / 100 * abs(base) if self.percent else self.size
        return self.sign * (new - base) > allowed * (1 + _ROUNDING)


@dataclass(frozen=True)
class Side:
    """The repeats of one side, in the order of the runs; `reason` says why none can be used."""

    values: tuple[float, ...]
    unit: str = ""
    kind: str = "measured"
    reason: str | None = None

    @classmethod
    def of(cls, place: Place, name: str) -> Side:
        """Take a metric from every repeat that has it."""
        benches = [repeat.bench for repeat in place.repeats]
        metrics = [bench.metrics[name] for bench in benches if name in bench.metrics]
        numbers = [metric for metric in metrics if is_number(metric.value) and not metric.is_bound]
        kinds = {metric.kind for metric in numbers}
        if len(kinds) > 1:
            return cls((), reason="some repeats are measured, others predicted")
        reason = None
        if bounds := [metric.bound for metric in metrics if metric.bound]:
            reason = f"only a lower bound is known: {bounds[0]}"
        elif not numbers:
            reasons = [metric.reason for metric in metrics] + [bench.error for bench in benches]
            reason = next(filter(None, reasons), "was not reported")
        values = tuple(float(metric.value) for metric in numbers if is_number(metric.value))
        unit = metrics[0].unit if metrics else ""
        return cls(values, unit, kinds.pop() if kinds else "measured", reason)

    @property
    def mean(self) -> float | None:
        """None where there is no value."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the repeats (n - 1); None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """One metric of one point."""

    place: Place
    metric: str
    base: Side
    new: Side
    limits: tuple[Limit, ...] = ()
    p: float | None = None  # None: there is no test, and `note` says why
    result: Result = ""  # "": nothing to judge
    note: str = ""

    @property
    def difference(self) -> float | None:
        """NEW - BASE, of the means."""
        base, new = self.base.mean, self.new.mean
        return None if base is None or new is None else new - base

    @property
    def percent(self) -> float | None:
        """The difference in % of BASE; None where BASE is 0 or there is no difference to tell."""
        if self.difference is None or not self.base.mean:
            return None
        return 100 * self.difference / abs(self.base.mean)


def compare(base: Place, new: Place, limits: Sequence[Limit], alpha: float) -> list[Comparison]:
    """Judge every number that both sides have, or that a limit means."""
    names = [key for place in (base, new) for r in place.repeats for key in r.bench.metrics]
    comparisons = []
    for name in dict.fromkeys(names):
        old, now = Side.of(base, name), Side.of(new, name)
        applying = tuple(limit for limit in limits if limit.applies(base.bench, name))
        if applying or (old.values and now.values):
            p, result, note = _judge(old, now, applying, alpha)
            comparisons.append(Comparison(base, name, old, now, applying, p, result, note))
    return comparisons


def _judge(
    base: Side, new: Side, limits: Sequence[Limit], alpha: float
) -> tuple[float | None, Result, str]:
    """Compute p, and decide what the limits say; a note tells why, where that is not plain."""
    if base.mean is None:
        neither = f"neither side has one: {new.reason}"
        return None, "", neither if new.mean is None else f"BASE has none: {base.reason}"
    if new.mean is None:
        lost = f"BASE has {len(base.values)}, NEW none: {new.reason}"
        return None, "regression" if limits else "", lost
    if base.kind != new.kind:
        note = f"{base.kind} in BASE, {new.kind} in NEW: not comparable"
        return None, "not judged" if limits else "", note
    p, notes = welch_p(base.values, new.values), []
    if p is None:
        sides = {"BASE": base, "NEW": new}
        single = " and ".join(name for name, side in sides.items() if len(side.values) < 2)
        why = f"a single run in {single}" if single else "the repeats do not vary"
        notes = [f"no test: {why}"]
    result: Result = "ok" if limits else ""
    exceeded = [limit.exceeded(base.mean, new.mean) for limit in limits]
    if True in exceeded and p is not None and p >= alpha:
        result = "within spread"
        notes = ["beyond the limit, but so are repeats", *notes]
    elif True in exceeded:
        result = "regression"
    elif None in exceeded:
        result = "not judged"
        notes = ["BASE is 0: a limit in % says nothing; set an absolute one (+0.1)", *notes]
    return p, result, "; ".join(notes)
