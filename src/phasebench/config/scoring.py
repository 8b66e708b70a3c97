"""How benchmarks score trained models on a split of the text."""

from __future__ import annotations

from dataclasses import dataclass

from phasebench.config.fields import ConfigError, count, positive, random_seeds, spec
from phasebench.config.model import PRECISIONS, ModelConfig
from phasebench.config.training import SPLITS


def distinct(seeds: list[int] | None) -> None:
    """Raise `ConfigError` where a seed stands twice."""
    if seeds and len(set(seeds)) < len(seeds):
        raise ConfigError("seeds", seeds, "names a seed twice", "name each once")


@dataclass
class SplitConfig:
    """How trained models are scored on a split."""

    batch: int = count(4, "windows scored at one time")
    seq: int = spec(1024, "tokens of context at most", low=2)
    stride: int | None = count(
        None, "tokens scored a window; null: seq, so contexts do not overlap"
    )
    split: str = spec("test", "split of the text", choices=SPLITS)
    precision: str = spec("fp16", "precision of the matrix products", choices=PRECISIONS)
    seeds: list[int] | None = random_seeds(
        "random seeds, from each of which every model is trained; null: seed alone"
    )

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride > self.seq:
            problem = f"is above seq={self.seq}; tokens between two windows would not be scored"
            raise ConfigError("stride", self.stride, problem, "choose a stride of at most seq")
        distinct(self.seeds)


@dataclass
class ScoringConfig(SplitConfig):
    """How trained models are scored on a split, and which ones are compared."""

    target: float = positive(1.02, "gate: model / baseline at most")
    baseline: ModelConfig | None = spec(
        None, "the model to beat, with the keys of model; null: none, and no ratio"
    )
    reference: ModelConfig | None = spec(
        None, "a further model beside it, with the keys of model; null: none"
    )
