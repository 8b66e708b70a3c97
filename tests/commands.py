"""The command as a user calls it, in this process, and sizes at which a test can pay for a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from paths import ROOT
from phasebench.results.file import schema
from phasebench.run import hydra_app as run

sys.path.insert(0, str(ROOT))
import runner

TINY = [
    "device=cpu",
    "data=synthetic",
    "data.synthetic.rows=80",
    "scale=laptop",
    "model.dim=8",
    "model.blocks=1",
    "model.heads=2",
    "model.hidden=16",
    "train.steps=4",
    "train.batch=2",
    "train.seq=32",
    "train.warmup=1",
    "train.checkpoint_every=2",
]
TINY_PPL = (
    "bench.ppl.baseline.dim=8 bench.ppl.baseline.blocks=1 bench.ppl.baseline.heads=2 "
    "bench.ppl.baseline.hidden=4"
)
TINY_ENERGY = "bench.energy.batch=8 bench.energy.seq=16 bench.energy.steps=10"
TINY_GRAD = (
    "bench.grad.tokens=4 bench.grad.steps=[1,2] bench.grad.stiffness=[1] "
    "bench.grad.integrators=[leapfrog] bench.grad.precisions=[fp32]"
)
TINY_SPEED = (
    "bench.speed.batch=1 bench.speed.seq=16 bench.speed.vocab=50 bench.speed.repeats=1 "
    "bench.speed.warmup=0 bench.speed.methods=[adjoint_exact,backprop]"
)
TINY_VRAM = "bench.vram.vocab=50 bench.vram.curve_steps=[] bench.vram.curve_seq=[]"


@dataclass
class Outcome:
    code: int
    out: str
    err: str
    results: list[dict[str, Any]]


Command = Callable[..., Outcome]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Runs `python runner.py WORDS` in a folder of its own; returns what a user would see.

    Text is split at blanks, a list is taken word by word.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*words: str | list[str]) -> Outcome:
        split = [word.split() if isinstance(word, str) else word for word in words]
        before = set(tmp_path.rglob("results.json"))
        monkeypatch.setattr(sys, "argv", ["runner.py", *(w for part in split for w in part)])
        monkeypatch.setattr(run, "_exit_codes", [])
        code = run.command(runner.job)
        files = sorted(set(tmp_path.rglob("results.json")) - before)
        found = [json.loads(file.read_text()) for file in files]
        for results in found:
            jsonschema.validate(results, schema())
        return Outcome(code, *capfd.readouterr(), found)

    return call


def refuses(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert [part for part in parts if part not in outcome.err] == []


# only sizes: regularisation, averages, seeds, gates and the comparison are the recipe's own
SMALL = (
    "device=cpu data=synthetic data.tokenizer={tokenizer} data.vocab_size=300 "
    "data.synthetic.rows=60 "
    "scale.model.dim=8 scale.model.blocks=1 scale.model.heads=2 "
    "scale.model.hidden_stage1=16 scale.model.hidden_stage2=32 scale.model.hidden_gpt=32 "
    "train.epochs=0.3 train.batch=4 train.seq=16 train.warmup=2 train.precision=fp32 "
    "train.checkpoint_every=4 "
    "train.validate_every=5 train.validate_tokens=64"
)
