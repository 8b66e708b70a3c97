"""Is a fact that was told once recalled, in sequences longer than those of training?

Small models are trained at `train_seq` tokens and asked at multiples of that, on the task of
`data.recall`; they differ in what mixes the tokens. An arm's recall is its accuracy at the length
where that is least, a mean over the seeds. Chance is one over `values`.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
from torch.nn import functional as F

from phasebench.bench.clock import interleaved
from phasebench.bench.workbench import Workbench
from phasebench.config import (
    ConfigError,
    KoopmanConfig,
    MeraConfig,
    ModelConfig,
    OdeConfig,
    RecallConfig,
    TrainConfig,
)
from phasebench.data import Corpus
from phasebench.data.batches import IGNORED
from phasebench.data.recall import RecallTask
from phasebench.models import LanguageModel, build_model
from phasebench.results.gate import BenchResult, Gate, Metric, Need, table
from phasebench.results.stats import linear_regression
from phasebench.training.scoring import Batch
from phasebench.training.weights import WeightSource

_MEMORY = {"name": "stage3", "rope_base": None, "koopman": KoopmanConfig("damped")}
# an arm -> what its model has beside the sizes, and the metric that is its recall
ARMS: dict[str, tuple[dict[str, Any], str]] = {
    "rope": ({"name": "stage2"}, "mera_recall_attention"),
    "no_positions": ({"name": "stage2", "rope_base": None}, "mera_recall_no_positions"),
    "memory": (_MEMORY, "koopman_memory_recall"),
    "mera": (_MEMORY, "mera_recall"),  # in every block, instead of attention
}
_FLOW = OdeConfig(steps=1, integrator="leapfrog_dkd", gradient="backprop")  # one force a block
_SIZES: dict[str, Any] = {"dim": 32, "blocks": 2, "heads": 2, "hidden": 64}
LONGER, LEARNED = 4, 0.9  # the factor at which the control is to fail; what it has to have learned
BELOW = 0.02  # of attention's recall: by so much MERA's may be lower
QUESTIONS = 100  # the fewest that gates need
_AT_ONCE = 2**15  # tokens read at one time
_ASKED = -1  # seed of the questions: no training has it


def model_of(arm: str, **sizes: Any) -> ModelConfig:
    """Return an arm's model, of the given sizes."""
    sizes = _SIZES | sizes
    if arm == "mera":
        blocks = list(range(sizes["blocks"]))
        sizes["mera"] = MeraConfig("instead", blocks=blocks, heads=sizes["heads"])
    return ModelConfig(ode=_FLOW, **ARMS[arm][0], **sizes)


def check(workbench: Workbench, config: RecallConfig) -> None:
    """Raise `ConfigError` for sequences too short for the facts."""
    for name, task in _tasks(config).items():
        if config.train_seq < task.shortest:
            problem = f"{task.pairs} facts of the task {name} need {task.shortest} tokens"
            fix = f"bench.recall.train_seq={task.shortest}, or a lower bench.recall.pairs"
            raise ConfigError("bench.recall.train_seq", config.train_seq, problem, fix)


def run(workbench: Workbench, config: RecallConfig) -> BenchResult:
    """Train each arm on each task from each seed, or load it from the cache, and ask it."""
    rows = []
    for name, task in _tasks(config).items():
        source = _source(workbench, config, name, task)
        for arm in config.arms:
            for seed in config.seeds:
                workbench.say(f"recall: {name} by {arm}, seed {seed}")
                model = source.trained(model_of(arm), "bench.recall", seed).model
                accuracies = {
                    str(factor): accuracy(model, task, config.train_seq * factor, config.questions)
                    for factor in config.factors
                }
                size = model.parameter_counts()["blocks"]
                row = {"task": name, "arm": arm, "seed": seed, "parameters": size}
                rows.append(row | {"accuracy": accuracies})
                source.release()
    metrics = metrics_of(config, rows)
    exponents, times = _cost(workbench, config)
    metrics |= exponents
    columns = ("task", "arm", "seed", "parameters", *map(str, config.factors))
    details = {"rows": rows, "chance": 1 / config.values, "times": times}
    details["table"] = table([row | row["accuracy"] for row in rows], columns)
    return BenchResult(metrics, gates_of(config, metrics), details)


def _tasks(config: RecallConfig) -> dict[str, RecallTask]:
    pairs = {"needle": 1, "many": config.pairs}
    return {name: RecallTask(config.values, pairs[name]) for name in config.tasks}


def _no_text(name: str, task: RecallTask) -> Corpus:
    """Return what identifies the task where weights ask for a text."""
    return Corpus(
        name=name,
        source="",
        splits={},
        vocab_size=task.vocab_size,
        eos=0,
        tokenizer_name=name,
        tokenizer_json="",
        fingerprint=str(task),
        comparable=False,
        notice=None,
        entropy_rate=None,
    )


def _source(
    workbench: Workbench, config: RecallConfig, name: str, task: RecallTask
) -> WeightSource:
    """Return what trains models on the task's batches, and keeps them with the others' weights."""

    def batches(step: int, recipe: TrainConfig, seed: int) -> Batch:
        inputs, answers = task.batch(recipe.batch, recipe.seq, seed=seed, step=step)
        targets = torch.full_like(inputs, IGNORED)
        targets[:, -1] = answers
        return inputs, targets

    recipe = TrainConfig(
        steps=config.steps,
        batch=config.batch,
        seq=config.train_seq,
        lr=config.lr,
        warmup=config.steps // 10,
        weight_decay=0.0,
        precision="fp32",
    )
    return WeightSource(
        _no_text(name, task),
        recipe,
        seed=workbench.config.seed,
        device=workbench.device,
        cache=workbench.cache,
        say=workbench.say,
        observers=workbench.observers,
        batches=batches,
    )


@torch.no_grad()
def accuracy(model: LanguageModel, task: RecallTask, seq: int, questions: int) -> float:
    """Return the fraction of sequences of seq tokens whose question is answered right."""
    right, size, device = 0, max(1, _AT_ONCE // seq), model.head.device
    for first in range(0, questions, size):
        count = min(size, questions - first)
        inputs, answers = task.batch(count, seq, seed=_ASKED, step=first)
        z = model.states(inputs.to(device))[:, -1]
        right += int((F.linear(z, model.head).argmax(-1).cpu() == answers).sum())
    return right / questions


def metrics_of(config: RecallConfig, rows: list[dict[str, Any]]) -> dict[str, Metric]:
    """Give each arm's accuracy at each factor, its least one, and MERA's beside attention's."""
    metrics: dict[str, Metric] = {}
    for arm, (_, key) in ARMS.items():
        for task in config.tasks:
            name = key if task == "needle" else f"{key}_{task}"
            own = [row for row in rows if (row["arm"], row["task"]) == (arm, task)]
            means = {
                f: statistics.fmean(row["accuracy"][str(f)] for row in own)
                for f in config.factors
                if own
            }
            missing = None if own else f"bench.recall.arms has no {arm}"
            least, unit = min(means.values(), default=None), "accuracy, least over lengths"
            metrics[name] = Metric(least, unit, reason=missing)
            for factor, mean in means.items():
                metrics[f"{name}_at_{factor}"] = Metric(mean, "accuracy")
    return metrics | _beside_attention(rows, metrics)


def _beside_attention(rows: list[dict[str, Any]], metrics: dict[str, Metric]) -> dict[str, Metric]:
    """Compare MERA with attention without positions, both with the same memory."""
    keys = {"mera_recall_difference": "MERA - attention, accuracy"}
    keys["mera_parameter_ratio"] = "MERA / attention"
    sizes = {row["arm"]: row["parameters"] for row in rows}
    if not {"mera", "memory"} <= sizes.keys() or metrics.get("mera_recall") is None:
        reason = "bench.recall.arms needs mera and memory, and bench.recall.tasks needle"
        return {key: Metric(None, unit, reason=reason) for key, unit in keys.items()}
    ours, theirs = (
        float(metrics[key].value or 0) for key in ("mera_recall", "koopman_memory_recall")
    )
    values = ours - theirs, sizes["mera"] / sizes["memory"]
    return {
        key: Metric(value, unit, "measured" if key.endswith("difference") else "counted")
        for (key, unit), value in zip(keys.items(), values, strict=True)
    }


def gates_of(config: RecallConfig, metrics: dict[str, Metric]) -> list[Gate]:
    """Judge the needle; the control must have learned the task, and then fail beyond its length."""
    asked = Need("questions", config.questions, QUESTIONS)
    beyond = Need("longest length asked, in training's", max(config.factors), LONGER)
    known = metrics.get("mera_recall_attention_at_1")
    learned = Need(
        "accuracy of the control in training", float(known.value or 0) if known else 0.0, LEARNED
    )
    unmeasured = Metric(None, "accuracy", reason="bench.recall leaves it out")
    checks: list[tuple[str, Any, float, list[Need]]] = [
        ("koopman_memory_recall", ">=", config.target, [asked, beyond]),
        (f"mera_recall_attention_at_{LONGER}", "<", config.control_target, [asked, learned]),
        ("mera_recall", ">=", config.target, [asked, beyond]),
        ("mera_recall_difference", ">=", -BELOW, [asked, beyond]),
        ("mera_parameter_ratio", "<=", 1.0, []),
    ]
    if config.cost_lengths:
        checks.append(("mera_cost_exponent", "<=", config.cost_target, []))
    return [
        Gate.check(name, metrics.get(name, unmeasured), comparison, limit, needs)
        for name, comparison, limit, needs in checks
    ]


@torch.no_grad()
def _cost(
    workbench: Workbench, config: RecallConfig
) -> tuple[dict[str, Metric], dict[str, list[float]]]:
    """Fit time = constant T^exponent to one token mixer, forward, at the run's dim and heads."""
    names = {"mera": "mera_cost_exponent", "rope": "attention_cost_exponent"}
    unit = "exponent of the time in the tokens"
    if not (lengths := config.cost_lengths):
        reason = "bench.recall.cost_lengths is null"
        return {name: Metric(None, unit, reason=reason) for name in names.values()}, {}
    own, device = workbench.config.model, workbench.device
    sizes = {"dim": own.dim, "heads": own.heads, "blocks": 1}
    calls = {}
    for arm in names:
        block: Any = (
            build_model(model_of(arm, **sizes), 2).to(device).eval().get_submodule("blocks.0")
        )
        for T in lengths:
            z = torch.randn(1, T, 2 * own.dim, device=device)
            calls[f"{arm} {T}"] = lambda block=block, z=z: block.attend(z)
    timed = interleaved(calls, repeats=3, warmup=1, seed=0, device=device)
    metrics = {}
    for arm, name in names.items():
        medians = [timed[f"{arm} {T}"].median_s for T in lengths]
        line = linear_regression([math.log(T) for T in lengths], [math.log(s) for s in medians])
        metrics[name] = Metric(line.slope, unit)
    return metrics, {name: samples.seconds for name, samples in timed.items()}
