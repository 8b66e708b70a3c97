"""Which points of two sets of results are the same point: the same bench with the same configuration, seeds apart."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phasebench.config import ConfigError
from phasebench.report.axes import READ_TEXT, concerns, flatten
from phasebench.report.collect import Collection
from phasebench.report.read import Bench, Run

# Nothing measured depends on these, or (device, data.path) something else says it: the device's name, the text's
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


def places(collection: Collection, ignore: Sequence[str] = ()) -> dict[str, Place]:
    """The benches of all runs, by key: runs that differ in the seed only, or in nothing, are repeats of one."""
    found: dict[str, Place] = {}
    for run in (point.run for point in collection.points if point.run):
        flat = flatten(run.config)
        for name, bench in run.benches.items():
            settings = {
                key: value for key, value in flat.items() if _counts(key, name, tuple(ignore))
            }
            key = hashlib.sha256(json.dumps([name, settings], sort_keys=True).encode()).hexdigest()
            place = found.setdefault(key, Place(key, name, settings, []))
            place.repeats.append(Repeat(run, bench))
    return found


def check_alike(pairs: Sequence[tuple[Place, Place]], allowed: Sequence[str]) -> list[str]:
    """What differs in data or device between the sides of a point, or within one, and was allowed to.

    Raises `ConfigError` for what was not allowed.
    """
    said = []
    for what, of in (("data", _data), ("device", _device)):
        found = {(_kinds(base, of), _kinds(new, of)) for base, new in pairs}
        different = sorted((old, now) for old, now in found if old != now or len(old) > 1)
        if different:
            old, now = different[0]
            text = f"different {what}: BASE has {', '.join(old)}; NEW has {', '.join(now)}"
            if what not in allowed:
                raise ConfigError(
                    "", "", text, f"compare runs with the same {what}, or --allow {what}"
                )
            said.append(f"{text} (allowed)")
    return said


@functools.cache
def _counts(key: str, bench: str, ignore: tuple[str, ...]) -> bool:
    """Whether a key tells a bench's points apart."""
    ignored = any(key == prefix or key.startswith(f"{prefix}.") for prefix in (*IGNORED, *ignore))
    return concerns(key, bench) and not ignored


def _data(place: Place, run: Run) -> str:
    return f"the text {run.data[:12]}" if run.data and place.bench in READ_TEXT else "no text"


def _device(place: Place, run: Run) -> str:
    return run.device


def _kinds(place: Place, of: Callable[[Place, Run], str]) -> tuple[str, ...]:
    return tuple(sorted({of(place, repeat.run) for repeat in place.repeats}))


def differing(base: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What keeps two configurations from being the same point, as ``key: base -> new``."""
    keys = sorted(key for key in {*base, *new} if base.get(key, "-") != new.get(key, "-"))
    return [f"{key}: {base.get(key, 'not there')} -> {new.get(key, 'not there')}" for key in keys]
