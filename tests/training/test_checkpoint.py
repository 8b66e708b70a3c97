from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from phasebench.config import ConfigError
from phasebench.training.checkpoint import (
    BadCheckpoint,
    copy_weights,
    load,
    load_weights,
    save,
    weights,
)
from tiny import IDENTITY, TinyModel, tiny_model

KEY = "model.checkpoint"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save(path, weights(tiny_model(seed=3)), {"identity": json.dumps(IDENTITY)})
    return path


def refusal(model: nn.Module, path: Path, expected: dict[str, str] = IDENTITY) -> str:
    """The message with which a checkpoint is refused; the model must come out of it unchanged."""
    before = {name: tensor.clone() for name, tensor in weights(model).items()}
    with pytest.raises(ConfigError) as caught:
        load_weights(model, path, expected=expected, key=KEY)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items())
    message = str(caught.value)
    assert message.startswith(f"{KEY}={path}: ")
    assert f"{KEY}=null" in message
    return message


def test_weights_survive_the_round_trip_bit_for_bit(saved: Path) -> None:
    model = tiny_model(seed=4)
    metadata = load_weights(model, saved, expected=IDENTITY, key=KEY)
    assert json.loads(metadata["identity"]) == IDENTITY
    for name, tensor in weights(tiny_model(seed=3)).items():
        assert torch.equal(tensor, weights(model)[name])
    assert model.head.weight is model.embedding.weight


def test_tied_weights_are_saved_once(saved: Path) -> None:
    tensors, _ = load(saved)
    assert sorted(tensors) == ["embedding.weight", "head.bias", "hidden.bias", "hidden.weight"]


def test_buffers_are_saved_too() -> None:
    model = nn.BatchNorm1d(3)
    assert "running_mean" in weights(model)


def test_a_failed_write_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    shared = torch.ones(4)
    with pytest.raises(RuntimeError, match="share memory"):
        save(saved, {"a": shared, "b": shared}, {"identity": "{}"})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_missing_and_folder(tmp_path: Path) -> None:
    assert "no such file" in refusal(tiny_model(), tmp_path / "nowhere.safetensors")
    assert "is not a file" in refusal(tiny_model(), tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_truncated(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    assert "truncated" in refusal(tiny_model(), saved)


def test_the_fix_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cache_dir=.*\n  fix: delete the file$"):
        load_weights(
            tiny_model(), tmp_path / "w", expected={}, key="cache_dir", fix="delete the file"
        )


def test_not_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(tiny_model().state_dict(), path)
    assert "not a safetensors file" in refusal(tiny_model(), path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_others(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2)}, path, metadata)
    assert "not one that phasebench wrote" in refusal(tiny_model(), path)


def test_other_vocabulary_is_named(saved: Path) -> None:
    message = refusal(tiny_model(vocab=12), saved, IDENTITY | {"data.vocab": "12"})
    assert "data.vocab is 11 in the file, 12 here" in message
    message = refusal(tiny_model(vocab=12), saved, {})
    assert "embedding.weight has shape [11, 8] in the file, [12, 8] in the model" in message


def test_other_architecture_is_named(saved: Path) -> None:
    class Deeper(TinyModel):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(8, 8, bias=False)

    assert "no second.weight" in refusal(Deeper(), saved)
    save(saved, weights(Deeper()), {"identity": json.dumps(IDENTITY)})
    assert "second.weight is not in the model" in refusal(tiny_model(), saved)


def test_an_identity_without_the_expected_entry_is_refused(saved: Path) -> None:
    message = refusal(tiny_model(), saved, {"model.ode.steps": "10"})
    assert "model.ode.steps is not recorded in the file, 10 here" in message


def test_many_differences_are_counted() -> None:
    with pytest.raises(BadCheckpoint, match="and 1 more difference"):
        copy_weights(tiny_model(), {})


def test_unfinished_training_loads_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "weights.partial.safetensors"
    extra = {"optimizer/hidden.weight/exp_avg": torch.zeros(8, 8)}
    save(path, weights(tiny_model(seed=3)) | extra, {"identity": json.dumps(IDENTITY)})
    model = tiny_model()
    with caplog.at_level(logging.WARNING):
        load_weights(model, path, expected=IDENTITY, key=KEY)
    assert "did not finish" in caplog.text
    assert torch.equal(model.hidden.weight, tiny_model(seed=3).hidden.weight)
