"""Weights & Biases: a run of the project `phasebench`, on disk unless WANDB_MODE says online."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

from phasebench.report.trackers.facts import Facts

PROJECT = "phasebench"


def log(facts: Facts, folder: Path) -> str:
    """Log a run with its parameters, metrics, gates and results.json to FOLDER/wandb."""
    mode = os.environ.setdefault("WANDB_MODE", "offline")
    if mode != "online":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no network unless asked
    wandb = importlib.import_module("wandb")
    run = wandb.init(
        project=PROJECT,
        name=facts.name,
        group=facts.group,
        config=facts.parameters,
        mode=mode,
        dir=str(folder),
        tags=[f"{key}:{value}"[:64] for key, value in facts.tags.items()],
        reinit="create_new",
        settings=wandb.Settings(console="off", silent=True),
    )
    run.log(facts.metrics | facts.gates)
    shutil.copy(folder / "results.json", run.dir)
    run.finish()
    return f"{folder / 'wandb'} ({mode})"
