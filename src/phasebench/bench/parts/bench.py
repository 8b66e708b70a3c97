"""What each part of Stage 3 does: all combinations of parts are trained, with equal parameters.

A training has its own random seed. Effects on the logarithms of perplexity, of the time of a step
and of the memory of training are fitted to all trainings at once (`design`), so that each rests on
all of them. What a part brings in parameters is taken from `model.hidden`. Each training is cached:
a killed run goes on, and `bench.parts.cells` lets several machines do some each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from phasebench.bench.evidence import weight_change
from phasebench.bench.parts import calibration, dialectic
from phasebench.bench.parts.design import Cell, assigned, cells
from phasebench.bench.parts.judge import judge, trainings
from phasebench.bench.parts.reach import sparsest
from phasebench.bench.ppl.leak import leak
from phasebench.bench.workbench import Workbench, require_ode, score_split
from phasebench.config import Config, ConfigError, ModelConfig, PartsConfig, TrainConfig
from phasebench.data import scoring_batches
from phasebench.models import build_model
from phasebench.models.language_model import flops_per_token
from phasebench.results.gate import BenchResult
from phasebench.training.loop import TrainingDiverged
from phasebench.training.scoring import Batch, NotFinite, autocast
from phasebench.training.weights import Trained

# the key that switches a part, and its value of off; a part that needs another stands before it, as
# it is switched off first
SWITCHES = {
    "mera": ("model.mera.mode", "off"),
    "memory": ("model.koopman.memory", "off"),
    "margin": ("train.dialectic.margin", 0.0),
    "entropic": ("train.entropic.score", "off"),
}
UNITS = 16  # hidden units at a time, which the flow's kernels like


def check(workbench: Workbench, config: PartsConfig) -> None:
    """Raise `ConfigError` for parts that are not on or not the model's, for given weights, for a
    split without text, for trainings that there are not, and for no flow to reverse.
    """
    own = workbench.config
    if config.reverse:
        require_ode(workbench, config)
    for part in config.parts:
        key, off = SWITCHES[part]
        if key.startswith("model.") and own.model.name != "stage3":
            rest = [p for p in config.parts if SWITCHES[p][0].startswith("train.")]
            fix = f"model=stage3, or bench.parts.parts=[{','.join(rest)}]"
            raise ConfigError("model", own.model.name, f"has no {part} to switch", fix)
        if attrgetter(key)(own) == off:
            problem = f"bench.parts switches {part} off and on, so the run must have it on"
            raise ConfigError(key, off, problem, f"another {key}, or bench.parts.parts without it")
    if own.model.checkpoint:
        problem = "weights of one training; bench=parts trains many"
        raise ConfigError("model.checkpoint", own.model.checkpoint, problem, "null")
    for split in ("validation", config.split):
        if not len(workbench.corpus.splits[split].tokens):
            raise ConfigError("bench.parts.split", split, "has no tokens", "more text")
    last = trainings(config) - 1
    if config.cells and max(config.cells) > last:
        raise ConfigError("bench.parts.cells", config.cells, f"the last one is {last}", "lower")


def run(workbench: Workbench, config: PartsConfig) -> BenchResult:
    """Train all combinations, or take them from the cache, and fit what the parts do."""
    recipe = workbench.weights.recipe_of(workbench.config.model)
    limit = sparsest(recipe.steps)
    if "entropic" in config.parts and recipe.validate_every > limit:
        problem = f"train.validate_every={recipe.validate_every} is too rare"
        workbench.say(f"entropic_tokens_ratio will be null: {problem}, {limit} is not", "yellow")
    return judge(config, list(_rows(workbench, config)))


def switched(config: Config, off: Cell, smoothing: float = 0.0) -> Config:
    """Return the run's configuration with some parts off; without margin, labels are smoothed."""

    def put(group: Any, keys: Sequence[str], value: object) -> Any:
        first, *rest = keys
        new = put(getattr(group, first), rest, value) if rest else value
        return dataclasses.replace(group, **{first: new})

    for part, (key, value) in SWITCHES.items():
        if part in off:
            config = put(config, key.split("."), value)
    return put(config, ("train", "label_smoothing"), smoothing) if "margin" in off else config


def matched(model: ModelConfig, parameters: int) -> ModelConfig:
    """Return the model with the hidden width at which its blocks have about so many parameters.

    Raises `ConfigError` where none is left.
    """
    own, more = (
        build_model(dataclasses.replace(model, hidden=hidden), 2).parameter_counts()["blocks"]
        for hidden in (model.hidden, model.hidden + UNITS)
    )
    hidden = model.hidden - UNITS * round((own - parameters) / (more - own))
    if hidden < 1:
        problem = f"is too few to pay for parts of {own - parameters:,} parameters"
        raise ConfigError("model.hidden", model.hidden, problem, "bench.parts.match=off, or more")
    return dataclasses.replace(model, hidden=hidden)


def _rows(workbench: Workbench, config: PartsConfig) -> Iterator[dict[str, Any]]:
    """Yield what was measured of each training that may be done or is cached."""
    every, own = cells(config.parts), workbench.config
    by_cell = {
        cell: switched(own, frozenset(config.parts) - cell, config.label_smoothing)
        for cell in every
    }
    models = {cell: settings.model for cell, settings in by_cell.items()}
    if config.match == "hidden":
        base = build_model(models[every[0]], 2).parameter_counts()["blocks"]
        models = {cell: matched(model, base) for cell, model in models.items()}
    order = every * config.replicates
    seeds = config.seeds or range(own.seed, own.seed + len(order))
    for number, (cell, seed) in enumerate(
        zip(order, assigned(order, seeds, config.parts), strict=True)
    ):
        model = models[cell]
        source = dataclasses.replace(workbench.weights, recipe=by_cell[cell].train)
        skipped = config.cells is not None and number not in config.cells
        if skipped and not source.is_there(model, seed):
            continue
        named = " + ".join(part for part in config.parts if part in cell) or "no part"
        workbench.say(f"training {number} (0 to {len(order) - 1}): {named}, seed {seed}")
        row: dict[str, Any] = {"number": number, "parts": sorted(cell), "seed": seed}
        row["hidden"] = model.hidden
        try:
            weights = source.trained(model, "model", seed)
            recipe = source.recipe_of(model)
            yield row | _measured(workbench, config, weights, model, recipe, seed)
        except (TrainingDiverged, NotFinite) as error:
            yield row | {"nats": None, "reason": str(error).splitlines()[0]}
        source.release()
        workbench.release()


def _measured(
    workbench: Workbench,
    config: PartsConfig,
    weights: Trained,
    settings: ModelConfig,
    recipe: TrainConfig,
    seed: int,
) -> dict[str, Any]:
    """Measure one training: perplexity, sizes, time, memory, leak, calibration."""
    from scipy.stats import trim_mean

    model, corpus, device = weights.model, workbench.corpus, workbench.device
    sizes = {"batch": config.batch, "seq": config.seq, "stride": config.stride}
    how: dict[str, Any] = sizes | {"precision": config.precision}
    score = score_split(workbench, model, config.split, **how)
    with autocast(device, "fp32"):
        tokens = corpus.splits[config.split].tokens[: config.seq]
        leaked = leak(model, tokens.to(device))
    own = recipe.entropic
    skipped = (1 - own.warmup - own.release) * (1 - own.keep + own.noise) * (own.score != "off")
    # two products of the head's backward pass, for the tokens that are not scored
    saved = 4 * model.head.numel() * skipped
    # a mean, as phases of a selection differ; without the few steps that compile or record
    times = [1 / step["tokens_per_s"] for step in weights.origin["steps"]]
    peak = weights.origin["peak_bytes"]
    return {
        "selection": own.score,
        "label_smoothing": recipe.label_smoothing,
        "nats": score.nats_per_token,
        "tokens": score.tokens,
        "parameters": model.parameter_counts()["blocks"],
        "flops": 3 * flops_per_token(model, config.seq) - saved,
        "seconds": recipe.batch * recipe.seq * float(trim_mean(times, 0.05)),
        "peak_gb": peak and peak / 1e9,
        "leak": leaked,
        "change": weight_change(model, settings, corpus.vocab_size, seed),
        **_calibration(workbench, config, weights),
        "weights": weights.origin,
        "reason": None,
    }


def _calibration(
    workbench: Workbench, config: PartsConfig, weights: Trained
) -> dict[str, float | None]:
    """Fit the temperature on validation tokens, and measure the predictions with it on the split;
    of `reverse` the same.
    """
    corpus, recipe, model = workbench.corpus, workbench.config.train, weights.model
    how = workbench.device, config.precision
    fitted, judged = ("validation", recipe.validate_tokens), (config.split, None)

    def batches(split: str, most: int | None) -> Iterator[Batch]:
        sizes = {"batch": config.batch, "seq": config.seq, "stride": config.stride or config.seq}
        return scoring_batches(corpus.splits[split].tokens[:most], eos=corpus.eos, **sizes)

    def logits(text: tuple[str, int | None]) -> Iterator[Any]:
        return calibration.logits(model, batches(*text), *how, recipe.loss_chunk)

    beta = calibration.fitted_beta(logits(fitted) for _ in range(calibration.STEPS))
    made = calibration.predictions(logits(judged), beta)
    row: dict[str, float | None] = {"temperature": 1 / beta, "brier": made.brier}
    row["ece"] = made.expected_calibration_error
    if not config.reverse:
        return row
    sides: list[Any] = []
    for text in (fitted, judged):
        own = made if text is judged else calibration.predictions(logits(text), beta)
        d = dialectic.disagreements(model, batches(*text), *how)
        sides += np.column_stack((own.entropy, d)), ~own.right
    return row | {"auroc_gain": dialectic.gain(*sides)}
