"""Trackers: the results of a run, logged once more where teams look for them; off unless `track`
names them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from phasebench.config import ConfigError
from phasebench.report.axes import flatten
from phasebench.results.jsonfile import Json

NAME = "phasebench"  # of the experiment or project that a tracker shows
# MLflow's store, unless MLFLOW_TRACKING_URI names a server, and where it keeps results.json
MLFLOW = Path("outputs") / "mlflow.db"
MLFLOW_FILES = Path("outputs") / "mlflow"
TRACKIO = Path("outputs") / "trackio"  # Trackio's store, unless TRACKIO_DIR names another

Scalar = int | float | str | bool


@dataclass(frozen=True)
class Facts:
    """A run in the terms that every tracker has."""

    name: str  # of the run: its folder's
    group: str  # of runs: the sweep's folder, or the benchmark's name
    parameters: dict[str, Scalar]  # the configuration, by dotted key, without nulls
    # bench.metric, a predicted one with .predicted behind it; bench.gate.passed, 1 or 0; what was
    # not measured is left out
    metrics: dict[str, float]
    tags: dict[str, str]  # status, commit, device, data


def facts(results: Json, folder: Path) -> Facts:
    """Collect the facts of a results.json's content.

    >>> bench = {"metrics": {"ppl": {"value": 65.7, "kind": "measured"}}, "gates": []}
    >>> results = {"config": {"model": {"dim": 8}}, "benches": {"ppl": bench}, "status": "ok",
    ...            "device": "cpu", "environment": {}, "data": None, "benchmark_name": "x",
    ...            "all_pass": True}
    >>> facts(results, Path("outputs/here")).metrics
    {'ppl.ppl': 65.7}
    """
    metrics: dict[str, float] = {}
    for name, bench in results["benches"].items():
        for key, metric in bench["metrics"].items():
            if isinstance(metric["value"], int | float):
                kind = ".predicted" if metric["kind"] == "predicted" else ""
                metrics[f"{name}.{key}{kind}"] = float(metric["value"])
        for gate in bench["gates"]:
            if gate["passed"] is not None:
                metrics[f"{name}.{gate['name']}.passed"] = float(gate["passed"])
    tags = {
        "status": results["status"],
        "all_pass": results["all_pass"],
        "device": results["device"],
        "commit": (results["environment"].get("git") or {}).get("commit"),
        "data": (results["data"] or {}).get("name"),
    }
    return Facts(
        name=folder.name,
        group=folder.parent.name if "point" in results else results["benchmark_name"],
        parameters={key: v for key, v in flatten(results["config"]).items() if v != "null"},
        metrics=metrics,
        tags={key: str(value) for key, value in tags.items() if value is not None},
    )


def to_tensorboard(facts: Facts, folder: Path) -> str:
    """Log scalars, and the parameters beside them in the HPARAMS tab, to FOLDER/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter  # torch is imported by this tracker only

    place = folder / "tensorboard"
    with SummaryWriter(str(place)) as writer:
        writer.add_hparams(facts.parameters, facts.metrics, run_name=".")
        for name, text in facts.tags.items():
            writer.add_text(name, text)
    return str(place)


def to_mlflow(facts: Facts, folder: Path) -> str:
    """Log parameters, metrics, gates and results.json to the experiment `phasebench`, in a local
    file unless MLFLOW_TRACKING_URI names a server.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no network unless asked
    mlflow = importlib.import_module("mlflow")
    # a data base, since the newest MLflow refuses its former folders of files
    place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW}"
    mlflow.set_tracking_uri(place)
    if mlflow.get_experiment_by_name(NAME) is None:
        local = MLFLOW_FILES.resolve().as_uri() if place.startswith("sqlite:") else None
        mlflow.create_experiment(NAME, artifact_location=local)
    mlflow.set_experiment(NAME)
    with mlflow.start_run(run_name=facts.name, tags=facts.tags | {"group": facts.group}):
        mlflow.log_params(facts.parameters)
        mlflow.log_metrics(facts.metrics)
        mlflow.log_artifact(str(folder / "results.json"))
    return place


def to_wandb(facts: Facts, folder: Path) -> str:
    """Log parameters, metrics, gates and results.json to the Weights & Biases project `phasebench`:
    to FOLDER/wandb, unless WANDB_MODE says online.
    """
    mode = os.environ.setdefault("WANDB_MODE", "offline")
    if mode != "online":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no network unless asked
    wandb = importlib.import_module("wandb")
    run = wandb.init(
        project=NAME,
        name=facts.name,
        group=facts.group,
        config=facts.parameters,
        mode=mode,
        dir=str(folder),
        tags=[f"{key}:{value}"[:64] for key, value in facts.tags.items()],
        reinit="create_new",
        settings=wandb.Settings(console="off", silent=True),
    )
    run.log(facts.metrics)
    shutil.copy(folder / "results.json", run.dir)
    run.finish()
    return f"{folder / 'wandb'} ({mode})"


def to_trackio(facts: Facts, folder: Path) -> str:
    """Log parameters, metrics and gates to the Trackio project `phasebench`, in a local folder
    unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL names a place.
    """
    place = os.environ.setdefault("TRACKIO_DIR", str(TRACKIO.resolve()))
    with contextlib.redirect_stdout(io.StringIO()):  # how to open its dashboard
        trackio = importlib.import_module("trackio")
        trackio.init(
            project=NAME,
            name=facts.name,
            group=facts.group,
            config=facts.parameters | facts.tags,
            auto_log_gpu=False,
            auto_log_cpu=False,
            embed=False,
        )
        trackio.log(facts.metrics)
        trackio.finish()
    return os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL") or place


# name -> what logs, and the packages that it needs
TRACKERS: dict[str, tuple[Callable[[Facts, Path], str], tuple[str, ...]]] = {
    "tensorboard": (to_tensorboard, ("tensorboard",)),
    "mlflow": (to_mlflow, ("mlflow", "sqlalchemy")),
    "wandb": (to_wandb, ("wandb",)),
    "trackio": (to_trackio, ("trackio",)),
}


def check(names: Sequence[str]) -> None:
    """Raise `ConfigError` for a tracker whose package is not installed."""
    for name in names:
        _, packages = TRACKERS[name]
        missing = [one for one in packages if importlib.util.find_spec(one) is None]
        if missing:
            what = f"{' and '.join(missing)} not installed"
            fix = f"pip install 'phasebench[{name}]', or leave it out"
            raise ConfigError("track", f"[{name}]", what, fix)


def log(results: Json, folder: Path, name: str) -> str:
    """Log the content of a results.json, whose folder this is, with one tracker.

    Returns where it went. Raises what the tracker's package raises.
    """
    tracker, _ = TRACKERS[name]
    return tracker(facts(results, folder), folder)
