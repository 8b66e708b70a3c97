"""outputs/reference/run_training.sh, on a program that stands for the runner and writes down what it is asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paths import ROOT

REFERENCE = Path("outputs") / "reference"
STANDIN = """
import json, os, pathlib, sys
words = [word for word in sys.argv[1:] if not word.startswith("hydra.run.dir=")]
(folder,) = (pathlib.Path(word.partition("=")[2]) for word in sys.argv[1:] if word.startswith("hydra.run.dir="))
with open("calls.txt", "a") as calls:
    calls.write(json.dumps(words) + chr(10))
(folder / ".hydra").mkdir(parents=True, exist_ok=True)
for name in ("config", "overrides"):
    (folder / ".hydra" / f"{name}.yaml").write_text(json.dumps(words))
ppl = {"metrics": {"candidate_ppl": {"value": 90.0}}, "details": {"candidate": {"weights": {}}}}
(folder / "results.json").write_text(json.dumps({"status": "ok", "benches": {"ppl": ppl}, "overrides": words}))
sys.exit(0 if "bench=ppl" in words else int(os.environ["MEASURING_ENDS"]))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / REFERENCE).mkdir(parents=True)
    for name in ("run_training.sh", "tune.py"):
        shutil.copy(ROOT / REFERENCE / name, tmp_path / REFERENCE)
    (tmp_path / "runner.py").write_text(STANDIN)
    return tmp_path


def call(
    home: Path, seeds: str, *words: str, ends: int = 0, commit: str = "a", before: int = 60
) -> tuple[int, int]:
    """The script's exit code, and how often it called the runner."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {
        "PATH": path,
        "MEASURING_ENDS": str(ends),
        "PHASEBENCH_COMMIT": commit,
        "MEASURE_BEFORE": str(before),
    }
    line = [
        "bash",
        str(REFERENCE / "run_training.sh"),
        "wikitext",
        "kept",
        seeds,
        "60",
        "2",
        *words,
    ]
    before_it = calls(home)
    done = subprocess.run(
        line, cwd=home, env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, len(calls(home)) - len(before_it)


def calls(home: Path) -> list[list[str]]:
    path = home / "calls.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kept(home: Path, name: str) -> list[str]:
    return json.loads((home / "kept" / name / "results.json").read_text())["overrides"]


def test_trainings_then_measurements_each_once(home: Path) -> None:
    assert call(home, "0", ends=1) == (1, 5)  # three models, training/, long/; a gate failed
    assert [word for word in calls(home)[-1] if word.startswith("experiment")] == [
        "experiment=wikitext2_word_long"
    ]
    assert sorted(path.name for path in (home / "kept" / "long").iterdir()) == [
        "config.yaml",
        "log.txt",
        "overrides.yaml",
        "results.json",
    ]
    assert call(home, "0") == (1, 0)  # as it ended


def test_what_is_handed_back_is_of_this_call(home: Path) -> None:
    assert call(home, "0") == (0, 5)
    assert call(home, "0 1") == (0, 5)  # the other seed's trainings, and both measurements of both
    assert "bench.ppl.seeds=[0,1]" in kept(home, "training")
    assert call(home, "0 1", "train.lr=9") == (0, 8)
    assert "train.lr=9" in kept(home, "long")
    assert call(home, "0 1", "train.lr=9", commit="b") == (0, 2)


def test_what_could_not_be_measured_is_tried_again(home: Path) -> None:
    assert call(home, "0", ends=2) == (2, 5)
    assert call(home, "0") == (0, 2)


def test_what_is_too_late_is_left_to_the_next_call(home: Path) -> None:
    assert call(home, "0", before=-1) == (3, 3)
    assert (home / "kept" / "training.tgz").exists()
    assert call(home, "0") == (0, 2)
