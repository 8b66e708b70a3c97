"""Trained weights in a session of one's own: what is read, what is refused, what is generated."""

from __future__ import annotations

import dataclasses
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from phasebench.config import ConfigError, DataConfig, ModelConfig
from phasebench.data.tokenizer import build_tokenizer
from phasebench.models import build_model
from phasebench.training.checkpoint import Checkpoint, weights
from phasebench.training.loading import load

ROWS = {"train": ["to be or not to be", "that is the question"], "validation": [], "test": []}
MODEL = ModelConfig(dim=4, blocks=1, heads=2, hidden=8)


def saved(path: Path, config: ModelConfig = MODEL, **about: Any) -> Path:
    """Write fresh weights, as a training would."""
    tokenizer = build_tokenizer("wordlevel", ROWS, DataConfig(), path.parent)
    model = build_model(config, tokenizer.vocab_size)
    configuration = {"model": dataclasses.asdict(config), "train": {}, "data": "text", "seed": 0}
    texts = {"configuration": json.dumps(configuration), "tokenizer": tokenizer.json} | about
    path.parent.mkdir(parents=True, exist_ok=True)
    Checkpoint(weights(model), {"model.dim": "4"}).save(path, texts)
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(ConfigError, match=f"path={path}") as error:
        load(path, **options)
    return str(error.value)


@pytest.mark.parametrize("name", ["stage2", "stage1", "momentum"])
def test_a_file_is_its_model_tokenizer_and_configuration(tmp_path: Path, name: str) -> None:
    config = dataclasses.replace(MODEL, name=name).with_ode(steps=3, potential="logcosh")
    path = saved(tmp_path / "weights.safetensors", config)
    before = torch.get_rng_state()
    model, tokenizer, read = load(str(path))
    assert torch.equal(before, torch.get_rng_state())
    assert read == config
    assert not model.training
    again = load(path).model
    tokens = torch.tensor([tokenizer.encode("to be").ids])
    assert torch.equal(model(tokens), again(tokens))


def test_text_is_generated_by_the_seed(tmp_path: Path) -> None:
    loaded = load(saved(tmp_path / "weights.safetensors"))
    texts = [loaded.generate("to be", tokens=12, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("to be") for text in texts)
    best = [loaded.generate("to be", tokens=12, temperature=0, seed=seed) for seed in (1, 2)]
    assert best[0] == best[1]
    assert "<eos>" not in "".join(texts + best)
    with pytest.raises(ConfigError, match="text=zebra: cannot be encoded"):
        loaded.generate("zebra")


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"")


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (lambda path: path.write_bytes(pickle.dumps({}, 4)), "is a pickle"),
        (write_zip, "such as of torch.save"),
        (lambda path: path.write_bytes(b"GGUF" + bytes(20)), "is a GGUF file"),
        (lambda path: path.write_bytes(b"{}"), "truncated, or not a safetensors file"),
        (lambda path: None, "no such file"),
        (lambda path: saved(path, configuration=""), "an older phasebench wrote it"),
    ],
)
def test_foreign_and_older_files_are_named(tmp_path: Path, write: Any, what: str) -> None:
    write(path := tmp_path / "weights")
    assert what in refusal(path)
    assert "fix: weights that phasebench trained" in refusal(path)


def test_a_configuration_of_another_version_is_named(tmp_path: Path) -> None:
    settings = {"model": dataclasses.asdict(MODEL) | {"gone": 1}}
    path = saved(tmp_path / "weights", configuration=json.dumps(settings))
    assert "another version of phasebench (model.gone: unknown key" in refusal(path)


def test_code_that_a_file_names_is_not_run_unasked(tmp_path: Path) -> None:
    own = MODEL.with_ode(potential={"_target_": "problems.Waves"})
    path = saved(tmp_path / "weights", own)
    assert "names code to run, problems.Waves" in refusal(path)
    assert load(path, allow_targets=True).config == own


@pytest.mark.parametrize(
    ("name", "what"),
    [("sweep.json", "is a sweep"), ("config.json", "Hugging Face"), ("x", "holds no results.json")],
)
def test_folders_that_are_no_run_are_named(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / name).write_text("{}")
    assert what in refusal(tmp_path)
