"""A run from Python, such as a notebook: the command without its process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from phasebench.config import ConfigError
from phasebench.results.file import load
from phasebench.run import hydra_app
from phasebench.run.errors import explain
from phasebench.run.overrides import CONF, prepare


def run(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run benchmarks and return their results, as results.json holds them.

    Args:
        overrides: what would follow ``python runner.py``, a word each: ``["bench=ppl"]``. A sweep
            (-m) needs the command.

    Writes results.json into the run's folder, outputs/DATE/TIME below the working directory or
    hydra.run.dir, and shows its tables and notices. Raises `ConfigError` for bad input; a benchmark
    that fails is recorded in the results.

    Examples:
        results = phasebench.run(["bench=ppl", "scale=laptop", "data=synthetic"])
        results["benches"]["ppl"]["metrics"]["ppl_ratio"]["value"]
    """
    words = [overrides] if isinstance(overrides, str) else list(overrides)
    for word in words:
        if word.startswith("-"):
            raise ConfigError("", "", f"{word} is an option of the command", "KEY=VALUE only")
    hydra_app.register()
    try:
        words = prepare(words)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            tree = compose("config", overrides=words, return_hydra_config=True)
    except Exception as error:
        raise explain(error, words) or error from error
    HydraConfig.instance().set_config(tree)
    folder = Path(tree.hydra.run.dir)
    with open_dict(tree):
        del tree["hydra"]
    hydra_app.single(tree, folder, words)
    return load(folder / "results.json")
