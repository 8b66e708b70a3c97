"""outputs/reference/combine_seeds.py: the statistics of runs of one seed each are those of one run of all."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paths import ROOT

KEPT = ROOT / "outputs" / "reference" / "h100" / "spec" / "results.json"


def run_of(seed: int, two: float, one: float, lr: float = 1e-3) -> dict[str, Any]:
    """A kept results.json as if it had this seed, these perplexities and this learning rate."""
    found = copy.deepcopy(json.loads(KEPT.read_text()))
    found["config"]["seed"] = seed
    found["config"]["train"]["lr"] = lr
    details = found["benches"]["ppl"]["details"]
    for role, value in (("candidate", two), ("baseline", one)):
        details[role]["seeds"] = [{"seed": seed, "ppl": value}]
    return found


def combine(folder: Path, *runs: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    paths = [folder / f"{i}.json" for i in range(len(runs))]
    for path, found in zip(paths, runs, strict=True):
        path.write_text(json.dumps(found))
    script = ROOT / "outputs" / "reference" / "combine_seeds.py"
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    line = [sys.executable, str(script), *map(str, paths)]
    return subprocess.run(line, env=env, capture_output=True, text=True, check=False)


def test_one_seed_a_run(tmp_path: Path) -> None:
    done = combine(tmp_path, run_of(0, 90.0, 100.0), run_of(1, 91.0, 100.0), run_of(2, 89.0, 100.0))
    assert done.returncode == 0, done.stderr
    assert (
        "candidate  seeds [0, 1, 2]: 90.000, 91.000, 89.000; mean 90.000, sd 1.000" in done.stdout
    )
    assert (
        "candidate / baseline: 0.9000 over seeds [0, 1, 2]; 95 % interval 0.8755 to 0.9252"
        in done.stdout
    )


@pytest.mark.parametrize("other", [run_of(1, 91.0, 100.0, lr=2e-3), run_of(0, 91.0, 100.0)])
def test_what_does_not_belong_together_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    done = combine(tmp_path, run_of(0, 90.0, 100.0), other)
    assert done.returncode == 2
    assert "1.json: another" in done.stderr or "two perplexities" in done.stderr
