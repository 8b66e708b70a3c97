"""Jobs that run side by side on one machine: how many, and what cannot be measured so."""

from __future__ import annotations

import os
from collections.abc import Sequence

from phasebench.config import Config, ConfigError
from phasebench.results.jsonfile import Json
from phasebench.run.gpus import uses_gpu
from phasebench.run.sweep.point import Point


def side_by_side(launcher: Json, jobs: int) -> int:
    """Return how many jobs a launcher runs at one time on one machine, at most.

    One that phasebench does not know may run all of them.

    `launcher` is the group hydra.launcher of the composed configuration.

    >>> side_by_side({"_target_": "x.JoblibLauncher", "n_jobs": 2}, 12)
    2
    """
    name = str(launcher["_target_"]).rpartition(".")[2]
    if name in ("BasicLauncher", "SlurmLauncher"):  # in turn; each in resources of its own
        return 1
    if name == "JoblibLauncher":
        wanted, cores = int(launcher["n_jobs"]), os.cpu_count() or 1
        jobs = min(jobs, wanted if wanted > 0 else cores + 1 + wanted)
    return max(jobs, 1)


def check(points: Sequence[Point], beside: int) -> None:
    """Raise `ConfigError` where jobs side by side measure time, or memory on a GPU."""
    if beside <= 1:
        return
    for config in (point.config for point in points if isinstance(point.config, Config)):
        if "speed" in config.bench:
            what = "bench.speed measures time"
        elif "vram" in config.bench and uses_gpu(config.device):
            what = "bench.vram measures memory on a GPU"
        else:
            continue
        raise ConfigError(
            "hydra/launcher",
            "",
            f"{what}, and {beside} jobs at one time on one machine would disturb it",
            "run them one after the other: hydra/launcher=basic, or hydra.launcher.n_jobs=1 of "
            "joblib; or leave that benchmark out",
        )
