"""Everything that a comparison found, and the exit code that it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasebench.config import ConfigError
from phasebench.config.validation import nearest
from phasebench.report.axes import short
from phasebench.report.collect import Collection, collect
from phasebench.report.compare.limits import Limit
from phasebench.report.compare.matching import Place, check_alike, differing, places
from phasebench.report.compare.verdict import Comparison, Side, applies, compare


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
        """0 fine, 1 a limit is broken (or a point gone, if that counts), 2 a limit could not be judged."""
        results = [comparison.result for comparison in self.comparisons]
        if "not judged" in results:
            return 2
        return 1 if "regression" in results or (self.fail_gone and self.gone) else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {
            "exit_code": self.exit_code,
            "alpha": self.alpha,
            "notes": self.notes,
            "new": [self.names[place.key] for place in self.new],
            "gone": [self.names[place.key] for place in self.gone],
            "comparisons": [self._entry(comparison) for comparison in self.comparisons],
        }

    def _entry(self, found: Comparison) -> dict[str, Any]:
        return {
            "point": self.names[found.place.key],
            "metric": found.name,
            "unit": found.base.unit or found.new.unit,
            "base": _side(found.base),
            "new": _side(found.new),
            "difference": found.difference,
            "percent": found.percent,
            "p": found.p,
            "note": found.note or None,
            "limits": [limit.text for limit in found.limits],
            "result": found.result or None,
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

    Raises `ConfigError` for what makes the comparison invalid: no results, broken ones (unless allowed), no point in
    common, other data or another device (unless allowed), a limit on what no shared point has.
    """
    sides = [_read(base, "BASE", allow), _read(new, "NEW", allow)]
    old, now = (places(side, ignore) for side in sides)
    shared = [(old[key], now[key]) for key in old if key in now]
    if not shared:
        fix = "compare runs of one configuration, or --ignore KEY for keys that should not matter"
        raise ConfigError("", "", f"BASE and NEW have no point in common{_closest(old, now)}", fix)
    notes = [note for side in sides for note in _notes(side)] + check_alike(shared, allow)
    found = [comparison for pair in shared for comparison in compare(*pair, limits, alpha)]
    _check_limits(limits, found)
    return Outcome(
        found,
        [place for key, place in now.items() if key not in old],
        [place for key, place in old.items() if key not in now],
        notes,
        _names({**old, **now}),
        alpha,
        fail_gone,
    )


def _read(path: Path, side: str, allow: Sequence[str]) -> Collection:
    if not path.exists():
        raise ConfigError(
            side,
            path,
            "there is no such file or folder",
            "name a results.json, or a folder with some",
        )
    found = collect([path])
    if found.broken and "broken" not in allow:
        more = f" (and {len(found.broken) - 1} more)" if len(found.broken) > 1 else ""
        raise ConfigError(
            side, path, f"{found.broken[0]}{more}", "repair or remove the file, or --allow broken"
        )
    if not any(point.run for point in found.points):
        raise ConfigError(
            side,
            path,
            "has no results.json that can be used",
            "name a results.json, or a folder with some",
        )
    return found


def _notes(side: Collection) -> list[str]:
    """What was left out of a side."""
    unmeasured = [
        f"{point.name}: {point.status}: {point.reason or 'no results.json'}"
        for point in side.points
        if not point.run
    ]
    return [*(f"left out: {broken}" for broken in side.broken), *side.notes, *unmeasured]


def _closest(old: dict[str, Place], now: dict[str, Place]) -> str:
    """How the configurations of a bench that both sides have differ, where they differ least."""
    first = next(iter(old.values()))
    same = [place for place in now.values() if place.bench == first.bench]
    if not same:
        return f": BASE has bench {first.bench}, NEW has not"
    least = min((differing(first.settings, place.settings) for place in same), key=len)
    return f"; bench {first.bench} differs in {', '.join(least[:6])}{', ...' if len(least) > 6 else ''}"


def _check_limits(limits: Sequence[Limit], found: Sequence[Comparison]) -> None:
    """A limit that judges nothing would let everything pass."""
    names = {
        comparison.metric
        for comparison in found
        if comparison.base.values and comparison.new.values
    }
    for limit in limits:
        mine = [c for c in found if applies(limit, c.place.bench, c.metric)]
        if not mine:
            raise ConfigError(
                "--fail",
                limit.text,
                f"no point has {limit.metric}; metrics: {', '.join(sorted(names))}",
                nearest(limit.metric, sorted(names)),
            )
        if not any(comparison.result for comparison in mine):
            raise ConfigError(
                "--fail",
                limit.text,
                f"nothing to judge: {mine[0].note}",
                "a metric that BASE has measured",
            )


def _names(known: dict[str, Place]) -> dict[str, str]:
    """Each point by its bench and the settings in which it differs from the bench's other points."""
    found = {}
    for bench in dict.fromkeys(place.bench for place in known.values()):
        same = [place for place in known.values() if place.bench == bench]
        keys = dict.fromkeys(key for place in same for key in place.settings)
        differ = [key for key in keys if len({str(place.settings.get(key)) for place in same}) > 1]
        words = short(differ)
        for place in same:
            settings = (
                f"{words[key]}={place.settings[key]}" for key in differ if key in place.settings
            )
            found[place.key] = f"{bench} {' '.join(settings)}".strip()
    return found


def _side(side: Side) -> dict[str, Any]:
    return {
        "mean": side.mean,
        "values": list(side.values),
        "deviation": side.deviation,
        "kind": side.kind,
        "reason": side.reason,
    }
