"""MLflow: a run in the experiment `phasebench`, in a local file unless MLFLOW_TRACKING_URI names a
server.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from phasebench.report.trackers.facts import Facts

STORE = Path("outputs") / "mlflow.db"  # the newest MLflow refuses its former folders of files
FILES = Path("outputs") / "mlflow"  # where that store keeps results.json
EXPERIMENT = "phasebench"


def log(facts: Facts, folder: Path) -> str:
    """Log a run with its parameters, metrics, gates and results.json."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # no network unless asked
    mlflow = importlib.import_module("mlflow")
    place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{STORE}"
    mlflow.set_tracking_uri(place)
    if mlflow.get_experiment_by_name(EXPERIMENT) is None:
        local = place.startswith("sqlite:")
        mlflow.create_experiment(
            EXPERIMENT, artifact_location=FILES.resolve().as_uri() if local else None
        )
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=facts.name, tags=facts.tags | {"group": facts.group}):
        mlflow.log_params(facts.parameters)
        mlflow.log_metrics(facts.metrics | facts.gates)
        mlflow.log_artifact(str(folder / "results.json"))
    return place
