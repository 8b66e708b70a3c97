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


def check(config: Config, device: torch.device) -> None:
    """Raise `ConfigError` for sizes that need more memory, or more work, than can be had."""
    if config.force:
        return
    held = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else 0
    held = held or psutil.virtual_memory().total
    for key, value, size in _bytes(config):
        if size > held:
            problem = f"needs {size / 1e9:,.0f} GB at least; there are {held / 1e9:,.0f} GB"
            raise ConfigError(key, value, problem, f"lower {key}, or force=true to try")
    for key, value, work, most, unit in _work(config):
        if work > most:
            problem = f"means {work:,.0f} {unit}; above {most:,} it would take months"
            raise ConfigError(key, value, problem, f"choose fewer {unit}, or force=true to try")


def _bytes(config: Config) -> Iterator[tuple[str, int, float]]:
    """Yield a key, its value, and the bytes that it needs at least: states (tokens, 2 dim)."""
    state = 8 * config.model.dim
    if config.data.name in ("auto", "synthetic"):
        rows = config.data.synthetic.rows
        yield "data.synthetic.rows", rows, ROW_BYTES * rows
    recipe = config.train
    tokens = recipe.batch // recipe.accumulate * recipe.seq
    yield "train.batch", recipe.batch, tokens * state * config.model.blocks
    for name in ("ppl", "budget", "energy"):
        if bench := config.bench.get(name):
            yield f"bench.{name}.batch", bench.batch, bench.batch * bench.seq * state


def _work(config: Config) -> Iterator[tuple[str, object, float, int, str]]:
    """Yield a key, its value, the work that it means, the most that is let through, its unit."""
    recipe = config.train
    tokens = recipe.steps * recipe.batch * recipe.seq
    yield "train.steps", recipe.steps, tokens, MOST_TOKENS, "tokens"
    if energy := config.bench.get("energy"):
        duration = energy.steps * energy.dt
        for dt in energy.dts or [energy.dt]:
            key = "bench.energy.dts" if energy.dts else "bench.energy.steps"
            yield key, energy.dts or energy.steps, duration / dt, MOST_STEPS, "steps of a flow"
