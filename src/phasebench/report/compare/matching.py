"""Match the benches of two sets of results: the same configuration, seeds apart."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from phasebench.config import TRAINING, ConfigError
from phasebench.report.axes import concerns, flatten, short
from phasebench.report.collect import Collection
from phasebench.report.read import Run
from phasebench.results.jsonfile import Json

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


@dataclass
class Place:
    """A bench at one configuration, with the runs of both sides that have it.

    Attributes:
        settings: the configuration that the bench depends on, by dotted key.
        base, new: the runs of each side, which are repeats: they differ in their seed, or in
            nothing.
        name: for people: the bench and the settings in which its places differ.
    """

    bench: str
    settings: Json
    base: list[Run] = field(default_factory=list)
    new: list[Run] = field(default_factory=list)
    name: str = ""


def match(base: Collection, new: Collection, ignore: Sequence[str] = ()) -> list[Place]:
    """Collect the benches of all runs, those of one configuration at one place."""
    ignored = (*IGNORED, *ignore)

    @functools.cache
    def counts(key: str, bench: str) -> bool:
        hidden = any(key == prefix or key.startswith(f"{prefix}.") for prefix in ignored)
        return concerns(key, bench) and not hidden

    known: dict[str, Place] = {}
    for side, collection in (("base", base), ("new", new)):
        for run in (point.run for point in collection.points if point.run):
            flat = flatten(run.config)
            for bench in run.benches:
                settings = {key: value for key, value in flat.items() if counts(key, bench)}
                key = json.dumps([bench, settings], sort_keys=True)
                getattr(known.setdefault(key, Place(bench, settings)), side).append(run)
    for bench in {place.bench for place in known.values()}:
        same = [place for place in known.values() if place.bench == bench]
        keys = dict.fromkeys(key for place in same for key in place.settings)
        differ = [key for key in keys if len({str(place.settings.get(key)) for place in same}) > 1]
        names = short(differ)
        for place in same:
            told = (f"{names[k]}={place.settings[k]}" for k in differ if k in place.settings)
            place.name = " ".join([bench, *told])
    return list(known.values())


def check_alike(shared: Sequence[Place], allowed: Sequence[str]) -> list[str]:
    """Say what differs in data or device between or within the sides of a place, and may.

    Raises `ConfigError` for what was not allowed.
    """

    def data(place: Place, run: Run) -> str:
        text = run.data if place.bench in TRAINING else None
        return f"the text {text[:12]}" if text else "no text"

    notes = []
    for what, fact in (("data", data), ("device", lambda place, run: run.device)):
        for place in shared:
            old, now = ({fact(place, run) for run in runs} for runs in (place.base, place.new))
            if old != now or len(old) > 1:
                told = f"BASE has {', '.join(sorted(old))}; NEW has {', '.join(sorted(now))}"
                if what not in allowed:
                    fix = f"compare runs with the same {what}, or --allow {what}"
                    raise ConfigError("", "", f"different {what}: {told}", fix)
                notes.append(f"different {what}: {told} (allowed)")
    return list(dict.fromkeys(notes))


def closest(places: Sequence[Place]) -> str:
    """Say how the configurations of a bench on both sides differ, where they differ least."""
    first = next(place for place in places if place.base)
    differences = []
    for place in places:
        if place.new and place.bench == first.bench:
            old, now, none = first.settings, place.settings, "not there"
            pairs = {key: (old.get(key, none), now.get(key, none)) for key in sorted({*old, *now})}
            differences.append([f"{k}: {a} -> {b}" for k, (a, b) in pairs.items() if a != b])
    if not differences:
        return f": BASE has bench {first.bench}, NEW has not"
    least = min(differences, key=len)
    more = ", ..." if len(least) > 6 else ""
    return f"; bench {first.bench} differs in {', '.join(least[:6])}{more}"
