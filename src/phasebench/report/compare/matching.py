"""Match the points of two sets of results: the same bench and configuration, seeds apart."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from phasebench.config import ConfigError
from phasebench.report.axes import READ_TEXT, concerns, flatten, short
from phasebench.report.collect import Collection
from phasebench.report.read import Bench, Run

# Nothing measured depends on these, or something else says it: the device's name, the text's
# fingerprint. `scale` only hands its values to the other groups.
IGNORED = (
    "seed",
    "benchmark_name",
    "output",
    "cache_dir",
    "device",
    "scale",
    "hydra",
    "data.path",
    "data.timeout_s",
    "train.tensorboard",
    "bench.vram.timeout_s",
)


@dataclass(frozen=True)
class Repeat:
    """One run's bench."""

    run: Run
    bench: Bench


@dataclass(frozen=True)
class Place:
    """A bench at one configuration, with its repeats.

    Attributes:
        key: hash of the bench's name and of the configuration that it depends on.
        settings: that configuration by dotted key.
    """

    key: str
    bench: str
    settings: dict[str, Any]
    repeats: list[Repeat]

    def facts(self, what: str) -> tuple[str, ...]:
        """List the texts ("data") or the devices ("device") of its repeats."""
        runs = [repeat.run for repeat in self.repeats]
        if what == "device":
            return tuple(sorted({run.device for run in runs}))
        read = self.bench in READ_TEXT
        texts = (f"the text {run.data[:12]}" if run.data and read else "no text" for run in runs)
        return tuple(sorted(set(texts)))


def places(collection: Collection, ignore: Sequence[str] = ()) -> dict[str, Place]:
    """Collect the benches of all runs by key; runs that differ in their seed only are repeats."""
    ignored = (*IGNORED, *ignore)

    @functools.cache
    def counts(key: str, bench: str) -> bool:
        hidden = any(key == prefix or key.startswith(f"{prefix}.") for prefix in ignored)
        return concerns(key, bench) and not hidden

    known: dict[str, Place] = {}
    for run in (point.run for point in collection.points if point.run):
        flat = flatten(run.config)
        for name, bench in run.benches.items():
            settings = {key: value for key, value in flat.items() if counts(key, name)}
            key = hashlib.sha256(json.dumps([name, settings], sort_keys=True).encode()).hexdigest()
            known.setdefault(key, Place(key, name, settings, [])).repeats.append(Repeat(run, bench))
    return known


def check_alike(pairs: Sequence[tuple[Place, Place]], allowed: Sequence[str]) -> list[str]:
    """Say what differs in data or device between or within the sides of a point, and may.

    Raises `ConfigError` for what was not allowed.
    """
    notes = []
    for what in ("data", "device"):
        facts = {(base.facts(what), new.facts(what)) for base, new in pairs}
        different = sorted((old, now) for old, now in facts if old != now or len(old) > 1)
        if different:
            old, now = map(", ".join, different[0])
            text = f"different {what}: BASE has {old}; NEW has {now}"
            if what not in allowed:
                fix = f"compare runs with the same {what}, or --allow {what}"
                raise ConfigError("", "", text, fix)
            notes.append(f"{text} (allowed)")
    return notes


def closest(old: Iterable[Place], now: Iterable[Place]) -> str:
    """Say how the configurations of a bench on both sides differ, where they differ least."""
    first = next(iter(old))
    differences = []
    for place in now:
        if place.bench == first.bench:
            base, new, none = first.settings, place.settings, "not there"
            keys = sorted(k for k in {*base, *new} if base.get(k, "-") != new.get(k, "-"))
            told = [f"{key}: {base.get(key, none)} -> {new.get(key, none)}" for key in keys]
            differences.append(told)
    if not differences:
        return f": BASE has bench {first.bench}, NEW has not"
    least = min(differences, key=len)
    more = ", ..." if len(least) > 6 else ""
    return f"; bench {first.bench} differs in {', '.join(least[:6])}{more}"


def place_names(known: Iterable[Place]) -> dict[str, str]:
    """Name each point by its bench and the settings in which the bench's points differ."""
    benches: dict[str, list[Place]] = {}
    for place in known:
        benches.setdefault(place.bench, []).append(place)
    names = {}
    for bench, same in benches.items():
        keys = dict.fromkeys(key for place in same for key in place.settings)
        differ = [key for key in keys if len({str(place.settings.get(key)) for place in same}) > 1]
        words = short(differ)
        for place in same:
            told = (f"{words[k]}={place.settings[k]}" for k in differ if k in place.settings)
            names[place.key] = " ".join([bench, *told])
    return names
