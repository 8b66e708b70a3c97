"""The scores of one model over the seeds it was trained from, and what a few of them can say of a
ratio.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from phasebench.results.gate import Metric
from phasebench.results.stats import CONFIDENCE, quantile, ratio_interval
from phasebench.training.scoring import Score, perplexity

ONE = "one seed: no spread (bench.ppl.seeds=[0,1,2])"
FEW = 10  # seeds below which an interval is said to rest on few


@dataclass(frozen=True)
class Weights:
    """What was measured of one model's weights of one seed."""

    score: Score
    origin: dict[str, Any]  # as results.json records it, the training's course included
    notices: list[str]
    sizes: dict[str, Metric]  # parameters, FLOPs
    change: float  # by the training, relative
    leak: float | None  # None: not tested


@dataclass
class Scored:
    """A model's weights of each seed, in the order of the seeds."""

    name: str
    seeds: list[int]
    weights: list[Weights] = field(default_factory=list)
    tokenizer: str = ""

    @property
    def scores(self) -> list[Score]:
        return [weights.score for weights in self.weights]

    @property
    def complete(self) -> bool:
        return all(score.complete for score in self.scores)

    def rows(self) -> list[dict[str, Any]]:
        """Give perplexity, nats and origin of the weights of each seed."""
        return [
            {"seed": seed, "ppl": w.score.perplexity, "nats": w.score.nats, "weights": w.origin}
            for seed, w in zip(self.seeds, self.weights, strict=True)
        ]

    def describe(self) -> str:
        """Say what a reader of the interval must know."""
        n = len(self.seeds)
        few = f"{n} seeds are few: the interval rests on" if n < FEW else "the interval rests on"
        t = f"t = {quantile(n - 1):.2f}"
        return f"{few} Student's t with {n - 1} degrees of freedom ({t}) and normal log ratios"


def spread(model: Scored) -> dict[str, Metric]:
    """What there is beside the mean: standard deviation over the seeds, and the leak if it was
    tested.
    """
    metrics = {}
    if len(model.seeds) > 1:
        sd = statistics.stdev(score.perplexity for score in model.scores)
        metrics["ppl_sd"] = Metric(sd, "perplexity per token")
        metrics["seeds"] = Metric(len(model.seeds), "seeds", kind="counted")
    leaks = [weights.leak for weights in model.weights if weights.leak is not None]
    if leaks:
        metrics["leak"] = Metric(max(leaks), "of the largest logit")
    return metrics


def ratio_metrics(
    name: str, unit: str, ours: Scored, theirs: Scored, words: int
) -> dict[str, Metric]:
    """Candidate over another: geometric mean over the seeds, and with several its interval by
    `ratio_interval`.

    Of perplexities per token, or, where the two tokenise otherwise, per each of the split's words.
    """
    pairs = zip(ours.scores, theirs.scores, strict=True)
    if ours.tokenizer == theirs.tokenizer:
        logs = [a.nats_per_token - b.nats_per_token for a, b in pairs]
    elif not (ours.complete and theirs.complete):
        reason = "other tokens, and only a part of the split was scored (bench.ppl.max_batches)"
        return {name: Metric(None, unit, reason=reason)}
    else:
        unit += ", per word"
        logs = [(a.nats - b.nats) / words for a, b in pairs]
    metrics = {name: Metric(perplexity(statistics.fmean(logs)), unit)}
    interval = ratio_interval(logs)
    if interval is None:
        return metrics
    text = f"{unit}, {100 * CONFIDENCE:.0f} % interval"
    return metrics | {
        f"{name}_low": Metric(interval.low, text),
        f"{name}_high": Metric(interval.high, text),
        f"{name}_log_sd": Metric(statistics.stdev(logs), f"ln({unit})"),
    }
