"""Refuse what this machine cannot hold or would not end, before anything is read or trained.

All estimates are lower bounds: what is let through may still be too much.
"""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import torch

from phasebench.config import Config, ConfigError

ROW_BYTES = 200  # of a synthetic row: its text and its token ids, at least
MOST_STEPS = 10**7  # of one flow
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
    return not config.bench.keys().isdisjoint(("ppl", "budget", "energy"))


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
    for name in ("ppl", "budget", "energy", "speed"):
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
