"""phasebench's command: compose the configuration of conf/, run its benchmarks, judge."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from phasebench.run import hydra_app as run
from phasebench.run.export import export
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
    ``generate RUN TEXT`` writes text by a trained model instead, ``export RUN FOLDER`` its files.
    """
    other = {"generate": generate, "export": export}.get("".join(sys.argv[1:2]))
    return other(sys.argv[2:]) if other else run.command(job)
