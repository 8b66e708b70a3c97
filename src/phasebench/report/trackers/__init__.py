"""Trackers: the results of a run, logged once more where teams look for them; off unless `track`
names them.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from phasebench.config import ConfigError
from phasebench.report.trackers.facts import Facts, facts

# name -> the packages that it needs; its module here has log(facts, folder)
PACKAGES = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy"),
    "wandb": ("wandb",),
}


class Tracker(Protocol):
    """A module of this package."""

    def log(self, facts: Facts, folder: Path) -> str:
        """Log the facts of a run whose folder this is; returns where they went. Raises what the
        package raises.
        """
        ...


def check(names: Sequence[str]) -> None:
    """Raise `ConfigError` for a tracker whose package is not installed."""
    for name in names:
        missing = [
            package for package in PACKAGES[name] if importlib.util.find_spec(package) is None
        ]
        if missing:
            raise ConfigError(
                "track",
                f"[{name}]",
                f"{' and '.join(missing)} not installed",
                f"pip install 'phasebench[{name}]', or leave it out",
            )


def log(results: Mapping[str, Any], folder: Path, name: str) -> str:
    """Log the content of a results.json with one tracker; returns where it went. Raises what its
    package raises.
    """
    module = cast(Tracker, importlib.import_module(f"phasebench.report.trackers.{name}"))
    return module.log(facts(results, folder), folder)
