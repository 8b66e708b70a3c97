"""Is a model as sure as it is right? Expected calibration error after one temperature.

Legend: y logits, t target, beta = 1 / temperature, p = softmax(beta y). A margin or a selection in
training moves the scale of the logits, so that raw errors compare scales: beta is fitted first, by
the least cross-entropy of beta y on the validation split (Guo et al. 2017, arXiv 1706.04599), whose
derivatives are the mean of y minus y_t, and the variance of y.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
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


def expected_calibration_error(logits: Iterable[tuple[Tensor, Tensor]], beta: float) -> float:
    """Compute the mean of |how sure - how often right| of the likeliest token over bins of equal
    mass, sorted by how sure.
    """
    sure, right = [], []
    for y, t in logits:
        top, at = (beta * y).softmax(1).max(1)
        sure.append(top.double().cpu())
        right.append((at == t[:, 0]).double().cpu())
    order = torch.cat(sure).argsort(stable=True)
    gap = (torch.cat(sure) - torch.cat(right))[order]
    return sum(abs(float(one.sum())) for one in gap.tensor_split(BINS)) / len(gap)
