"""Figures that a results.json implies but does not name: they get a unit and, where there is none, a reason.

    evaluations_per_time = force evaluations / (steps dt)      what a unit of H's time costs a layer

so that a small dt is not free: the energy bench takes a fixed number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from phasebench.results.gate import Metric

PER_TIME = "evaluations_per_time"
DURATION = "duration_s"
_TRAINED = "the bench trained its weights first"
_UNTOLD = "the bench may have trained the weights of some of its seeds first"


def derived(name: str, entry: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Metric]:
    """Metrics of a bench, by key, from its entry in results.json and the run's configuration.

    Raises KeyError, TypeError or AttributeError where the entry is not as phasebench writes it.
    """
    found = dict(_duration(entry))
    if name == "ppl":
        found |= dict(_stages(entry))
    if name == "energy":
        found |= dict(_per_time(entry, config))
    if name == "speed":
        found |= dict(_arms(entry))
    return found


def _duration(entry: Mapping[str, Any]) -> Iterator[tuple[str, Metric]]:
    """Wall time, unless a training is part of it: the first point of a sweep would seem slow."""
    seconds = entry["duration_s"]
    if seconds is not None and entry["status"] == "ok":
        reason = _includes_training(entry["details"])
        yield DURATION, Metric(None if reason else float(seconds), "s", reason=reason)


def _includes_training(details: Mapping[str, Any]) -> str | None:
    """Why the time of a bench is not its own; None where it is, as far as its details tell."""
    roles = [value for value in details.values() if isinstance(value, dict)]
    rows = [row for role in roles if isinstance(role.get("seeds"), list) for row in role["seeds"]]
    weights = [details.get("weights"), *(holder.get("weights") for holder in (*roles, *rows))]
    if any(isinstance(found, dict) and found.get("origin") == "trained" for found in weights):
        return _TRAINED
    if (
        len(details.get("seeds") or []) > 1
    ):  # of which the details name the first one's weights only
        return _UNTOLD
    return None


def _stages(entry: Mapping[str, Any]) -> Iterator[tuple[str, Metric]]:
    """The specification's keys stage1_ppl and stage2_ppl, where a model of that name was scored."""
    for role in ("candidate", "baseline"):
        metric = entry["metrics"].get(f"{role}_ppl")
        if metric is not None and role in entry["details"]:
            yield f"{entry['details'][role]['name']}_ppl", Metric(**metric)


def _per_time(entry: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, Metric]]:
    evaluations = entry["metrics"].get("force_evaluations", {}).get("value")
    if evaluations is not None:
        energy = config["bench"]["energy"]
        time = energy["steps"] * energy["dt"]
        yield PER_TIME, Metric(evaluations / time, "a layer and unit of time", "counted")


def _arms(entry: Mapping[str, Any]) -> Iterator[tuple[str, Metric]]:
    """Time of each arm, of the stack and of the model or its training step, at each precision."""
    for row in entry["details"].get("rows", []):
        parts = [row["what"].replace(" ", "_"), row["arm"], row.get("precision")]
        reason = row.get("reason") or "was not measured"
        yield "_".join(filter(None, [*parts, "ms"])), Metric(row["median_ms"], "ms", reason=reason)
