"""Weights and training states on disk: safetensors files, written all or nothing, checked when read.

Tensors keep their names in the model.  An unfinished training adds what it needs to go on, under names with a slash
(``optimizer/...``, ``best/...``), which no parameter of a module has.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from phasebench import __version__
from phasebench.config import ConfigError

log = logging.getLogger(__name__)


class BadCheckpoint(ValueError):
    """A file that is missing, truncated, not a checkpoint of phasebench, or of something else."""


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint needs of a model, which is a `torch.nn.Module`."""

    def state_dict(self, *, keep_vars: bool) -> dict[str, Any]: ...


def weights(model: Stateful) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, the live ones, each once: of tied ones the first name counts."""
    first: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    return {name: state[name] for name in first.values()}


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a checkpoint; a crash at any moment leaves the old file or the new one, never a part.

    One writer a path at a time: the temporary file beside it has a fixed name.
    Raises `OSError` or `SafetensorError` where the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            {"phasebench": __version__, **metadata},
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (on the CPU) and metadata of a checkpoint. Raises `BadCheckpoint` saying what is wrong with the file."""
    if not path.is_file():
        raise BadCheckpoint("is not a file" if path.exists() else "no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(
            f"cannot be read: truncated, or not a safetensors file ({error})"
        ) from error
    if "phasebench" not in metadata or "identity" not in metadata:
        raise BadCheckpoint("is a safetensors file, but not one that phasebench wrote")
    return tensors, metadata


def copy_weights(model: Stateful, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the model's weights of the same names.

    Raises `BadCheckpoint` naming what is missing, unexpected or of another shape; the model is then untouched.
    """
    targets = weights(model)
    problem = _difference(targets, tensors)
    if problem:
        raise BadCheckpoint(problem)
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def load_weights(
    model: Stateful, path: Path, *, expected: Mapping[str, str], key: str, fix: str | None = None
) -> dict[str, str]:
    """Fill the model from a checkpoint of weights, and return its metadata.

    expected is what the identity in the checkpoint must say, entry by entry (dotted configuration key -> value).
    Raises `ConfigError` for `key` with the path, what is wrong and the fix, which by default is another file or
    ``key=null``; the model is then untouched.
    """
    try:
        tensors, metadata = load(path)
        check_identity(metadata, expected)
        copy_weights(model, {name: tensor for name, tensor in tensors.items() if "/" not in name})
    except BadCheckpoint as error:
        fix = fix or f"give the weights of this model and data, or {key}=null to train them"
        raise ConfigError(key, path, str(error), fix) from error
    if any("/" in name for name in tensors):
        log.warning("%s is a training that did not finish", path)
    return metadata


def check_identity(
    metadata: Mapping[str, str], expected: Mapping[str, str], *, exact: bool = False
) -> None:
    """Raise `BadCheckpoint` naming every entry of expected that the checkpoint's identity contradicts.

    exact: also every entry of the identity that is not expected.
    """
    found: dict[str, str] = json.loads(metadata["identity"])
    wrong = [
        f"{name} is {found.get(name, 'not recorded')} in the file, {expected.get(name, 'not given')} here"
        for name in ({**expected, **found} if exact else expected)
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        raise BadCheckpoint("was trained under other conditions: " + "; ".join(wrong))


def _difference(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """What keeps the tensors from being the targets' values, or an empty string."""
    shapes = [
        f"{name} has shape {list(tensors[name].shape)} in the file, {list(target.shape)} in the model"
        for name, target in targets.items()
        if name in tensors and tensors[name].shape != target.shape
    ]
    missing = [f"no {name}" for name in targets if name not in tensors]
    extra = [f"{name} is not in the model" for name in tensors if name not in targets]
    found = shapes + missing + extra
    rest = f"; and {len(found) - 3} more differences" if len(found) > 3 else ""
    return "holds the weights of another model: " + "; ".join(found[:3]) + rest if found else ""
