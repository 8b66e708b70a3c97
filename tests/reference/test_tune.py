"""outputs/reference/tune.py, on a program that stands for the runner: it finishes, is cut off, or fails as told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paths import ROOT

TUNE = ROOT / "outputs" / "reference" / "tune.py"
STANDIN = """
import json, os, pathlib, sys, time
told = dict(word.split("=", 1) for word in sys.argv[1:])
print("stage2: step 10/40, loss 5.0, 9 tokens/s, 0:01 left, valid ppl 123.4", flush=True)
if told["does"] == "fails":
    sys.exit("phasebench: no such thing")
time.sleep(float(told.get("takes", 0)))
folder = pathlib.Path(told["hydra.run.dir"])
folder.mkdir(parents=True, exist_ok=True)
steps = [{"loss": float(len(os.environ.get("CUDA_VISIBLE_DEVICES", "none")))}]
weights = {"seconds": 7.0, "validations": [{"step": 40, "perplexity": 99.0}], "steps": steps}
ppl = {"metrics": {"candidate_ppl": {"value": float(told["ppl"])}}, "details": {"candidate": {"weights": weights}}}
(folder / "results.json").write_text(json.dumps({"status": "ok", "benches": {"ppl": ppl}}))
"""


@pytest.fixture
def tune(tmp_path: Path):
    standin = tmp_path / "standin.py"
    standin.write_text(STANDIN)

    def call(lines: str, budget: float = 30.0, *more: str) -> tuple[int, list[dict]]:
        (tmp_path / "lines.txt").write_text(lines)
        options = ["--budget", str(budget), *more, "--runner", str(standin), "--", "does=finish"]
        line = [
            sys.executable,
            str(TUNE),
            str(tmp_path / "lines.txt"),
            str(tmp_path / "out"),
            *options,
        ]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        rows = json.loads((tmp_path / "out" / "tune.json").read_text())
        assert all(row["line"] in done.stdout for row in rows)
        return done.returncode, rows

    return call


def test_runs_that_finish_are_compared(tune) -> None:
    code, rows = tune("ppl=95\n# a comment\n\nppl=90\n")
    assert code == 0
    assert [(row["status"], row["ppl"], row["seconds"]) for row in rows] == [
        ("ok", 95.0, 7.0),
        ("ok", 90.0, 7.0),
    ]
    assert rows[0]["curve"] == [[40, 99.0]]


def test_what_the_budget_cuts_off_is_said_and_goes_on(tune) -> None:
    start = time.monotonic()
    code, rows = tune("ppl=95\nppl=90 takes=60\n", budget=2.0)
    assert time.monotonic() - start < 30
    assert code == 3
    assert [(row["status"], row["progress"], row["validation"]) for row in rows] == [
        ("ok", "10/40", 123.4),
        ("cut off", "10/40", 123.4),
    ]
    assert tune("ppl=95\nppl=90\n")[0] == 0


def test_jobs_are_spread_over_gpus(tune) -> None:
    code, rows = tune(
        "".join(f"ppl={i} takes=1\n" for i in range(1, 5)), 30.0, "--jobs", "1", "--gpus", "0,GPU-1"
    )
    assert code == 0
    assert {row["loss"] for row in rows} == {1.0, 5.0}  # the lengths of "0" and "GPU-1"


def test_a_failure_is_not_hidden(tune) -> None:
    code, rows = tune("does=fails ppl=1\nppl=90\n")
    assert code == 2
    assert [row["status"] for row in rows] == ["failed", "ok"]


def test_other_overrides_in_the_same_place_are_another_run(tune) -> None:
    assert [row["ppl"] for row in tune("ppl=95\nppl=90\n")[1]] == [95.0, 90.0]
    assert [row["ppl"] for row in tune("ppl=80\nppl=90\n")[1]] == [80.0, 90.0]
    code, rows = tune("ppl=70\nppl=90\n", 0.0)
    assert code == 3
    assert [(row["status"], row["ppl"]) for row in rows] == [("unstarted", None), ("ok", 90.0)]
