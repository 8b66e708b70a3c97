"""phasebench's command: compose the configuration of conf/, run the benchmarks it asks for, judge.

python runner.py bench=all
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from phasebench import run


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="config")
def job(tree: DictConfig) -> None:
    run.job(tree)


if __name__ == "__main__":
    sys.exit(run.command(job))
