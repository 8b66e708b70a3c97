"""What was swept: the configuration keys, and the device and text, in which points differ."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phasebench.report.collect import Point
from phasebench.report.read import Run

SEED = "seed"
NO_EFFECT = ("cache_dir", "output", "benchmark_name", "hydra")  # on any number
READ_TEXT = ("ppl", "energy")  # with trained weights; the other benches take random ones


@dataclass(frozen=True)
class Axis:
    """A key and its value at every point, None where a point has none.

    Attributes:
        moves: other keys whose values change wherever this one's do, and only there.
    """

    key: str
    values: tuple[Any, ...]
    moves: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether a picture can have it as its x axis."""
        present = [value for value in self.values if value is not None]
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)

    def concerns(self, bench: str) -> bool:
        """Whether a bench's numbers can depend on it."""
        return concerns(self.key, bench)


def concerns(key: str, bench: str) -> bool:
    """Whether a bench's numbers can depend on a dotted key.

    Example:
        >>> concerns("bench.energy.dt", "ppl"), concerns("model.dim", "vram"), concerns("train.lr", "vram")
        (False, True, False)
    """
    group, _, rest = key.partition(".")
    if group == "bench":
        return rest.partition(".")[0] == bench
    return bench in READ_TEXT or group not in ("train", "data")


def swept(points: Sequence[Point]) -> list[Axis]:
    """The keys whose values differ between the points that have them.

    Keys that always change together are one axis, named by the one that was given on the command line, if any.
    """
    known = [settings(point) for point in points]
    keys = dict.fromkeys(key for values in known for key in values)
    columns = {key: [values.get(key) for values in known] for key in keys}
    differing = {
        key: column
        for key, column in columns.items()
        if len({_same(v) for v in column if v is not None}) > 1
    }
    named = list(
        dict.fromkeys(
            text.partition("=")[0].lstrip("+~") for point in points for text in point.overrides
        )
    )
    groups: dict[tuple[int, ...], list[str]] = {}
    for key, column in differing.items():
        groups.setdefault(_partition(column), []).append(key)
    found = []
    for together in groups.values():
        first, *others = sorted(together, key=lambda key: _rank(key, named))
        found.append(Axis(first, tuple(differing[first]), tuple(others)))
    return sorted(found, key=lambda axis: (axis.key == SEED, *_place(axis.key, named), axis.key))


def settings(point: Point) -> dict[str, Any]:
    """The configuration of a point by dotted key; of a point without a results.json, what its overrides say."""
    if point.run is None:
        pairs = (text.partition("=") for text in point.overrides)
        return {
            key.lstrip("+"): _parsed(value)
            for key, sign, value in pairs
            if sign and not key.startswith("hydra")
        }
    flat = {
        key: value
        for key, value in flatten(point.run.config).items()
        if key.partition(".")[0] not in NO_EFFECT
    }
    return flat | where(point.run)


def where(run: Run) -> dict[str, Any]:
    """The device, text and code of a run, under names that no configuration key has."""
    git = run.environment.get("git")
    commit = git.get("commit") if isinstance(git, Mapping) else None
    facts = {
        "on device": run.device,
        "on text": run.data and run.data[:12],
        "at commit": commit and str(commit)[:12],
    }
    return {key: value for key, value in facts.items() if value is not None}


def flatten(tree: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Leaves by dotted key; a list becomes its JSON text, and so does a null.

    Example:
        >>> flatten({"a": {"b": 1, "c": [2, 3]}, "d": None})
        {'a.b': 1, 'a.c': '[2, 3]', 'd': 'null'}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping):
            found |= flatten(value, dotted)
        else:
            found[dotted] = json.dumps(value) if value is None or isinstance(value, list) else value
    return found


def short(keys: Iterable[str]) -> dict[str, str]:
    """Each dotted key by as few of its last parts as tell it from the others.

    Example:
        >>> short(["model.ode.dt", "bench.energy.dt", "seed"])
        {'model.ode.dt': 'ode.dt', 'bench.energy.dt': 'energy.dt', 'seed': 'seed'}
    """
    keys = list(keys)
    found = {}
    for key in keys:
        parts = key.split(".")
        tails = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        found[key] = next(
            (t for t in tails if sum(k == t or k.endswith("." + t) for k in keys) == 1), key
        )
    return found


def _partition(column: Sequence[Any]) -> tuple[int, ...]:
    """Which points share a value: the same for two keys that change together."""
    first: dict[str, int] = {}
    return tuple(first.setdefault(_same(value), index) for index, value in enumerate(column))


def _same(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(float(value)) if number else json.dumps(value)


def _place(key: str, named: Sequence[str]) -> tuple[bool, int]:
    """Keys that were given come first, in the order in which they were given."""
    word = key if key in named else key.removesuffix(".name")
    return word not in named, named.index(word) if word in named else 0


def _rank(key: str, named: Sequence[str]) -> tuple[Any, ...]:
    given = key in named or key.removesuffix(".name") in named
    return (not given, key.startswith("scale."), " " in key, key.count("."), key)


def _parsed(text: str) -> Any:
    """A value as Hydra would read it, as far as scalars go."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text.strip("'\"")
    plain = isinstance(value, bool | str) or (
        isinstance(value, int | float) and abs(value) <= sys.float_info.max
    )
    return value if plain else text
