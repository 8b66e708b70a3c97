"""The scores of one model over the seeds it was trained from, and what a few of them can say of a ratio."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from phasebench.results.file import Gate, Metric
from phasebench.results.stats import CONFIDENCE, quantile, ratio_interval
from phasebench.training.scoring import Score, perplexity

_ONE = "one seed: no spread (bench.ppl.seeds=[0,1,2])"
FEW = 10  # seeds below which an interval is said to rest on few


@dataclass
class Scored:
    """The scores of a model's weights of each seed, in the order of the seeds."""

    seeds: list[int]
    scores: list[Score] = field(default_factory=list)
    origins: list[dict[str, Any]] = field(default_factory=list)
    leaks: list[float] = field(default_factory=list)

    @property
    def several(self) -> bool:
        return len(self.seeds) > 1

    @property
    def complete(self) -> bool:
        return all(score.complete for score in self.scores)

    def mean(self, value: Callable[[Score], float]) -> float:
        return statistics.fmean(value(score) for score in self.scores)

    def rows(self) -> list[dict[str, Any]]:
        """For each seed: perplexity, nats, and where its weights are from; the training's course included."""
        return [
            {"seed": seed, "ppl": score.perplexity, "nats": score.nats, "weights": origin}
            for seed, score, origin in zip(self.seeds, self.scores, self.origins, strict=True)
        ]

    def describe(self) -> str:
        """What a reader of the interval must know."""
        n = len(self.seeds)
        few = f"{n} seeds are few: the interval rests on" if n < FEW else "the interval rests on"
        return f"{few} Student's t with {n - 1} degrees of freedom (t = {quantile(n - 1):.2f}) and normal log ratios"


def spread(scored: Scored) -> dict[str, Metric]:
    """What there is beside the mean: standard deviation over the seeds, and the leak if it was tested."""
    found = {}
    if scored.several:
        found["ppl_sd"] = Metric(
            statistics.stdev(s.perplexity for s in scored.scores), "perplexity per token"
        )
        found["seeds"] = Metric(len(scored.seeds), "seeds", kind="counted")
    if scored.leaks:
        found["leak"] = Metric(max(scored.leaks), "of the largest logit")
    return found


def ratio_metrics(name: str, unit: str, ours: Scored, theirs: Scored) -> dict[str, Metric]:
    """Candidate over another: geometric mean over the seeds, and with several its interval by `ratio_interval`."""
    logs = [
        a.nats_per_token - b.nats_per_token for a, b in zip(ours.scores, theirs.scores, strict=True)
    ]
    found = {name: Metric(perplexity(statistics.fmean(logs)), unit)}
    interval = ratio_interval(logs)
    if interval is None:
        return found
    text = f"{unit}, {100 * CONFIDENCE:.0f} % interval"
    return found | {
        f"{name}_low": Metric(interval.low, text),
        f"{name}_high": Metric(interval.high, text),
        f"{name}_log_sd": Metric(statistics.stdev(logs), f"ln({unit})"),
    }


def upper_gate(high: Metric | None, target: float) -> Gate:
    """The upper end of the ratio's interval against its target; not measured without several seeds."""
    value = None if high is None or high.value is None else float(high.value)
    passed = None if value is None or math.isnan(value) else value <= target
    return Gate(
        "ppl_ratio_high", passed, value, f"<= {target:g}", None if passed is not None else _ONE
    )
