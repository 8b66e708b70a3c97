"""Compare two sets of results: every metric of the places that both have, BASE against NEW.

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
from pathlib import Path
from typing import Literal

from phasebench.config import ConfigError
from phasebench.config.validation import nearest
from phasebench.report.collect import Collection, collect
from phasebench.report.compare.matching import Place, check_alike, closest, match
from phasebench.report.read import Run
from phasebench.report.text import is_number
from phasebench.results.stats import welch_p

Result = Literal["regression", "ok", "within spread", "not judged", ""]

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

        Example:
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
    def of(cls, bench: str, runs: Sequence[Run], name: str) -> Side:
        """Take a metric of a bench from every run that has it."""
        entries = [run.benches[bench] for run in runs]
        metrics = [entry.metrics[name] for entry in entries if name in entry.metrics]
        numbers = [metric for metric in metrics if is_number(metric.value) and not metric.is_bound]
        kinds = {metric.kind for metric in numbers}
        if len(kinds) > 1:
            return cls((), reason="some repeats are measured, others predicted")
        reason = None
        if bounds := [metric.bound for metric in metrics if metric.bound]:
            reason = f"only a lower bound is known: {bounds[0]}"
        elif not numbers:
            reasons = [metric.reason for metric in metrics] + [entry.error for entry in entries]
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
    """One metric at one place."""

    place: Place
    metric: str
    base: Side
    new: Side
    limits: Sequence[Limit]
    p: float | None  # None: there is no test, and `note` says why
    result: Result  # "": nothing to judge
    note: str

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


@dataclass(frozen=True)
class Outcome:
    """What two sets of results come to: the places of either, and every metric of the shared."""

    places: list[Place]
    comparisons: list[Comparison]
    notes: list[str]
    alpha: float
    fail_gone: bool

    @property
    def new(self) -> list[str]:
        """Name the places that BASE lacks."""
        return [place.name for place in self.places if not place.base]

    @property
    def gone(self) -> list[str]:
        """Name the places that NEW lacks."""
        return [place.name for place in self.places if not place.new]

    @property
    def exit_code(self) -> int:
        """0 fine; 1 a limit is broken, or a place gone where that counts; 2 one was not judged."""
        results = [comparison.result for comparison in self.comparisons]
        if "not judged" in results:
            return 2
        return 1 if "regression" in results or (self.fail_gone and self.gone) else 0


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
    comparisons = [one for place in shared for one in _compare(place, limits, alpha)]
    names = sorted({one.metric for one in comparisons if one.base.values and one.new.values})
    for limit in limits:  # one that judges nothing would let everything pass
        mine = [one for one in comparisons if limit in one.limits]
        if not mine:
            what = f"no point has {limit.metric}; metrics: {', '.join(names)}"
            raise ConfigError("--fail", limit.text, what, nearest(limit.metric, names))
        if not any(one.result for one in mine):
            what = f"nothing to judge: {mine[0].note}"
            raise ConfigError("--fail", limit.text, what, "a metric that BASE has measured")
    return Outcome(places, comparisons, notes, alpha, fail_gone)


def _read(path: Path, side: str, allow: Sequence[str]) -> Collection:
    fix = "name a results.json, or a folder with some"
    if not path.exists():
        raise ConfigError(side, path, "there is no such file or folder", fix)
    collection = collect([path])
    if collection.broken and "broken" not in allow:
        others = len(collection.broken) - 1
        what = f"{collection.broken[0]}{f' (and {others} more)' if others else ''}"
        raise ConfigError(side, path, what, "repair or remove the file, or --allow broken")
    if not any(point.run for point in collection.points):
        raise ConfigError(side, path, "has no results.json that can be used", fix)
    return collection


def _compare(place: Place, limits: Sequence[Limit], alpha: float) -> list[Comparison]:
    """Judge every number that both sides have, or that a limit means."""
    benches = [run.benches[place.bench] for run in (*place.base, *place.new)]
    comparisons = []
    for name in dict.fromkeys(key for bench in benches for key in bench.metrics):
        base, new = (Side.of(place.bench, runs, name) for runs in (place.base, place.new))
        mine = [one for one in limits if one.metric in (name, f"{place.bench}.{name}")]
        if mine or (base.values and new.values):
            judged = _judge(base, new, mine, alpha)
            comparisons.append(Comparison(place, name, base, new, mine, *judged))
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
