"""What determines trained weights, as text to compare and as a hash to name a file by."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import torch

from phasebench.config import ModelConfig, TrainConfig
from phasebench.config.files import code_hash
from phasebench.data import Corpus
from phasebench.training.device import device_name

# of a recipe, what leaves the weights as they are; epochs and lr act through others
_NO_EFFECT = ("tensorboard", "checkpoint_every", "epochs")
# the rooms whose code determines the weights: all that a training imports but for `config`, whose values are hashed
ROOMS = ("dynamics/", "data/", "models/", "training/")


def shape(config: ModelConfig, corpus: Corpus) -> dict[str, str]:
    """What a checkpoint must agree with, by dotted key: the architecture and the tokenizer."""
    config = config.as_trained()
    used = ["name", "dim", "blocks", "heads", "hidden"]
    used += ["positions"] if config.name == "gpt" else ["rope_base", "embedding_scale"]
    used += ["coordinates"] if config.name == "stage2" else []
    found = {f"model.{key}": str(getattr(config, key)) for key in used}
    if config.name == "stage2":
        ode = dataclasses.asdict(config.ode)
        found |= {
            f"model.ode.{key}": str(v)
            for key, v in ode.items()
            if key not in ("gradient", "on_overflow")
        }
    tokenizer = hashlib.sha256(corpus.tokenizer_json.encode()).hexdigest()
    return found | {
        "tokenizer": f"{corpus.tokenizer_name} of {corpus.vocab_size} types, {tokenizer[:16]}"
    }


def weights_hash(
    config: ModelConfig, recipe: TrainConfig, corpus: Corpus, seed: int, device: torch.device
) -> str:
    """Hash of everything that determines trained weights: model, recipe, text, seed, code, device, torch.

    recipe is the model's own: with its learning rate and decay, and with steps where the configuration says epochs.
    """
    config = config.as_trained()
    determines = {
        "model": {k: v for k, v in dataclasses.asdict(config).items() if k not in _unused(config)},
        "recipe": {k: v for k, v in dataclasses.asdict(recipe).items() if k not in _NO_EFFECT},
        "data": corpus.fingerprint,
        "seed": seed,
        "code": code_hash(ROOMS),
        "device": device_name(device),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()


def _unused(config: ModelConfig) -> set[str]:
    """Keys of a model that do not act on its weights; learning rate and decay act through the recipe."""
    of_others = {
        "stage1": {"ode", "coordinates", "free_motion", "positions"},
        "stage2": {"positions", "shear"},
        "gpt": {"ode", "coordinates", "free_motion", "shear", "rope_base", "embedding_scale"},
    }
    return {"lr", "weight_decay", "trained_ode", "trials"} | of_others[config.name]
