"""Weights and states of training on disk: safetensors files, all or nothing, checked when read.

Tensors keep their names in the model. An unfinished training adds what it needs to go on, under
names with a slash (``optimizer/weight/moment``, ``average/weight``, ``best/weight``), which no
parameter of a module has. The metadata records the identity of the weights, the model's
configuration and tokenizer, the training's history, and a checksum over all of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from phasebench import __version__
from phasebench.results.jsonfile import write_atomic


class BadCheckpoint(ValueError):
    """A file that is missing, damaged, not a checkpoint of phasebench, or of something else."""


@dataclass
class History:
    """What happened in a training.

    Attributes:
        steps: step, loss, lr, tokens_per_s and grad_norm, every 10 steps.
        validations: step, nats_per_token, perplexity, and what the probe measured.
        stopped: "budget", or "early stop at step ...".
        weights: which were kept: "final", or "best" (of the validations).
        average: over which steps the weights were averaged; empty: not at all.
        best_step: of the best validation.
        seconds: over all sittings.
        peak_bytes: most memory of the GPU that was allocated; None on a CPU.
        resumed_from: step.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""
    weights: str = "final"
    average: str = ""
    best_step: int | None = None
    seconds: float = 0.0
    peak_bytes: int | None = None
    resumed_from: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds; `scaler` is that of an unfinished training, else None.

    `configuration` (JSON) and `tokenizer` are what `description` says of the weights.
    """

    tensors: dict[str, Tensor]
    identity: dict[str, str]
    step: int = 0
    history: History = field(default_factory=History)
    scaler: dict[str, float] | None = None
    configuration: str = ""
    tokenizer: str = ""

    @property
    def weights(self) -> dict[str, Tensor]:
        """Return the model's tensors, without those of an unfinished training."""
        return {name: tensor for name, tensor in self.tensors.items() if "/" not in name}

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Return copies of the tensors whose name begins with a prefix, without it."""
        return {
            name.removeprefix(prefix): tensor.clone()
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }

    def save(self, path: Path, about: Mapping[str, str]) -> None:
        """Write a file; a crash at any moment leaves the old one or the new one, never a part.

        `about` is further metadata. Raises `OSError` where the folder cannot be written.
        """
        tensors = {n: tensor.detach().cpu().contiguous() for n, tensor in self.tensors.items()}
        metadata = {
            **about,
            "phasebench": __version__,
            "identity": json.dumps(self.identity, sort_keys=True),
            "step": str(self.step),
            "history": json.dumps(asdict(self.history)),
        }
        if self.scaler is not None:
            metadata["scaler"] = json.dumps(self.scaler)
        metadata["checksum"] = checksum(tensors, metadata)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, safetensors.torch.save(tensors, metadata))

    def check_identity(self, expected: Mapping[str, str], *, exact: bool = False) -> None:
        """Raise `BadCheckpoint` naming every expected entry that the identity contradicts.

        exact: also every entry of the identity that is not expected.
        """
        wrong = [
            f"{name} is {self.identity.get(name, 'not recorded')} in the file, "
            f"{expected.get(name, 'not given')} here"
            for name in ({**expected, **self.identity} if exact else expected)
            if self.identity.get(name) != expected.get(name)
        ]
        if wrong:
            raise BadCheckpoint("was trained under other conditions: " + "; ".join(wrong))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint, onto the CPU; every load of a file goes through here.

    Raises `BadCheckpoint` saying what is wrong with the file, `OSError` where it cannot be opened.
    """
    if not path.is_file():
        raise BadCheckpoint("is not a file" if path.exists() else "no such file")
    path.open("rb").close()  # the error of a file that may not be read is not that of a damaged one
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()  # the file is no iterator
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        problem = f"cannot be read: truncated, or not a safetensors file ({error})"
        raise BadCheckpoint(problem) from error
    if "phasebench" not in metadata or "identity" not in metadata:
        raise BadCheckpoint("is a safetensors file, but not one that phasebench wrote")
    recorded = metadata.pop("checksum", None)
    if recorded is None:
        raise BadCheckpoint("records no checksum: an older phasebench wrote it")
    if recorded != checksum(tensors, metadata):
        raise BadCheckpoint("is damaged: its content has not the checksum that it records")
    try:
        identity = {str(k): str(v) for k, v in json.loads(metadata["identity"]).items()}
        history = History(**json.loads(metadata["history"]))
        scaler = dict(json.loads(metadata["scaler"])) if "scaler" in metadata else None
        tensors = {_renamed(name): tensor for name, tensor in tensors.items()}
        about = {key: metadata.get(key, "") for key in ("configuration", "tokenizer")}
        return Checkpoint(tensors, identity, int(metadata["step"]), history, scaler, **about)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        problem = f"its metadata cannot be read ({type(error).__name__}: {error})"
        raise BadCheckpoint(problem) from error


def _renamed(name: str) -> str:
    """Return today's name of a flow's weight, which had no potential of its own at first."""
    name = re.sub(r"\.ode\.([Wab])\b", r".ode.potential.\1", name)
    return re.sub(r"\.ode\.log_c\b(?!\.)", ".ode.log_c.0", name)


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) of tensors and metadata, in the order of their names."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the live parameters and persistent buffers by name, tied ones by their first name."""
    first: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    return {name: state[name] for name in first.values()}


def copy_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the model's weights of the same names.

    Raises `BadCheckpoint` naming what is missing, unexpected or of another shape; the model is then
    untouched.
    """
    targets = weights(model)
    problems = [
        f"{name} has shape {list(tensors[name].shape)} in the file, "
        f"{list(target.shape)} in the model"
        for name, target in targets.items()
        if name in tensors and tensors[name].shape != target.shape
    ]
    problems += [f"no {name}" for name in targets if name not in tensors]
    problems += [f"{name} is not in the model" for name in tensors if name not in targets]
    if problems:
        rest = f"; and {len(problems) - 3} more differences" if len(problems) > 3 else ""
        raise BadCheckpoint(f"holds the weights of another model: {'; '.join(problems[:3])}{rest}")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def load_weights(model: nn.Module, path: Path, expected: Mapping[str, str]) -> Checkpoint:
    """Fill the model from a file, and return what the file holds.

    expected is what the recorded identity must say, entry by entry (dotted key -> value). Raises
    what `load` does, and `BadCheckpoint` where the file is of other weights; the model is then
    untouched.
    """
    checkpoint = load(path)
    checkpoint.check_identity(expected)
    copy_weights(model, checkpoint.weights)
    return checkpoint
