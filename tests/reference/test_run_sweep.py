"""outputs/reference/run_sweep.sh at a size that a test can pay: from a checkpoint to what is kept and its report."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from commands import SMALL
from paths import ROOT
from phasebench.results.file import schema

SCRIPT = ROOT / "outputs" / "reference" / "run_sweep.sh"
SMALLER = [
    *SMALL.format(tokenizer="wordlevel").split(),
    "bench.ppl.seq=16",
    "bench.ppl.stride=8",
    "bench.energy.seq=12",
]
GRID = ["model.ode.dt=0.5,1.0", "model.ode.integrator=leapfrog,suzuki4"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A checkout, as far as the script needs one."""
    shutil.copy(ROOT / "runner.py", tmp_path)
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    (tmp_path / "wikitext").mkdir()  # nothing is read from it: the text is synthetic
    return tmp_path


def run(home: Path, *arguments: str) -> tuple[int, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}
    line = ["bash", str(SCRIPT), "wikitext", *arguments]
    done = subprocess.run(
        line, cwd=home, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_what_is_kept_is_whole_small_and_can_be_reported_again(home: Path) -> None:
    first = [*SMALLER, "model.ode.dt=0.5", "model.ode.integrator=leapfrog"]
    code, out = run(home, "trained", "", *first)
    assert code in (0, 1), out
    (weights,) = (home / "outputs" / "cache" / "weights").glob("stage2-*.safetensors")
    given = shutil.move(weights, home / "given.safetensors")
    shutil.rmtree(home / "outputs" / "sweeps")
    code, out = run(home, "kept", str(given), *SMALLER, *GRID)
    assert code in (0, 1), out
    assert "training" not in out
    kept = home / "kept"
    points = [json.loads(file.read_text()) for file in kept.glob("*/results.json")]
    assert len(points) == 4
    assert {
        (p["config"]["model"]["ode"]["steps"], p["config"]["bench"]["energy"]["steps"])
        for p in points
    } == {
        (2, 20),
        (1, 10),
    }
    for point in points:
        weights = point["benches"]["ppl"]["details"]["candidate"]["weights"]
        assert weights["origin"] == "given"
        assert weights["trained_ode"] == {"steps": 5, "dt": 0.2, "integrator": "leapfrog"}
        assert point["ppl_ratio"] > 0
        assert {"max_drift_at_step", "drift_of_batch_mean"} <= set(
            point["benches"]["energy"]["details"]["layers"][0]
        )
        jsonschema.validate(point, schema())
    baselines = {point["benches"]["ppl"]["metrics"]["baseline_ppl"]["value"] for point in points}
    assert len(baselines) == 1
    assert shlex.split((kept / "command.txt").read_text())[:3] == ["python3", "runner.py", "-m"]
    names = {
        "report.html",
        "table.csv",
        "table.md",
        "table.tex",
        "sweep.json",
        "log.txt",
        "sweep.tgz",
    }
    assert {file.name for file in kept.iterdir() if file.is_file()} == names | {"command.txt"}
    pictures = {file.name: file.stat().st_size for file in (kept / "plots").iterdir()}
    assert {"drift_over_model_ode_dt.png", "perplexity_over_model_ode_dt.png", "pareto.png"} <= set(
        pictures
    )
    assert max(pictures.values()) < 100_000
    command = [
        sys.executable,
        "-m",
        "phasebench.report",
        str(kept),
        "--output",
        str(home / "again"),
    ]
    subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, check=True, capture_output=True
    )
    assert (home / "again" / "table.csv").read_text() == (kept / "table.csv").read_text()
