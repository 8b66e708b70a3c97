"""Files of weights: written whole, checked at every load, refused with one reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from phasebench.training.checkpoint import (
    BadCheckpoint,
    Checkpoint,
    checksum,
    copy_weights,
    load,
    load_weights,
    weights,
)
from tiny import IDENTITY, TinyModel, tiny_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    Checkpoint(weights(tiny_model(seed=3)), IDENTITY, 40).save(path, {"tokenizer": "{}"})
    return path


def refusal(model: nn.Module, path: Path, expected: dict[str, str] = IDENTITY) -> str:
    """Return why a file is refused; the model must come out of it unchanged."""
    before = {name: tensor.clone() for name, tensor in weights(model).items()}
    with pytest.raises(BadCheckpoint) as caught:
        load_weights(model, path, expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(model).items())
    return str(caught.value)


def rewritten(path: Path, checked: bool, **changes: Any) -> None:
    """Change a file's metadata, with a checksum that fits or with the old one."""
    with safe_open(path, framework="pt") as file:
        names, metadata = file.keys(), file.metadata()
        tensors = {name: file.get_tensor(name) for name in names}
    old = metadata.pop("checksum")
    metadata |= changes
    metadata["checksum"] = checksum(tensors, metadata) if checked else old
    save_file(tensors, path, metadata)


def test_weights_survive_the_round_trip_bit_for_bit(saved: Path) -> None:
    model = tiny_model(seed=4)
    file = load_weights(model, saved, IDENTITY)
    assert (file.identity, file.step, file.scaler) == (IDENTITY, 40, None)
    for name, tensor in weights(tiny_model(seed=3)).items():
        assert torch.equal(tensor, weights(model)[name])
    assert model.head.weight is model.embedding.weight


def test_tied_weights_are_saved_once(saved: Path) -> None:
    names = ["embedding.weight", "head.bias", "hidden.bias", "hidden.weight"]
    assert sorted(load(saved).tensors) == names


def test_buffers_are_saved_too() -> None:
    model = nn.BatchNorm1d(3)
    assert "running_mean" in weights(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64, torch.float64])
def test_every_dtype_has_a_checksum(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"a": torch.arange(6).view(2, 3).to(dtype), "b": torch.tensor(3).to(dtype)}
    Checkpoint(tensors, {}).save(tmp_path / "w", {})
    found = load(tmp_path / "w").tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_failed_write_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    shared = torch.ones(4)
    with pytest.raises(RuntimeError, match="share memory"):
        Checkpoint({"a": shared, "b": shared}, {}).save(saved, {})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_kind_14_files_are_as_readable_as_the_umask_says(
    tmp_path: Path, umask: int, mode: int
) -> None:
    before = os.umask(umask)
    try:
        Checkpoint({}, {}).save(tmp_path / "w", {})
    finally:
        os.umask(before)
    assert (tmp_path / "w").stat().st_mode & 0o777 == mode


def test_missing_and_folder(tmp_path: Path) -> None:
    assert "no such file" in refusal(tiny_model(), tmp_path / "nowhere.safetensors")
    assert "is not a file" in refusal(tiny_model(), tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_truncated(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    assert "truncated" in refusal(tiny_model(), saved)


def test_not_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(tiny_model().state_dict(), path)
    assert "not a safetensors file" in refusal(tiny_model(), path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_others(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2)}, path, metadata)
    assert "not one that phasebench wrote" in refusal(tiny_model(), path)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_kind_2_a_flipped_bit_is_refused(saved: Path, place: float) -> None:
    content = bytearray(saved.read_bytes())
    first = 8 + int.from_bytes(content[:8], "little")  # of the tensors
    content[first + int(place * (len(content) - first))] ^= 1
    saved.write_bytes(content)
    assert "is damaged" in refusal(tiny_model(), saved)


def test_kind_2_an_edited_identity_is_refused(saved: Path) -> None:
    rewritten(saved, checked=False, identity=json.dumps(IDENTITY | {"model.dim": "9"}))
    assert "is damaged" in refusal(tiny_model(), saved, IDENTITY | {"model.dim": "9"})


def test_kind_2_a_file_without_a_checksum_is_refused(saved: Path) -> None:
    save_file(weights(tiny_model()), saved, {"phasebench": "0", "identity": json.dumps(IDENTITY)})
    assert "records no checksum" in refusal(tiny_model(), saved)


@pytest.mark.parametrize("key", ["identity", "step", "history", "scaler"])
@pytest.mark.parametrize(
    "value", ["", "{", "[3]", "null", '"x"', '{"steps": 3}', '{"validations": [{}]}', "[" * 9999]
)
def test_kind_8_metadata_that_cannot_be_read_is_one_reason(
    saved: Path, key: str, value: str
) -> None:
    rewritten(saved, checked=True, **{key: value})
    entries = value.startswith("{") and len(value) > 1
    if entries and key in ("identity", "scaler", "history"):
        load(saved)  # any entries: the checksum says that a training wrote them
    else:
        with pytest.raises(BadCheckpoint, match="its metadata cannot be read"):
            load(saved)


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
    Checkpoint(weights(Deeper()), IDENTITY).save(saved, {})
    assert "second.weight is not in the model" in refusal(tiny_model(), saved)


def test_an_identity_without_the_expected_entry_is_refused(saved: Path) -> None:
    message = refusal(tiny_model(), saved, {"model.ode.steps": "10"})
    assert "model.ode.steps is not recorded in the file, 10 here" in message


def test_many_differences_are_counted() -> None:
    with pytest.raises(BadCheckpoint, match="and 1 more difference"):
        copy_weights(tiny_model(), {})


def test_weights_of_an_unfinished_training_can_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "weights.partial.safetensors"
    extra = {"optimizer/hidden.weight/exp_avg": torch.zeros(8, 8)}
    Checkpoint(weights(tiny_model(seed=3)) | extra, IDENTITY, 7, scaler={}).save(path, {})
    model = tiny_model()
    assert load_weights(model, path, IDENTITY).scaler == {}
    assert torch.equal(model.hidden.weight, tiny_model(seed=3).hidden.weight)


def test_weights_of_a_flow_have_their_names_of_today(tmp_path: Path) -> None:
    old = {"blocks.0.ode.W": 1.0, "average/blocks.1.ode.a": 2.0, "blocks.0.ode.log_c": 3.0}
    tensors = {name: torch.tensor(value) for name, value in old.items()}
    Checkpoint(tensors, IDENTITY).save(tmp_path / "old.safetensors", {})
    names = ["blocks.0.ode.potential.W", "average/blocks.1.ode.potential.a", "blocks.0.ode.log_c.0"]
    loaded = load(tmp_path / "old.safetensors").tensors
    assert {name: x.item() for name, x in loaded.items()} == dict(
        zip(names, [1, 2, 3], strict=True)
    )
    Checkpoint(loaded, IDENTITY).save(tmp_path / "new.safetensors", {})
    assert set(load(tmp_path / "new.safetensors").tensors) == set(names)
