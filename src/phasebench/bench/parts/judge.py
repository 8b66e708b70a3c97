"""What the trainings of all combinations of parts say: effects with intervals, gates.

Each effect is fitted to all trainings (`design`); nothing is judged until they are all there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from phasebench.bench.evidence import scored, trained, worst
from phasebench.bench.parts.design import ALL, Effect, cells, effects
from phasebench.bench.parts.reach import NotReached, log_ratio
from phasebench.config import PartsConfig
from phasebench.results.gate import BenchResult, Comparison, Gate, Metric, Need, table
from phasebench.results.stats import interval

NAMES = {"memory": "koopman_memory", "mera": "mera", "margin": "dialectic", "entropic": "entropic"}
QUANTITIES = {"perplexity": "nats", "time of a step": "seconds", "peak memory": "peak_gb"}
TRAININGS = 16  # the fewest that gates need
GAIN = 0.01  # gate: AUROC by entropy and the time-reversed flow - by entropy alone, at least
NO_SPREAD = "no degree of freedom is left: more bench.parts.replicates"


def trainings(config: PartsConfig) -> int:
    """Count the trainings."""
    return len(cells(config.parts)) * config.replicates


def judge(config: PartsConfig, rows: Sequence[Mapping[str, Any]]) -> BenchResult:
    """Fit the effects to what was measured of all trainings; null with a reason until they are all
    there.
    """
    failures = [f"training {row['number']}: {row['reason']}" for row in rows if row["reason"]]
    done = [row for row in rows if not row["reason"]]
    counted = f"{len(done)} of {trainings(config)} trainings are there"
    missing = None if len(done) == trainings(config) else "; ".join([counted, *failures])
    fits = {name: _fit(config, done, key, missing) for name, key in QUANTITIES.items()}
    ppl, time, memory = fits.values()
    metrics = _metrics("stage3_ratio", "perplexity, all parts / none", ppl, ALL, math.exp)
    metrics |= _metrics("stage3_time_ratio", "time a step", time, ALL, math.exp)
    metrics |= _metrics("stage3_vram_ratio", "peak memory", memory, ALL, math.exp)
    for part in config.parts:
        name = f"{NAMES[part]}_effect_pct"
        metrics |= _metrics(name, "% of the perplexity", ppl, part, _percent)
    if "entropic" in config.parts:
        metrics |= _metrics("entropic_time_ratio", "time a step", time, "entropic", math.exp)
        # a run with random tokens is the control of one with a score
        control = any(row["selection"] == "random" for row in done)
        name, unit = "entropic_tokens_ratio" + "_random" * control, "tokens read until a perplexity"
        metrics |= _metrics(name, unit, _tokens(config, done, missing), ALL, math.exp)
    metrics |= _means(config, done, missing)
    shown = [
        {"part": e.part, "of": name, "effect_pct": _percent(e.log), "low": low, "high": high}
        | {"df": e.df}
        for name, fit in fits.items()
        if not isinstance(fit, str)
        for e in fit
        for low, high in [e.ends(_percent)]
    ]
    keys = ("part", "of", "effect_pct", "low", "high", "df")
    details = {"cells": rows, "effects": shown, "table": table(shown, keys)}
    return BenchResult(metrics, _gates(config, metrics, done), details, failures)


def _percent(log: float) -> float:
    return 100 * math.expm1(log)


def _fit(
    config: PartsConfig, rows: Sequence[Mapping[str, Any]], key: str, missing: str | None
) -> list[Effect] | str:
    """Fit the effects on the logarithm of a quantity, or say why they cannot be."""
    values = [row[key] for row in rows]
    if missing or None in values:
        return missing or f"{key} was not measured (on a CPU, or by an older version)"
    y = values if key == "nats" else [math.log(value) for value in values]
    return effects([frozenset(row["parts"]) for row in rows], y, config.parts)


def _metrics(
    name: str, unit: str, fit: list[Effect] | str, part: str, to: Callable[[float], float]
) -> dict[str, Metric]:
    """Return an effect and the ends of its interval, in the unit that `to` brings logarithms to."""
    names = name, f"{name}_low", f"{name}_high"
    if isinstance(fit, str):
        return {each: Metric(None, unit, reason=fit) for each in names}
    effect = next(effect for effect in fit if effect.part == part)
    values = to(effect.log), *effect.ends(to)
    reason = NO_SPREAD if effect.half is None else None
    ends = [Metric(end, f"{unit}, 95 %", reason=reason) for end in values[1:]]
    return dict(zip(names, [Metric(values[0], unit), *ends], strict=True))


def _tokens(
    config: PartsConfig, rows: Sequence[Mapping[str, Any]], missing: str | None
) -> list[Effect] | str:
    """Compare the tokens read until a perplexity, of trainings that differ in the selection alone;
    or say why that cannot be.
    """
    every = len(cells(config.parts))
    made = {(row["number"] // every, frozenset(row["parts"])): row["weights"] for row in rows}
    try:
        logs = [
            log_ratio(made[replicate, cell | {"entropic"}]["validations"], weights["validations"])
            for (replicate, cell), weights in made.items()
            if "entropic" not in cell and not missing
        ]
    except NotReached as problem:
        return str(problem)
    if missing:
        return missing
    between = interval(logs)
    half = between and between.high - between.mean
    return [Effect(ALL, statistics.fmean(logs), half, len(logs) - 1)]


def _means(
    config: PartsConfig, rows: Sequence[Mapping[str, Any]], missing: str | None
) -> dict[str, Metric]:
    """Return the perplexity with all parts, the worst leak, how well margins are calibrated, and
    what the time-reversed flow tells.
    """
    whole = [math.exp(row["nats"]) for row in rows if len(row["parts"]) == len(config.parts)]
    means = {"stage3_ppl": ("perplexity per token", whole)}
    if "margin" in config.parts:
        on, off = (
            [row for row in rows if ("margin" in row["parts"]) is so] for so in (True, False)
        )
        for arm, own in (("dialectic", on), ("control", off)):
            for key, what in (("ece", "expected calibration error"), ("brier", "Brier score")):
                unit = f"{what}, after one temperature"
                means[f"{arm}_{key}"] = unit, [row[key] for row in own]
        means["dialectic_temperature"] = "fitted temperature", [row["temperature"] for row in on]
    if config.reverse:
        unit = "AUROC by entropy and the time-reversed flow - by entropy alone"
        means["dialectic_auroc_gain"] = unit, [row["auroc_gain"] for row in rows]
    metrics = {}
    for name, (unit, values) in means.items():
        reason = missing or ("a training is never right, or always" if None in values else None)
        metrics[name] = Metric(None if reason else statistics.fmean(values), unit, reason=reason)
    leaked = worst(row["leak"] for row in rows)
    return metrics | {
        "stage3_leak": Metric(None if missing else leaked, "of the largest logit", reason=missing)
    }


def _gates(
    config: PartsConfig, metrics: Mapping[str, Metric], rows: Sequence[Mapping[str, Any]]
) -> list[Gate]:
    needs = [
        Need("trainings", len(rows), TRAININGS),
        scored(min((row["tokens"] for row in rows), default=0)),
        trained(min((row["change"] for row in rows), default=0.0)),
    ]
    limits: dict[str, tuple[Comparison, float]] = {
        "stage3_ratio": ("<=", config.target),
        "stage3_ratio_high": ("<=", 1.0),
        "stage3_time_ratio": ("<=", config.time_target),
        "stage3_leak": ("==", 0.0),
    }
    # the claim of each part; a selection claims to need fewer tokens, not a better end
    for part in config.parts:
        if part != "entropic":
            limits[f"{NAMES[part]}_effect_pct_high"] = ("<=", 0.0)
        elif "entropic_tokens_ratio" in metrics:
            limits["entropic_tokens_ratio"] = ("<=", config.tokens_target)
            limits["entropic_tokens_ratio_high"] = ("<=", 1.0)
    if config.reverse:
        limits["dialectic_auroc_gain"] = (">=", GAIN)
    control = metrics.get("control_ece")
    if control and control.value is not None:
        limits["dialectic_ece"] = ("<=", float(control.value))
    return [Gate.check(name, metrics[name], *limit, needs) for name, limit in limits.items()]
