"""Averages of the weights over a training: what is validated and stored, not the last weights.

    ema   m <- m + max(9 / (n + 9), 1 - decay) (w - m)   after the n-th averaged step
    tail  m <- m + (w - m) / n                           the mean of all

ema remembers a ninth of the steps so far, which grows to 1 / (1 - decay): a mean would keep weights
of the start, which are far from all later ones, so tail is for the end of a training
(average_start). Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better
Generalization"; Polyak & Juditsky 1992. AWD-LSTM's ASGD is such a tail average (Merity, Keskar &
Socher 2018). Neither changes the training itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from phasebench.config import TrainConfig
from phasebench.training.checkpoint import weights


class Average:
    """The running average of a model's weights; off, it does nothing."""

    def __init__(self, model: nn.Module, recipe: TrainConfig) -> None:
        self.live, self.rule = weights(model), recipe.average
        self.decay = recipe.average_decay if recipe.average == "ema" else 1.0
        self.start = round(recipe.average_start * (recipe.steps - 1))  # steps that are left out
        self.means: dict[str, Tensor] = {}  # empty until the first averaged step

    def describe(self) -> str:
        """Say which average it is, for people; empty where there is none."""
        decay = f" {self.decay:g}" if self.rule == "ema" else ""
        return f"{self.rule}{decay} from step {self.start + 1}" if self.means else ""

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the weights after `done` steps."""
        n = done - self.start
        if self.rule == "off" or n < 1:
            return
        if not self.means:
            self.means = {name: w.detach().clone() for name, w in self.live.items()}
            return
        share = max(9 / (n + 9), 1 - self.decay) if self.rule == "ema" else 1 / n
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.means.values()), [self.live[name] for name in self.means], share
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the model, and the live weights back on leaving."""
        before = {name: self.live[name].detach().clone() for name in self.means}
        self.put(self.means)
        try:
            yield
        finally:
            self.put(before)

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        """Copy values into the model's weights of the same names."""
        for name, value in values.items():
            self.live[name].copy_(value)
