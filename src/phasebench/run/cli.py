"""phasebench's command: compose the configuration of conf/, run its benchmarks, judge."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from phasebench.run import hydra_app as run
from phasebench.run.generate import generate


@hydra.main(
    version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="config"
)
def job(tree: DictConfig) -> None:
    """One run, or one point of a sweep."""
    run.job(tree)


def main() -> int:
    """Run the command; returns its exit code.

    0: every gate passed. 1: a gate failed. 2: something was not measured.
    ``generate RUN TEXT`` writes text by a trained model instead.
    """
    if sys.argv[1:2] == ["generate"]:
        return generate(sys.argv[2:])
    return run.command(job)
