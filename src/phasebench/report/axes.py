"""Find studies, and what was swept in each: the keys, device and text in which points differ."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from phasebench.config import TRAINING
from phasebench.report.collect import Point
from phasebench.report.text import is_number, number
from phasebench.results.jsonfile import Json

SEED = "seed"
LONGEST = 44  # characters of a point's name in a picture
NO_EFFECT = ("cache_dir", "output", "benchmark_name", "hydra")  # on any number


@dataclass(frozen=True)
class Axis:
    """A key and its value at every point, None where a point has none."""

    key: str
    values: tuple[Any, ...]

    @property
    def numeric(self) -> bool:
        """Tell whether a picture can have it as its x axis."""
        return all(is_number(value) for value in self.values if value is not None)


@dataclass(frozen=True)
class Study:
    """Points that are shown together: all, or those that were asked for the same benches."""

    points: Sequence[Point]
    name: str = ""

    @cached_property
    def axes(self) -> list[Axis]:
        """Find the keys in which the points differ."""
        return swept(self.points)

    @cached_property
    def names(self) -> dict[str, str]:
        """Name each point by its swept values, or by its folder where these are none, or long."""
        keys = short(axis.key for axis in self.axes)
        names = {}
        for i, point in enumerate(self.points):
            values = ((axis.key, axis.values[i]) for axis in self.axes)
            told = ", ".join(said(keys[key], value) for key, value in values if value is not None)
            names[point.name] = told if 0 < len(told) <= LONGEST else point.name
        return names


def studies(points: Sequence[Point]) -> list[Study]:
    """Group points by their benches; those without results join a study that is alone."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(", ".join(sorted(point.benches)), []).append(point)
    if len(groups) == 2 and "" in groups:
        groups = {max(groups): list(points)}
    return [Study(own, name or "no results") for name, own in groups.items()]


def concerns(key: str, bench: str) -> bool:
    """Tell whether a bench's numbers can depend on a dotted key.

    Examples:
        >>> concerns("bench.energy.dt", "ppl"), concerns("model.dim", "vram")
        (False, True)
    """
    group, _, rest = key.partition(".")
    if group == "bench":
        return rest.partition(".")[0] == bench
    return bench in TRAINING or group not in ("train", "data")


def swept(points: Sequence[Point]) -> list[Axis]:
    """Find the keys whose values differ between the points that have them.

    Keys that always change together are one axis, named by the one that was given on the command
    line, if any. Keys that were given come first, in the order in which they were given, and the
    random seed last. A key that was not given counts only if it concerns a bench of the points.
    """
    known = [settings(point) for point in points]
    benches = {bench for point in points for bench in point.benches}
    words = [text.partition("=")[0].lstrip("+~") for point in points for text in point.overrides]
    order = {word: i for i, word in enumerate(dict.fromkeys(words))}

    def given(key: str) -> float:
        return order.get(key, order.get(key.removesuffix(".name"), math.inf))

    groups: dict[tuple[int, ...], list[Axis]] = {}
    for key in dict.fromkeys(key for values in known for key in values):
        if given(key) == math.inf and not any(concerns(key, bench) for bench in benches):
            continue
        column = tuple(values.get(key) for values in known)
        told = [json.dumps(float(v) if is_number(v) else v) for v in column]
        if len({text for text, value in zip(told, column, strict=True) if value is not None}) > 1:
            first = {text: i for i, text in reversed(list(enumerate(told)))}
            groups.setdefault(tuple(first[text] for text in told), []).append(Axis(key, column))

    def rank(axis: Axis) -> tuple[Any, ...]:
        key = axis.key
        apart = key.startswith("scale."), " " in key  # scale only hands its values on
        return (key == SEED, given(key), *apart, key.count("."), key)

    return sorted((min(together, key=rank) for together in groups.values()), key=rank)


def settings(point: Point) -> Json:
    """List a point's configuration by dotted key; without a results.json, what its overrides say.

    The device, text and code of a run stand under names that no configuration key has.
    """
    if point.run is None:
        pairs = (text.partition("=") for text in point.overrides if not text.startswith("hydra"))
        return {key.lstrip("+"): _parsed(value) for key, sign, value in pairs if sign}
    run = point.run
    git = run.environment.get("git")
    commit = git.get("commit") if isinstance(git, Mapping) else None
    facts = {
        "on device": run.device,
        "on text": run.data and run.data[:12],
        "at commit": commit and str(commit)[:12],
    }
    flat = {k: v for k, v in flatten(run.config).items() if k.partition(".")[0] not in NO_EFFECT}
    return flat | {key: value for key, value in facts.items() if value is not None}


def flatten(tree: Json, at: str = "") -> Json:
    """List leaves by dotted key; a list becomes its JSON text, and so does a null.

    Examples:
        >>> flatten({"a": {"b": 1, "c": [2, 3]}, "d": None})
        {'a.b': 1, 'a.c': '[2, 3]', 'd': 'null'}
    """
    flat: Json = {}
    for key, value in tree.items():
        dotted = f"{at}.{key}" if at else str(key)
        if isinstance(value, dict):
            flat |= flatten(value, dotted)
        else:
            flat[dotted] = json.dumps(value) if value is None or isinstance(value, list) else value
    return flat


def short(keys: Iterable[str]) -> dict[str, str]:
    """Name each dotted key by as few of its last parts as tell it from the others.

    Examples:
        >>> short(["model.ode.dt", "bench.energy.dt", "seed"])
        {'model.ode.dt': 'ode.dt', 'bench.energy.dt': 'energy.dt', 'seed': 'seed'}
    """
    keys = list(keys)
    names = {}
    for key in keys:
        parts = key.split(".")
        tails = (".".join(parts[-n:]) for n in range(1, len(parts)))
        names[key] = next(
            (t for t in tails if sum(k == t or k.endswith("." + t) for k in keys) == 1), key
        )
    return names


def said(key: str, value: Any) -> str:
    """Write a setting for people: a name says by itself what it is a name of, a number does not.

    Examples:
        >>> said("ode.dt", 0.1), said("ode.integrator", "leapfrog"), said("energy.dts", "null")
        ('dt 0.1', 'leapfrog', 'dts null')
    """
    named = isinstance(value, str) and value != "null" and value[:1].isalpha()
    return value if named else f"{key.rpartition('.')[2]} {number(value)}"


def _parsed(text: str) -> Any:
    """Read a value as Hydra would, as far as scalars go."""
    try:
        value = json.loads(text)
        return value if isinstance(value, bool | str) or math.isfinite(value) else text
    except (TypeError, OverflowError):  # a list or mapping; a whole number that no float holds
        return text
    except (ValueError, RecursionError):
        return text.strip("'\"")
