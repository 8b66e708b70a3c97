"""``phasebench export``: a run's model as a folder, which `phasebench.load` reads bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from commands import TINY, TINY_PPL, Command
from phasebench.run.export import export
from phasebench.training.loading import load


@pytest.fixture
def run(command: Command) -> Path:
    done = command(TINY, "bench=ppl", TINY_PPL)
    assert done.results
    return next(Path("outputs").rglob("results.json")).parent


@pytest.mark.parametrize("role", ["candidate", "baseline"])
def test_the_folder_has_the_logits_of_the_run(
    run: Path, role: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hub"
    assert export([str(run), str(folder), "--role", role]) == 0
    ours, theirs = load(run, role=role), load(folder)
    assert ours.config == theirs.config
    tokens = torch.randint(ours.tokenizer.get_vocab_size(), (2, 16))
    with torch.no_grad():
        assert torch.equal(ours.model(tokens), theirs.model(tokens))
    assert ours.tokenizer.to_str() == (folder / "tokenizer.json").read_text()
    card = (folder / "README.md").read_text()
    for gate in json.loads((run / "results.json").read_text())["benches"]["ppl"]["gates"]:
        assert f"| ppl | {gate['name']} | " in card
    assert "library_name: phasebench" in card
    assert "bench=ppl" in card
    assert str(tmp_path) not in card
    assert str(folder) in capfd.readouterr().out


def test_what_is_there_is_not_replaced(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "mine.txt").write_text("mine")
    assert export([str(run), str(tmp_path / "hub")]) == 2
    assert "is there already" in capfd.readouterr().err
    assert [file.name for file in (tmp_path / "hub").iterdir()] == ["mine.txt"]
    assert export([str(tmp_path), str(tmp_path / "new")]) == 2
    assert "holds no results.json" in capfd.readouterr().err
    assert not (tmp_path / "new").exists()
