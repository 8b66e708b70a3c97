"""Is a model as sure as it is right? Calibration error and Brier score after one temperature.

Legend: y logits, t target, beta = 1 / temperature, p = softmax(beta y). A margin or a selection in
training moves the scale of the logits, so that raw errors compare scales: beta is fitted first, by
the least cross-entropy of beta y on the validation split (Guo et al. 2017, arXiv 1706.04599), whose
derivatives are the mean of y minus y_t, and the variance of y.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from phasebench.data.batches import IGNORED
from phasebench.models import LanguageModel
from phasebench.training.scoring import Batch, autocast, mode

BINS = 15
STEPS, TOLERANCE = 10, 1e-4  # of Newton's method: at most so many, and its last one


def logits(
    model: LanguageModel, batches: Iterable[Batch], device: torch.device, precision: str, chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the logits (n, V) of `chunk` scored tokens at a time, in float32, and their targets."""
    with mode(model, training=False), torch.no_grad(), autocast(device, precision):
        for inputs, targets in batches:
            z, t = model.states(inputs.to(device)).flatten(0, 1), targets.to(device).flatten()
            known = t != IGNORED
            for part, own in zip(z[known].split(chunk), t[known].split(chunk), strict=True):
                yield F.linear(part, model.head).float(), own[:, None]


def fitted_beta(passes: Iterable[Iterable[tuple[Tensor, Tensor]]]) -> float:
    """Fit beta by Newton's method; `passes` gives the logits and targets anew for each step."""
    beta = 1.0
    for one in passes:
        slope = curvature = 0.0
        for y, t in one:
            p = (beta * y).softmax(1)
            mean = (p * y).sum(1, keepdim=True)
            slope += float((mean - y.gather(1, t)).double().sum())
            curvature += float((p * (y - mean).square()).double().sum())
        before, beta = beta, min(max(beta - slope / curvature, beta / 2), 2 * beta)
        if abs(beta - before) < TOLERANCE:
            break
    return beta


@dataclass(frozen=True)
class Predictions:
    """What a model says of each token, after the temperature."""

    sure: Float[np.ndarray, " n"]  # probability of the likeliest token
    right: Bool[np.ndarray, " n"]  # whether it is the target
    entropy: Float[np.ndarray, " n"]

    @property
    def expected_calibration_error(self) -> float:
        """Compute the mean of |how sure - how often right| over bins of equal mass, sorted by how
        sure.
        """
        gap = (self.sure - self.right)[self.sure.argsort(kind="stable")]
        return sum(abs(float(one.sum())) for one in np.array_split(gap, BINS)) / len(gap)

    @property
    def brier(self) -> float:
        """Compute the mean of (how sure - whether right)^2 (Brier 1950)."""
        return float(np.square(self.sure - self.right).mean())


def predictions(logits: Iterable[tuple[Tensor, Tensor]], beta: float) -> Predictions:
    """Collect the predictions softmax(beta y)."""
    made: list[tuple[Tensor, ...]] = []
    for y, t in logits:
        p = (beta * y).softmax(1)
        top, at = p.max(1)
        entropy = torch.special.entr(p).sum(1)
        made.append((top.double().cpu(), (at == t[:, 0]).cpu(), entropy.double().cpu()))
    return Predictions(*(torch.cat(column).numpy() for column in zip(*made, strict=True)))
