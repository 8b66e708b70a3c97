"""Trackers log what results.json says, without a network; those not installed are skipped."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from phasebench.config import TRACKERS, ConfigError, RunOptions
from phasebench.report import trackers as track
from phasebench.report.trackers import facts
from phasebench.results.file import ResultsFile
from phasebench.results.gate import BenchResult, Gate, Metric
from phasebench.run import job


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Any]:
    """The results of a run in the folder tmp_path/run, with a measured, a predicted and an
    unmeasured value.
    """
    file = ResultsFile(
        tmp_path / "run" / "results.json",
        device="cpu",
        config={
            "benchmark_name": "study",
            "seed": 0,
            "model": {"dim": 8, "name": "stage2"},
            "bench": {"vram": {"arms": ["a", "b"]}, "grad": {}},
            "output": None,
        },
        overrides=[],
        environment={"git": {"commit": "abc"}},
    )
    metrics = {
        "peak": Metric(1.5, "GB", "predicted"),
        "error": Metric(2e-8, "1"),
        "none": Metric(None, "1", reason="x"),
    }
    gates = [
        Gate("peak", True, 1.5, "< 2"),
        Gate("error", False, 2e-8, "0"),
        Gate("none", None, None, "0", "x"),
    ]
    file.finish("vram", BenchResult(metrics=metrics, gates=gates), 1.0)
    file.fail("grad", RuntimeError("broken"), 1.0)
    return file.close()


METRICS = {"vram.peak.predicted": 1.5, "vram.error": 2e-8}
GATES = {"vram.peak.passed": 1.0, "vram.error.passed": 0.0}
PARAMETERS = {
    "benchmark_name": "study",
    "seed": 0,
    "model.dim": 8,
    "model.name": "stage2",
    "bench.vram.arms": '["a", "b"]',
}


def test_facts_are_what_results_say(results: dict[str, Any], tmp_path: Path) -> None:
    found = facts(results, tmp_path / "run")
    assert (found.name, found.group) == ("run", "study")
    assert (found.parameters, found.metrics) == (PARAMETERS, METRICS | GATES)
    assert found.tags == {"status": "failed", "all_pass": "False", "device": "cpu", "commit": "abc"}
    assert facts(results | {"point": {}}, tmp_path / "sweep" / "a").group == "sweep"


def test_every_tracker_that_can_be_chosen_is_there() -> None:
    assert set(TRACKERS) == set(track.TRACKERS)
    assert RunOptions().track == []


def test_a_tracker_that_is_not_installed_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(track.TRACKERS, "wandb", (track.to_wandb, ("nowhere_at_all",)))
    with pytest.raises(
        ConfigError, match=r"track=\[wandb\]: nowhere_at_all not installed\n.*phasebench\[wandb\]"
    ):
        track.check(["tensorboard", "wandb"])


def test_a_tracker_that_fails_is_told_and_takes_nothing_along(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(track, "log", broken)
    console = Console(record=True, width=120)
    assert job._track("wandb", results, tmp_path / "run", console) is False
    text = console.export_text()
    assert "wandb: not logged" in text
    assert "ConnectionError: no network" in text


def test_tensorboard(results: dict[str, Any], tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    place = track.log(results, tmp_path / "run", "tensorboard")
    events = accumulator.EventAccumulator(place)
    events.Reload()
    scalars = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert scalars == pytest.approx(METRICS | GATES)
    written = b"".join(file.read_bytes() for file in Path(place).glob("events*"))
    assert b"model.dim" in written
    assert b"abc" in written


def logged(name: str, folder: Path) -> str:
    """Log in a process of its own, since the packages leave threads, and settings, behind."""
    code = (
        "import json; from pathlib import Path; from phasebench.report import trackers as track;"
        f"print(track.log(json.loads(Path('run/results.json').read_text()), Path('run'), {name!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_mlflow(results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in track.TRACKERS["mlflow"][1]:
        pytest.importorskip(package, reason=f"{package} is not installed here")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert logged("mlflow", tmp_path) == "sqlite:///outputs/mlflow.db"
    code = (
        "import json, mlflow; mlflow.set_tracking_uri('sqlite:///outputs/mlflow.db');"
        "run, = mlflow.search_runs(experiment_names=['phasebench'], output_format='list');"
        "data = run.data;"
        "print(json.dumps([run.info.run_name, data.params, data.metrics, data.tags['group']]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    parameters = {key: str(value) for key, value in PARAMETERS.items()}
    assert json.loads(done.stdout.splitlines()[-1]) == ["run", parameters, METRICS | GATES, "study"]
    assert len(list((tmp_path / "outputs" / "mlflow").rglob("results.json"))) == 1
    assert not (tmp_path / "mlruns").exists()


def test_wandb(results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed here")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert logged("wandb", tmp_path).splitlines()[-1] == "run/wandb (offline)"
    (run,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    (record,) = run.glob("run-*.wandb")
    content = record.read_bytes()
    assert [
        text for text in (b"vram.peak.predicted", b"model.dim", b"study") if text not in content
    ] == []
    assert (run / "files" / "results.json").read_bytes() == (
        tmp_path / "run" / "results.json"
    ).read_bytes()


def test_trackio(results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed here")
    for name in ("TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert logged("trackio", tmp_path) == str(tmp_path / "outputs" / "trackio")
    (store,) = (tmp_path / "outputs" / "trackio").glob("phasebench.db")
    with sqlite3.connect(store) as database:
        (name, metrics), *others = database.execute("SELECT run_name, metrics FROM metrics")
        (config,) = database.execute("SELECT config FROM configs").fetchone()
    assert not others
    assert name == "run"
    assert json.loads(metrics) == METRICS | GATES
    assert PARAMETERS.items() <= json.loads(config).items()
