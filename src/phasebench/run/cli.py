"""phasebench's command: compose the configuration of conf/, run the benchmarks it asks for, judge."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from phasebench.run import hydra_app as run


@hydra.main(
    version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="config"
)
def job(tree: DictConfig) -> None:
    """One run, or one point of a sweep."""
    run.job(tree)


def main() -> int:
    """The command; its exit code is 0 if every gate passed, 1 if one failed, 2 if something was not measured."""
    return run.command(job)
