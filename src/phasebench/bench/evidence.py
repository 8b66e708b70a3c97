"""The least evidence that gates need: without it a gate is not measured, never passed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from phasebench.config import ModelConfig
from phasebench.models import LanguageModel, build_model
from phasebench.results.gate import Need

TOKENS = 100  # scored; a mean over fewer says little of a model
MOTION = 1e-3  # of a state by its flow, relative to the state
CHANGE = 1e-6  # of the weights by their training, relative to the weights it began with


def worst(values: Iterable[float]) -> float | None:
    """Take the largest value; NaN where one is, None where there is none."""
    return max(values, key=lambda x: (math.isnan(x), x), default=None)


def scored(tokens: int) -> Need:
    """Require that enough tokens were scored."""
    return Need("tokens scored", tokens, TOKENS)


def moved(motion: float) -> Need:
    """Require that the flow moves the states, by `motion` of themselves."""
    return Need("motion of the states, relative", motion, MOTION)


def trained(change: float) -> Need:
    """Require that a training changed the weights, by `change` of themselves (`weight_change`)."""
    return Need("change of the weights by training, relative", change, CHANGE)


def weight_change(model: LanguageModel, config: ModelConfig, vocab_size: int, seed: int) -> float:
    """Compute |w - w0| / |w0| over all weights w; w0 are those that a training from `seed` begins
    with.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build_model(config, vocab_size)
    change = size = 0.0
    with torch.no_grad():
        for w, w0 in zip(model.parameters(), fresh.parameters(), strict=True):
            change += (w.detach().cpu().double() - w0.double()).square().sum().item()
            size += w0.double().square().sum().item()
    return (change / size) ** 0.5
