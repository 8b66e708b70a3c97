"""Compare two sets of results: everything that was found, and the exit code that it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasebench.config import ConfigError
from phasebench.config.validation import nearest
from phasebench.report.collect import Collection, collect
from phasebench.report.compare.matching import Place, check_alike, closest, place_names, places
from phasebench.report.compare.verdict import Comparison, Limit, Side, compare

_NAME_ONE = "name a results.json, or a folder with some"


@dataclass(frozen=True)
class Outcome:
    """What two sets of results come to.

    Attributes:
        names: a point's key -> the settings in which the points differ, for people.
    """

    comparisons: list[Comparison]
    new: list[Place]
    gone: list[Place]
    notes: list[str]
    names: dict[str, str]
    alpha: float
    fail_gone: bool = False

    @property
    def exit_code(self) -> int:
        """0 fine; 1 a limit is broken, or a point gone where that counts; 2 one was not judged."""
        results = [comparison.result for comparison in self.comparisons]
        if "not judged" in results:
            return 2
        return 1 if "regression" in results or (self.fail_gone and self.gone) else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for --json."""
        return {
            "exit_code": self.exit_code,
            "alpha": self.alpha,
            "notes": self.notes,
            "new": [self.names[place.key] for place in self.new],
            "gone": [self.names[place.key] for place in self.gone],
            "comparisons": [
                {
                    "point": self.names[row.place.key],
                    "metric": f"{row.place.bench}.{row.metric}",
                    "unit": row.base.unit or row.new.unit,
                    "base": _plain(row.base),
                    "new": _plain(row.new),
                    "difference": row.difference,
                    "percent": row.percent,
                    "p": row.p,
                    "note": row.note or None,
                    "limits": [limit.text for limit in row.limits],
                    "result": row.result or None,
                }
                for row in self.comparisons
            ],
        }


def outcome(
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
    old, now = (places(side, ignore) for side in sides)
    shared = [(old[key], now[key]) for key in old if key in now]
    if not shared:
        fix = "compare runs of one configuration, or --ignore KEY for keys that should not matter"
        told = closest(old.values(), now.values())
        raise ConfigError("", "", f"BASE and NEW have no point in common{told}", fix)
    notes = []
    for side in sides:
        without = (point for point in side.points if not point.run)
        notes += [*(f"left out: {broken}" for broken in side.broken), *side.notes]
        notes += [f"{p.name}: {p.status}: {p.reason or 'no results.json'}" for p in without]
    notes += check_alike(shared, allow)
    comparisons = [one for pair in shared for one in compare(*pair, limits, alpha)]
    _check_limits(limits, comparisons)
    return Outcome(
        comparisons,
        [place for key, place in now.items() if key not in old],
        [place for key, place in old.items() if key not in now],
        notes,
        place_names({**old, **now}.values()),
        alpha,
        fail_gone,
    )


def _read(path: Path, side: str, allow: Sequence[str]) -> Collection:
    if not path.exists():
        raise ConfigError(side, path, "there is no such file or folder", _NAME_ONE)
    collection = collect([path])
    if collection.broken and "broken" not in allow:
        others = len(collection.broken) - 1
        what = f"{collection.broken[0]}{f' (and {others} more)' if others else ''}"
        raise ConfigError(side, path, what, "repair or remove the file, or --allow broken")
    if not any(point.run for point in collection.points):
        raise ConfigError(side, path, "has no results.json that can be used", _NAME_ONE)
    return collection


def _check_limits(limits: Sequence[Limit], comparisons: Sequence[Comparison]) -> None:
    """Raise `ConfigError` for a limit that judges nothing, which would let everything pass."""
    names = sorted({one.metric for one in comparisons if one.base.values and one.new.values})
    for limit in limits:
        mine = [one for one in comparisons if limit in one.limits]
        if not mine:
            what = f"no point has {limit.metric}; metrics: {', '.join(names)}"
            raise ConfigError("--fail", limit.text, what, nearest(limit.metric, names))
        if not any(one.result for one in mine):
            what = f"nothing to judge: {mine[0].note}"
            raise ConfigError("--fail", limit.text, what, "a metric that BASE has measured")


def _plain(side: Side) -> dict[str, Any]:
    return {
        "mean": side.mean,
        "values": list(side.values),
        "deviation": side.deviation,
        "kind": side.kind,
        "reason": side.reason,
    }
