"""Refuse what this machine cannot hold or would not end, and announce what takes hours.

All estimates are lower bounds: what is let through may still be too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil
import torch

from phasebench.bench.clock import interleaved
from phasebench.config import (
    TRAINING,
    BudgetConfig,
    Config,
    ConfigError,
    ModelConfig,
    ScoringConfig,
)
from phasebench.dynamics import force_evaluations
from phasebench.training.weights import WeightSource

ROW_BYTES = 200  # of a synthetic row: its text and its token ids, at least
MOST_STEPS = 10**7  # of one flow
LEAST_FLOPS = 1e14  # of which an hour may be made, by the slowest machines
LEAST_S = 1800  # of such a bound: real steps reach a fraction of a square product's rate
MOST_TOKENS = 10**13  # of a training: four months at a million tokens a second


def check(config: Config, device: torch.device, tokens: int | None = None) -> None:
    """Raise `ConfigError` for sizes that need more memory, or more work, than can be had.

    `tokens` are those of the training split, once it is read: epochs are work only then.
    """
    if config.force:
        return
    host = psutil.virtual_memory().total
    held = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else host
    rows = config.data.synthetic.rows
    if config.data.name in ("auto", "synthetic") and _trains(config):
        _fits("data.synthetic.rows", rows, ROW_BYTES * rows, host)
    for key, value, size in _bytes(config):
        _fits(key, value, size, held)
    for key, value, work, most, unit in _work(config, tokens):
        if work > most:
            problem = f"means {work:,.0f} {unit}; above {most:,} it would take months"
            raise ConfigError(key, value, problem, f"choose fewer {unit}, or force=true to try")


def _fits(key: str, value: int, size: float, held: int) -> None:
    if size > held:
        problem = f"needs {size / 1e9:,.0f} GB at least; there are {held / 1e9:,.0f} GB"
        raise ConfigError(key, value, problem, f"lower {key}, or force=true to try")


def _trains(config: Config) -> bool:
    return not config.bench.keys().isdisjoint(TRAINING)


def _bytes(config: Config) -> Iterator[tuple[str, int, float]]:
    """Yield a key, its value, and the bytes of the device that it needs at least.

    States are (tokens, 2 dim); a block has a matrix of dim^2 at least.
    """
    model, recipe = config.model, config.train
    state = 8 * model.dim
    if set(config.bench) - {"vram"}:  # which predicts without a model, or measures what fits
        yield "model.dim", model.dim, 4 * model.dim**2 * model.blocks
    if _trains(config):
        tokens = recipe.batch // recipe.accumulate * recipe.seq
        yield "train.batch", recipe.batch, tokens * state * model.blocks
    for name in (*TRAINING, "speed"):
        if bench := config.bench.get(name):
            yield f"bench.{name}.batch", bench.batch, bench.batch * bench.seq * state
    if grad := config.bench.get("grad"):
        yield "bench.grad.tokens", grad.tokens, grad.tokens * state


def _work(config: Config, tokens: int | None) -> Iterator[tuple[str, object, float, int, str]]:
    """Yield a key, its value, the work that it means, the most that is let through, its unit."""
    recipe, bench = config.train, config.bench
    if _trains(config) and recipe.epochs is None:
        seen = recipe.steps * recipe.batch * recipe.seq
        yield "train.steps", recipe.steps, seen, MOST_TOKENS, "tokens"
    epochs = {"train.epochs": recipe.epochs}
    if "budget" in bench:
        epochs["bench.budget.budgets"] = max(bench["budget"].budgets)
    for key, value in epochs.items():
        if value is not None:
            yield key, value, value * (tokens or 0), MOST_TOKENS, "tokens"
    if energy := bench.get("energy"):
        duration = energy.steps * energy.dt
        for dt in energy.dts or [energy.dt]:
            key = "bench.energy.dts" if energy.dts else "bench.energy.steps"
            yield key, energy.dts or energy.steps, duration / dt, MOST_STEPS, "steps of a flow"
    if grad := bench.get("grad"):
        yield "bench.grad.steps", grad.steps, max(grad.steps), MOST_STEPS, "steps of a flow"
    yield "model.ode.steps", config.model.ode.steps, config.model.ode.steps, MOST_STEPS, "steps"


def slow(config: Config, weights: Callable[[], WeightSource], device: torch.device) -> str | None:
    """Say how long the run takes at least, if that is half an hour or more, and what is faster.

    Counted are matrix products: of trainings whose weights are neither given nor cached, and of
    kicks. They cannot take less time than square products do on this machine.

    weights: makes the run's source of trained weights, where a bench needs one.
    """
    parts = [*_kicks(config), *_trainings(config, weights)]
    work = sum(flops for flops, _ in parts)
    if work < LEAST_FLOPS:
        return None
    on_gpu = device.type == "cuda"
    n = 4096 if on_gpu else 512
    a = torch.ones(n, n, device=device, dtype=torch.bfloat16 if on_gpu else torch.float32)
    timed = interleaved({"": lambda: a @ a}, repeats=5, warmup=2, seed=0, device=device)[""]
    rate = 2 * n**3 / timed.median_s
    if work < LEAST_S * rate:
        return None
    fix = max(parts)[1]
    if not on_gpu and config.scale.get("name") != "laptop":
        fix = f"scale=laptop, or {fix}"
    hours = f"{work / rate / 3600:,.1f} hours at least on this machine"
    return f"this takes {hours} ({work:.1e} FLOPs at {rate / 1e9:,.0f} GFLOP/s); faster: {fix}"


def _kick_flops(model: ModelConfig, steps: int) -> float:
    """Count the FLOPs a token of kicks with their gradients, 8 products each (bench.speed)."""
    each = [force_evaluations(model.ode.integrator, n) for n in (1, 2)]  # the first one has more
    kicks = (each[1] - each[0]) * steps * model.blocks
    return kicks * 16.0 * model.dim * model.hidden if model.has_flow else 0.0


def _kicks(config: Config) -> Iterator[tuple[float, str]]:
    """Yield the FLOPs of the flows that energy, grad and speed run, and what makes them fewer."""
    benches, model = config.bench, config.model
    if energy := benches.get("energy"):
        tokens = energy.batch * energy.seq * len(energy.seeds or [0])
        fix = f"bench.energy.steps={max(8, energy.steps // 10)}"
        yield tokens * _kick_flops(model, energy.steps) / 4, fix  # no gradients
    if grad := benches.get("grad"):
        steps = sum(grad.steps) * len(grad.methods)
        yield grad.tokens * _kick_flops(model, steps) / model.blocks, "bench.grad.steps=[1,10]"
    if speed := benches.get("speed"):
        calls = len(speed.methods) * (len(speed.precisions) + 1) * (speed.warmup + speed.repeats)
        tokens = speed.batch * speed.seq * calls
        yield tokens * _kick_flops(model, model.ode.steps), "fewer bench.speed.methods"


def _trainings(config: Config, weights: Callable[[], WeightSource]) -> Iterator[tuple[float, str]]:
    """Yield the FLOPs of each training: 6 a weight and token, and kicks; and what makes it short.

    The table of token embeddings counts once, as the head.
    """
    trained: dict[tuple[str, int], tuple[ModelConfig, float | None]] = {}
    for name, bench in config.bench.items():
        if name not in TRAINING:
            continue
        others = [bench.baseline, bench.reference] if isinstance(bench, ScoringConfig) else []
        epochs = max(bench.budgets) if isinstance(bench, BudgetConfig) else None
        for i, model in enumerate([config.model, *others]):
            if model:
                for seed in bench.seeds or [config.seed]:
                    trained[f"{i} {epochs}", seed] = model, epochs
    for (_, seed), (model, epochs) in trained.items():
        source = weights()
        if source.is_there(model, seed, epochs):
            continue
        recipe = source.recipe_of(model, epochs)
        block = 4 * model.dim + 2 * model.hidden  # attention and MLP, by the channel
        size = model.dim * (source.corpus.vocab_size + model.blocks * block)
        tokens = recipe.steps * recipe.batch * recipe.seq
        fix = f"train.steps={max(1, recipe.steps // 10)}"
        if epochs or config.train.epochs:
            fix = "fewer epochs"
        yield tokens * (6.0 * size + _kick_flops(model, model.ode.steps)), fix
