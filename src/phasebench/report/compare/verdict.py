"""Compare two sets of results: every metric of the places that both have, BASE against NEW.

A limit is ``METRIC:+2%``, ``METRIC:-5%`` or ``METRIC:+0.1``. It is broken where the means differ by
more than it allows and, if both sides have repeats that vary, Welch's test does not explain the
difference by them (p < alpha). Without a test the limit alone decides.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phasebench.config import ConfigError
from phasebench.config.validation import nearest
from phasebench.report.collect import Collection, collect
from phasebench.report.compare.matching import Place, check_alike, closest, match
from phasebench.report.read import Run
from phasebench.report.text import is_number
from phasebench.results.stats import welch_p

Result = Literal["regression", "not judged", "within spread", "ok"]

_LIMIT = re.compile(r"([^:]+):([+-])((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(%?)", re.ASCII | re.I)
_ROUNDING = 1e-9  # of the limit: 1.02 - 1.0 is more than 0.02 in floating point


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

        Examples:
            >>> Limit.parse("ppl_ratio:+2%")
            Limit(text='ppl_ratio:+2%', metric='ppl_ratio', sign=1, size=2.0, percent=True)
        """
        parts = _LIMIT.fullmatch(text)
        if parts is None or math.isinf(float(parts[3])):
            fix = "METRIC:+2% fails above BASE by more than 2 %, METRIC:-5% below by more than 5 %,"
            fix += " METRIC:+0.1 above by 0.1"
            raise ConfigError("--fail", text, "is not a metric and a limit with its sign", fix)
        metric, sign, size, percent = parts.groups()
        return cls(text, metric, 1 if sign == "+" else -1, float(size), bool(percent))

    def exceeded(self, base: float, new: float) -> bool | None:
        """Tell whether NEW lies too far from BASE; None for a percentage of a BASE of 0.

        Examples:
            >>> Limit.parse("x:+2%").exceeded(1.0, 1.02), Limit.parse("x:-5%").exceeded(100.0, 94.0)
            (False, True)
        """
        if self.percent and base == 0:
            return None if self.sign * new > 0 else False
        allowed = self.size / 100 * abs(base) if self.percent else self.size
        return self.sign * (new - base) > allowed * (1 + _ROUNDING)


@dataclass(frozen=True)
class Side:
    """The repeats of one side, in the order of the runs."""

    mean: float | None  # None where there is no value
    values: list[float]
    deviation: float | None  # standard deviation of the repeats (n - 1); None for fewer than two
    kind: str
    reason: str | None  # why there is no value

    @classmethod
    def of(cls, bench: str, runs: Sequence[Run], name: str) -> Side:
        """Take a metric of a bench from every run that has it."""
        entries = [run.benches[bench] for run in runs]
        metrics = [entry.metrics[name] for entry in entries if name in entry.metrics]
        numbers = [metric for metric in metrics if is_number(metric.value) and not metric.is_bound]
        values = [float(metric.value) for metric in numbers if is_number(metric.value)]
        kinds = {metric.kind for metric in numbers}
        reason = None
        if len(kinds) > 1:
            values, reason = [], "some repeats are measured, others predicted"
        elif bounds := [metric.bound for metric in metrics if metric.bound]:
            reason = f"only a lower bound is known: {bounds[0]}"
        elif not numbers:
            reasons = [metric.reason for metric in metrics] + [entry.error for entry in entries]
            reason = next(filter(None, reasons), "was not reported")
        return cls(
            statistics.fmean(values) if values else None,
            values,
            statistics.stdev(values) if len(values) > 1 else None,
            kinds.pop() if len(kinds) == 1 else "measured",
            reason,
        )


@dataclass(frozen=True)
class Comparison:
    """One metric of one point, as --json prints it."""

    point: str
    metric: str  # with its bench: ppl.ppl_ratio
    unit: str
    base: Side
    new: Side
    difference: float | None  # NEW - BASE, of the means
    percent: float | None  # the difference in % of BASE; None where BASE is 0
    p: float | None  # None: there is no test, and `note` says why
    note: str | None
    limits: list[str]
    result: Result | None  # None: nothing to judge


@dataclass(frozen=True)
class Outcome:
    """What two sets of results come to, as --json prints it."""

    exit_code: int  # 0 fine; 1 a limit is broken, or a point is gone where that counts; 2 unjudged
    alpha: float
    notes: list[str]
    new: list[str]  # points that BASE lacks
    gone: list[str]  # points that NEW lacks
    comparisons: list[Comparison]


def compare(
    base: Path,
    new: Path,
    limits: Sequence[Limit],
    *,
    allow: Sequence[str] = (),
    ignore: Sequence[str] = (),
    alpha: float = 0.05,
    fail_gone: bool = False,
) -> Outcome:
    """Read both sides, match their points and judge every number.

    Raises `ConfigError` for what makes the comparison invalid: no results, broken ones (unless
    allowed), no point in common, other data or another device (unless allowed), a limit on what no
    shared point has.
    """
    sides = [_read(base, "BASE", allow), _read(new, "NEW", allow)]
    places = match(sides[0], sides[1], ignore)
    shared = [place for place in places if place.base and place.new]
    if not shared:
        what = f"BASE and NEW have no point in common{closest(places)}"
        fix = "compare runs of one configuration, or --ignore KEY for keys that should not matter"
        raise ConfigError("", "", what, fix)
    notes = []
    for side in sides:
        without = (point for point in side.points if not point.run)
        notes += [*(f"left out: {broken}" for broken in side.broken), *side.notes]
        notes += [f"{p.name}: {p.status}: {p.reason or 'no results.json'}" for p in without]
    notes += check_alike(shared, allow)
    rows = [row for place in shared for row in _compare(place, limits, alpha)]
    _check_limits(limits, rows)
    results = {row.result for row in rows}
    gone = [place.name for place in places if not place.new]
    fails = "regression" in results or (fail_gone and bool(gone))
    code = 2 if "not judged" in results else int(fails)
    added = [place.name for place in places if not place.base]
    return Outcome(code, alpha, notes, added, gone, rows)


def _check_limits(limits: Sequence[Limit], rows: Sequence[Comparison]) -> None:
    """Raise `ConfigError` for a limit that judges nothing, which would let everything pass."""
    names = sorted({row.metric.partition(".")[2] for row in rows if row.difference is not None})
    for limit in limits:
        mine = [row for row in rows if limit.text in row.limits]
        if not mine:
            what = f"no point has {limit.metric}; metrics: {', '.join(names)}"
            raise ConfigError("--fail", limit.text, what, nearest(limit.metric, names))
        if not any(row.result for row in mine):
            what = f"nothing to judge: {mine[0].note}"
            raise ConfigError("--fail", limit.text, what, "a metric that BASE has measured")


def _read(path: Path, side: str, allow: Sequence[str]) -> Collection:
    collection = collect([path])
    if collection.broken and "broken" not in allow:
        others = len(collection.broken) - 1
        what = f"{collection.broken[0]}{f' (and {others} more)' if others else ''}"
        raise ConfigError(side, path, what, "repair or remove the file, or --allow broken")
    if not any(point.run for point in collection.points):
        fix = "name a results.json, or a folder with some"
        raise ConfigError(side, path, "has no results.json that can be used", fix)
    return collection


def _compare(place: Place, limits: Sequence[Limit], alpha: float) -> Iterator[Comparison]:
    """Judge every number that both sides have, or that a limit means."""
    benches = [run.benches[place.bench] for run in (*place.base, *place.new)]
    units = {key: metric.unit for bench in benches for key, metric in bench.metrics.items()}
    for name, unit in units.items():
        base, new = (Side.of(place.bench, runs, name) for runs in (place.base, place.new))
        metric = f"{place.bench}.{name}"
        mine = [one for one in limits if one.metric in (name, metric)]
        difference = percent = None
        if base.mean is not None and new.mean is not None:
            difference = new.mean - base.mean
            percent = 100 * difference / abs(base.mean) if base.mean else None
        if mine or difference is not None:
            p, result, note = _judge(base, new, mine, alpha)
            told = [one.text for one in mine]
            row = (place.name, metric, unit, base, new, difference, percent, p, note, told, result)
            yield Comparison(*row)


def _judge(
    base: Side, new: Side, limits: Sequence[Limit], alpha: float
) -> tuple[float | None, Result | None, str | None]:
    """Compute p, and decide what the limits say; a note tells why, where that is not plain."""
    if base.mean is None:
        neither = f"neither side has one: {new.reason}"
        return None, None, neither if new.mean is None else f"BASE has none: {base.reason}"
    if new.mean is None:
        lost = f"BASE has {len(base.values)}, NEW none: {new.reason}"
        return None, "regression" if limits else None, lost
    if base.kind != new.kind:
        note = f"{base.kind} in BASE, {new.kind} in NEW: not comparable"
        return None, "not judged" if limits else None, note
    p, notes = welch_p(base.values, new.values), []
    if p is None:
        sides = {"BASE": base, "NEW": new}
        single = " and ".join(name for name, side in sides.items() if len(side.values) < 2)
        why = f"a single run in {single}" if single else "the repeats do not vary"
        notes = [f"no test: {why}"]
    result: Result | None = "ok" if limits else None
    exceeded = [limit.exceeded(base.mean, new.mean) for limit in limits]
    if True in exceeded and p is not None and p >= alpha:
        result = "within spread"
        notes = ["beyond the limit, but so are repeats", *notes]
    elif True in exceeded:
        result = "regression"
    elif None in exceeded:
        result = "not judged"
        notes = ["BASE is 0: a limit in % says nothing; set an absolute one (+0.1)", *notes]
    return p, result, "; ".join(notes) or None
