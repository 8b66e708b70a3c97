"""What determines trained weights, as text to compare and as a hash to name a file by."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import torch

from phasebench.config import ModelConfig, TrainConfig
from phasebench.config.files import code_file, code_hash, content_hash
from phasebench.data import Corpus
from phasebench.models.huggingface import SETTINGS, opened

# of a recipe, what leaves the weights as they are; epochs and lr act through others
_NO_EFFECT = ("tensorboard", "checkpoint_every", "epochs")
# the rooms whose code determines the weights: all that a training imports but for `config`, whose
# values are hashed, and `results`, which writes files
ROOMS = ("dynamics/", "data/", "models/", "training/")

_OF_STAGE_2 = {"ode", "coordinates", "stream", "free_motion"}
_OF_STAGE_3 = {"koopman", "mera"}
# keys of the other models, which a model has no use for
_UNUSED = {
    "stage1": _OF_STAGE_2 | _OF_STAGE_3 | {"positions"},
    "stage2": _OF_STAGE_3 | {"positions", "shear"},
    "stage3": {"positions", "shear"},
    "gpt": _OF_STAGE_2 | _OF_STAGE_3 | {"shear", "rope_base", "embedding_scale"},
    "momentum": _OF_STAGE_2 | _OF_STAGE_3 | {"shear", "positions"},
    "hf": {field.name for field in dataclasses.fields(ModelConfig)}
    - {"name", "checkpoint", "architecture"},
}
# keys that determine the shape and the meaning of the weights, of the models that use them
_SIZES = (
    "name",
    "dim",
    "blocks",
    "heads",
    "hidden",
    "positions",
    "rope_base",
    "embedding_scale",
    "coordinates",
    "stream",
)


def architecture(config: ModelConfig, corpus: Corpus) -> dict[str, str]:
    """Return what a checkpoint must agree with, by dotted key: the model's sizes, the tokenizer."""
    config, unused = config.as_trained(), _UNUSED[config.name]
    keys = [key for key in _SIZES if key not in unused]
    entries = {f"model.{key}": str(getattr(config, key)) for key in keys}
    for group in sorted({"ode", *_OF_STAGE_3} - unused):
        for key, value in dataclasses.asdict(getattr(config, group)).items():
            if key not in ("gradient", "on_overflow"):
                entries[f"model.{group}.{key}"] = str(value)
    digest = hashlib.sha256(corpus.tokenizer_json.encode()).hexdigest()
    types = f"{corpus.tokenizer_name} of {corpus.vocab_size} types, {digest[:16]}"
    return entries | {"tokenizer": types}


def description(
    config: ModelConfig, recipe: TrainConfig, corpus: Corpus, seed: int
) -> dict[str, str]:
    """Return what a file of weights says beside its identity: configuration and tokenizer, JSON."""
    configuration = {
        "model": dataclasses.asdict(config),
        "train": dataclasses.asdict(recipe),
        "data": corpus.name,
        "seed": seed,
    }
    return {"configuration": json.dumps(configuration), "tokenizer": corpus.tokenizer_json}


def weights_hash(
    config: ModelConfig, recipe: TrainConfig, corpus: Corpus, seed: int, device: torch.device
) -> str:
    """Hash all that determines trained weights: model, recipe, text, seed, code, device, torch.

    recipe is the model's own: with its learning rate and decay, and with steps where the
    configuration says epochs.
    """
    config = config.as_trained()
    # its rate and decay act through the recipe
    unused = {"lr", "weight_decay", "trained_ode", "trials"} | _UNUSED[config.name]
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    outside = _outside(config)
    determines = {
        "model": {k: v for k, v in dataclasses.asdict(config).items() if k not in unused},
        "recipe": {k: v for k, v in dataclasses.asdict(recipe).items() if k not in _NO_EFFECT},
        "data": corpus.fingerprint,
        "seed": seed,
        "code": code_hash(ROOMS),
        "outside": content_hash(outside) if outside else "",
        "device": gpu,
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()


def _outside(config: ModelConfig) -> Path | None:
    """Return the file beside the configuration that makes the model, if there is one."""
    if config.architecture:
        return opened(config, "model")[2] / SETTINGS
    own = config.ode.potential if config.has_flow else None
    return Path(code_file(own["_target_"])) if isinstance(own, dict) else None
