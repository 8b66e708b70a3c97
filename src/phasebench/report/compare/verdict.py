"""A metric at one point, BASE against NEW: means, difference, test, and what the limit says.

A limit is broken where the means differ by more than it allows and, if both sides have repeats that vary, Welch's test
does not explain the difference by them (p < alpha).  Without a test the limit alone decides.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from phasebench.report.compare.limits import Limit
from phasebench.report.compare.matching import Place
from phasebench.report.table import is_number
from phasebench.results.gate import Metric
from phasebench.results.welch import welch_p

Result = Literal["regression", "ok", "within spread", "not judged", ""]


@dataclass(frozen=True)
class Side:
    """The repeats of one side, in the order of the runs; `reason` says why there are none, or none usable."""

    values: tuple[float, ...]
    unit: str = ""
    kind: str = "measured"
    reason: str | None = None

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
    p: float | None  # None: there is no test, and `note` says why
    note: str
    limits: tuple[Limit, ...] = ()
    result: Result = ""  # "": nothing to judge

    @property
    def name(self) -> str:
        """Bench and metric."""
        return f"{self.place.bench}.{self.metric}"

    @property
    def difference(self) -> float | None:
        """NEW - BASE, of the means."""
        return (
            None
            if self.base.mean is None or self.new.mean is None
            else self.new.mean - self.base.mean
        )

    @property
    def percent(self) -> float | None:
        """The difference in % of BASE; None where BASE is 0 or there is no difference to tell."""
        if self.difference is None or not self.base.mean:
            return None
        return 100 * self.difference / abs(self.base.mean)


def compare(base: Place, new: Place, limits: Sequence[Limit], alpha: float) -> list[Comparison]:
    """Every number that either side has."""
    names = dict.fromkeys(
        key for place in (base, new) for r in place.repeats for key in r.bench.metrics
    )
    found = []
    for name in names:
        sides = _side(base, name), _side(new, name)
        applying = tuple(limit for limit in limits if applies(limit, base.bench, name))
        if applying or all(side.values for side in sides):
            found.append(_judged(base, name, *sides, applying, alpha))
    return found


def applies(limit: Limit, bench: str, metric: str) -> bool:
    """Whether a limit means that metric: by its name, or by bench and name."""
    return limit.metric in (metric, f"{bench}.{metric}")


def _side(place: Place, name: str) -> Side:
    metrics = [
        repeat.bench.metrics[name] for repeat in place.repeats if name in repeat.bench.metrics
    ]
    numbers = [metric for metric in metrics if is_number(metric.value) and not metric.is_bound]
    values = tuple(float(metric.value) for metric in numbers)  # type: ignore[arg-type]
    kinds = {metric.kind for metric in numbers}
    if len(kinds) > 1:
        return Side((), reason="some repeats are measured, others predicted")
    unit = metrics[0].plain_unit if metrics else ""
    return Side(
        values, unit, kinds.pop() if kinds else "measured", None if values else _why(place, metrics)
    )


def _why(place: Place, metrics: Sequence[Metric]) -> str:
    """Why no repeat has a value."""
    if any(metric.is_bound for metric in metrics):
        return f"only a lower bound is known ({metrics[0].unit})"
    reasons = [metric.reason for metric in metrics if metric.reason] or [
        r.bench.error for r in place.repeats
    ]
    return next(filter(None, reasons), "was not reported")


def _judged(
    place: Place, name: str, base: Side, new: Side, limits: tuple[Limit, ...], alpha: float
) -> Comparison:
    p, note = None, ""
    if base.kind != new.kind and base.values and new.values:
        note = f"{base.kind} in BASE, {new.kind} in NEW: not comparable"
        return Comparison(
            place, name, base, new, None, note, limits, "not judged" if limits else ""
        )
    if base.values and new.values:
        p = welch_p(base.values, new.values)
        note = _no_test(base, new) if p is None else ""
    result, reason = _result(base, new, limits, p, alpha)
    return Comparison(
        place, name, base, new, p, "; ".join(filter(None, (reason, note))), limits, result
    )


def _no_test(base: Side, new: Side) -> str:
    """Why the difference cannot be tested."""
    single = [name for name, side in (("BASE", base), ("NEW", new)) if len(side.values) < 2]
    if single:
        return f"no test: a single run in {' and '.join(single)}"
    return "no test: the repeats do not vary"


def _result(
    base: Side, new: Side, limits: Sequence[Limit], p: float | None, alpha: float
) -> tuple[Result, str]:
    """What the limits say, and why where that is not plain."""
    if not limits:
        return "", ""
    if base.mean is None:
        return (
            "",
            f"BASE has none: {base.reason}"
            if new.mean is not None
            else f"neither side has one: {new.reason}",
        )
    if new.mean is None:
        return "regression", f"BASE has {len(base.values)}, NEW none: {new.reason}"
    exceeded = [limit.exceeded(base.mean, new.mean) for limit in limits]
    if True in exceeded:
        beyond = p is None or p < alpha
        return (
            ("regression", "")
            if beyond
            else ("within spread", "beyond the limit, but so are repeats")
        )
    if None in exceeded:
        return "not judged", "BASE is 0: a limit in % says nothing; set an absolute one (+0.1)"
    return "ok", ""
