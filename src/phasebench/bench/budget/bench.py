"""Perplexity over the budget of training: who wins at equal tokens, FLOPs, time, at convergence.

Every model is trained from every seed at every budget, by one recipe (train.schedule=wsd, so that
budgets share their constant part). Then, with the baseline B and the candidate C,

    ratio_equal_tokens    ppl_C / ppl_B at the largest budget that both reach, in tokens read
    ratio_equal_flops     ... in FLOPs of training: 3 times the forward pass a token read
    ratio_equal_time      ... in seconds of training on this device, validation apart
    ratio_best            each at its best validation perplexity over all budgets
    ratio_at_convergence  the same, if no model improves by 1 % from the last budget but one

Perplexities are those of bench.budget.split. Ratios are geometric means over the seeds, with a
paired 95 % interval. What an adjoint computes again is in the time, not in the FLOPs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from phasebench.bench.budget.curves import (
    AXES,
    Axis,
    Curve,
    NotComparable,
    Point,
    log_ratio,
    log_ratio_best,
)
from phasebench.bench.evidence import scored
from phasebench.bench.workbench import Workbench, roles, score_split
from phasebench.config import BudgetConfig, ConfigError, ModelConfig
from phasebench.models import build_model
from phasebench.models.language_model import flops_per_token
from phasebench.results.gate import BenchResult, Gate, Metric
from phasebench.results.stats import ratio_interval
from phasebench.training.loop import TrainingDiverged
from phasebench.training.scoring import NotFinite
from phasebench.training.weights import Trained

UNITS: dict[Axis, str] = {"tokens": "tokens", "flops": "FLOPs", "seconds": "seconds of training"}
NAMES: dict[Axis, str] = {
    "tokens": "ratio_equal_tokens",
    "flops": "ratio_equal_flops",
    "seconds": "ratio_equal_time",
}


MEASURED = ("tokens", "seconds", "valid", "test")  # of a training


@dataclass
class Trainings:
    """All trainings of one model, a row for each seed and budget.

    A row holds seed, epochs, point (null where the training failed), reason and weights. `flops`
    are those of training a token.
    """

    name: str
    flops: float
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def curves(self) -> list[Curve]:
        """A curve a seed, in the order of the rows."""
        points: dict[int, list[Point]] = {row["seed"]: [] for row in self.rows}
        for row in self.rows:
            if row["point"]:
                points[row["seed"]].append(self._point(**row["point"]))
        return [Curve(tuple(each)) for each in points.values()]

    def _point(self, tokens: float, seconds: float, valid: float, test: float) -> Point:
        return Point(tokens, self.flops * tokens, seconds, valid, test)

    @property
    def failures(self) -> list[str]:
        """What failed, a line each."""
        return [
            f"{self.name}, seed {row['seed']}, {row['epochs']:g} epochs: {row['reason']}"
            for row in self.rows
            if row["reason"]
        ]

    def improvement(self) -> float | None:
        """Return how much the last budget lowers the mean validation perplexity, as a fraction."""
        pairs = [curve.points[-2:] for curve in self.curves if len(curve.points) > 1]
        if len(pairs) < len(self.curves) or self.failures or not pairs:
            return None
        return -math.expm1(statistics.fmean(last.valid - before.valid for before, last in pairs))


def check(workbench: Workbench, config: BudgetConfig) -> None:
    """Raise `ConfigError` for splits without text, given weights, and a schedule of one budget."""
    recipe = workbench.config.train
    for split in ("validation", config.split):
        if not len(workbench.corpus.splits[split].tokens):
            raise ConfigError("bench.budget.split", split, "has no tokens", "more text")
    for key, model in roles(workbench.config, "budget", config).values():
        if model.checkpoint:
            problem = "weights of one budget; bench=budget trains at several"
            key = f"{key}.checkpoint"
            raise ConfigError(key, model.checkpoint, problem, f"{key}=null")
    if recipe.patience is not None:
        problem = "an early stop would change the budgets"
        raise ConfigError("train.patience", recipe.patience, problem, "train.patience=null")


def run(workbench: Workbench, config: BudgetConfig) -> BenchResult:
    """Train every model from every seed at every budget, score it, and compare the curves."""
    models, vocab_size = roles(workbench.config, "budget", config), workbench.corpus.vocab_size
    seq = workbench.config.train.seq
    trainings = {role: trainings_of(model, vocab_size, seq) for role, (_, model) in models.items()}
    for seed in config.seeds or [workbench.config.seed]:
        for role, (key, model) in models.items():
            trainings[role].rows += _train(workbench, config, model, key, seed)
    return judge(config, trainings, len(workbench.corpus.splits[config.split].tokens))


def trainings_of(model: ModelConfig, vocab_size: int, seq: int) -> Trainings:
    """Return the empty list of a model's trainings on sequences of seq tokens."""
    return Trainings(model.name, 3 * flops_per_token(build_model(model, vocab_size), seq))


def judge(config: BudgetConfig, trainings: dict[str, Trainings], tokens: int) -> BenchResult:
    """Compare the trainings of candidate, baseline and reference, scored on `tokens` tokens."""
    ours, metrics = trainings["candidate"], _levels(trainings, config.improvement)
    for role, prefix in (("baseline", ""), ("reference", "reference_")):
        if role in trainings:
            metrics |= _ratios(ours, trainings[role], prefix, config.improvement)
    needs = [scored(tokens)]
    gates = [
        Gate.check(name, metrics[name], "<=", config.target, needs)
        for name in ("ratio_equal_time", "ratio_at_convergence")
        if "baseline" in trainings
    ]
    details = {role: {"name": t.name, "trainings": t.rows} for role, t in trainings.items()}
    notices = [failure for t in trainings.values() for failure in t.failures]
    return BenchResult(metrics, gates, details, notices)


def _train(
    workbench: Workbench,
    config: BudgetConfig,
    model: ModelConfig,
    key: str,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Train one model from one seed at every budget; a training that diverges leaves a reason."""
    for epochs in config.budgets:
        try:
            trained = workbench.weights.trained(model, key, seed, epochs=epochs)
            point = _point(workbench, config, model, trained, epochs)
        except (TrainingDiverged, NotFinite) as error:
            row: dict[str, Any] = {"point": None, "reason": str(error).splitlines()[0]}
        else:
            row = {"point": point, "reason": None, "weights": trained.origin}
        yield {"seed": seed, "epochs": epochs} | row
        workbench.release()


def _point(
    workbench: Workbench,
    config: BudgetConfig,
    model: ModelConfig,
    trained: Trained,
    epochs: float,
) -> dict[str, float]:
    """Score one training on both splits; seconds are those of its steps, validation apart."""
    recipe = workbench.weights.recipe_of(model, epochs)
    tokens = recipe.steps * recipe.batch * recipe.seq
    rate = statistics.median(step["tokens_per_s"] for step in trained.origin["steps"])
    sizes: dict[str, Any] = {"batch": config.batch, "seq": config.seq, "stride": config.stride}
    valid, test = (
        score_split(workbench, trained.model, split, precision=config.precision, **sizes)
        for split in ("validation", config.split)
    )
    values = tokens, tokens / rate, valid.nats_per_token, test.nats_per_token
    return dict(zip(MEASURED, values, strict=True))


def _levels(trainings: dict[str, Trainings], least: float) -> dict[str, Metric]:
    """Each model's perplexity at its best validation, and how much its last budget improved it."""
    metrics: dict[str, Metric] = {}
    for role, own in trainings.items():
        flops = Metric(own.flops, "FLOP/token, forward and backward", kind="counted")
        metrics[f"{role}_training_flops_per_token"] = flops
        prefix = own.name if own.name in ("stage1", "stage2", "stage3") else role
        best = [curve.best().test for curve in own.curves if curve.points]
        missing = None if best else "no training ended well"
        value = statistics.fmean(map(math.exp, best)) if best else None
        level = Metric(value, "perplexity per token", reason=missing)
        gain = own.improvement()
        reason = None if gain is not None else "a training is missing"
        metrics[f"{role}_improvement_pct"] = Metric(
            None if gain is None else 100 * gain, "% by the last budget", reason=reason
        )
        unclaimed = not_converged({role: own}, least)
        metrics[f"{role}_ppl_best"] = level
        metrics[f"{prefix}_ppl_at_convergence"] = (
            Metric(None, level.unit, reason=unclaimed) if unclaimed else level
        )
    return metrics


def not_converged(trainings: dict[str, Trainings], least: float) -> str | None:
    """Say which models the longest budget still improves by `least` or more; None if none."""
    open_ends = []
    for role, own in trainings.items():
        gain = own.improvement()
        if gain is None:
            open_ends.append(f"a training of {role} ({own.name}) is missing")
        elif gain >= least:
            open_ends.append(f"{role} ({own.name}) improves by {100 * gain:.1f} %")
    return "not reached: " + "; ".join(open_ends) if open_ends else None


def _ratios(ours: Trainings, theirs: Trainings, prefix: str, least: float) -> dict[str, Metric]:
    """Compare two models at equal tokens, FLOPs and time, at their best, and at convergence."""
    metrics: dict[str, Metric] = {}
    for axis in AXES:
        name = prefix + NAMES[axis]
        unit = f"at equal {UNITS[axis]}"
        metrics |= _ratio(name, unit, ours, theirs, lambda a, b, axis=axis: log_ratio(a, b, axis))
    best = _ratio(f"{prefix}ratio_best", "each at its best", ours, theirs, log_ratio_best)
    metrics |= best
    unclaimed = not_converged({"candidate": ours, prefix.strip("_") or "baseline": theirs}, least)
    for key, metric in best.items():
        name = key.replace("ratio_best", "ratio_at_convergence")
        metrics[name] = Metric(None, metric.unit, reason=unclaimed) if unclaimed else metric
    return metrics


def _ratio(
    name: str,
    unit: str,
    ours: Trainings,
    theirs: Trainings,
    compare: Callable[[Curve, Curve], float],
) -> dict[str, Metric]:
    """Compute a ratio of perplexities, geometric over the seeds, with its paired interval."""
    try:
        logs = [compare(*pair) for pair in zip(ours.curves, theirs.curves, strict=True)]
    except NotComparable as problem:
        return {name: Metric(None, unit, reason=str(problem))}
    metrics = {name: Metric(math.exp(statistics.fmean(logs)), unit)}
    return metrics | _bounds(name, unit, logs)


def _bounds(name: str, unit: str, logs: Sequence[float]) -> dict[str, Metric]:
    interval = ratio_interval(logs)
    if interval is None:
        return {}
    low, high = Metric(interval.low, f"{unit}, 95 %"), Metric(interval.high, f"{unit}, 95 %")
    return {f"{name}_low": low, f"{name}_high": high}
