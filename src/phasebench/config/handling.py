"""How runs are carried out: keys that say nothing of what is measured, and that no result depends on."""

from __future__ import annotations

from dataclasses import dataclass

from phasebench.config.fields import spec

TRACKERS = ("tensorboard", "mlflow", "wandb")


@dataclass
class Handling:
    """Sweeps and trackers. Results do not record these keys, and the configuration's hash leaves them out."""

    sweep_name: str | None = spec(
        None
    )  # of a sweep: its folder is outputs/sweeps/NAME, where it is resumed
    retry_failed: bool = spec(True)  # of a sweep: run the points again that failed last time
    rerun: bool = spec(False)  # of a sweep: run finished points again too
    dry_run: bool = spec(False)  # of a sweep: list what would run and why; run nothing
    job_timeout_s: float | None = spec(
        None, above=0.0
    )  # of a sweep: seconds a point may take; null: no limit
    track: list[str] = spec(
        [], choices=TRACKERS, empty=True
    )  # also log the results there: [tensorboard,mlflow,wandb]
