"""A run: everything that it depends on, and how it is carried out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from phasebench.config.fields import positive, spec
from phasebench.config.model import ModelConfig
from phasebench.config.training import DataConfig, TrainConfig

TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")


@dataclass
class RunOptions:
    """Sweeps and trackers: keys that no result depends on, so that results do not record them."""

    sweep_name: str | None = spec(
        None, "of a sweep: its folder is outputs/sweeps/NAME, where the same command resumes it"
    )
    retry_failed: bool = spec(True, "of a sweep: run the points again that failed last time")
    rerun: bool = spec(False, "of a sweep: run finished points again too")
    dry_run: bool = spec(False, "of a sweep: list what would run and why; run nothing")
    job_timeout_s: float | None = positive(
        None, "of a sweep: seconds a point may take; null: no limit"
    )
    track: list[str] = spec(
        [], "trackers that the results are also logged with", choices=TRACKERS, empty=True
    )
    force: bool = spec(False, "try what cannot fit into memory, or would take months, all the same")
    allow_targets: bool = spec(False, "let the command line's _target_ name any code and run it")


@dataclass
class Config(RunOptions):
    """Everything that a run depends on, and how it is carried out."""

    benchmark_name: str = spec("phasebench", "label in the results")
    device: str = spec(
        "auto",
        "where to run; auto: cuda where there is one",
        choices=("auto", "cpu", "cuda"),
        prefix="cuda:",
    )
    seed: int = spec(0, "random seed of weights, batches and dropout", low=0, high=2**63 - 1)
    output: str | None = spec(
        None, "file or folder to which results.json is also copied; null: none", path=True
    )
    cache_dir: str = spec("outputs/cache", "folder of trained weights and tokenizers", path=True)
    scale: dict[str, Any] = spec(
        {}, "sizes that the other keys take theirs from; choose it as a group"
    )
    model: ModelConfig = spec(ModelConfig)
    data: DataConfig = spec(DataConfig)
    train: TrainConfig = spec(TrainConfig)
    bench: dict[str, Any] = spec({}, "the benchmarks to run, each with its keys")

    def recorded(self) -> dict[str, Any]:
        """Return what results record and their hash covers: all but `RunOptions`."""
        carried_out = {f.name for f in dataclasses.fields(RunOptions)}
        return {
            key: value for key, value in dataclasses.asdict(self).items() if key not in carried_out
        }
