"""The compared language models and the table of their names."""

from __future__ import annotations

from collections.abc import Callable

import torch

from phasebench.config import ModelConfig
from phasebench.dynamics import probe
from phasebench.models.gpt import GptLanguageModel
from phasebench.models.huggingface import HuggingFaceModel, opened, require_transformers
from phasebench.models.language_model import ComplexLanguageModel, LanguageModel
from phasebench.models.momentum import MomentumLanguageModel
from phasebench.models.reversible import ReversibleLanguageModel
from phasebench.models.stage1 import Stage1Block
from phasebench.models.stage2 import Stage2Block, build_flow
from phasebench.models.stage3 import build_stage3

MODELS: dict[str, Callable[[ModelConfig, int], LanguageModel]] = {
    "stage1": lambda config, vocab_size: ComplexLanguageModel(config, vocab_size, Stage1Block),
    "stage2": lambda config, vocab_size: (
        ReversibleLanguageModel(config, vocab_size)
        if config.stream == "reversible"
        else ComplexLanguageModel(config, vocab_size, Stage2Block)
    ),
    "stage3": build_stage3,
    "gpt": GptLanguageModel,
    "momentum": MomentumLanguageModel,
    "hf": HuggingFaceModel,
}


def build_model(config: ModelConfig, vocab_size: int) -> LanguageModel:
    """Make the model that config describes, with fresh weights from torch's global generator.

    Raises `ConfigError` for a model whose package is not installed.
    """
    return MODELS[config.name](config, vocab_size)


def require(config: ModelConfig, key: str) -> None:
    """Raise `ConfigError`, for the dotted name of config, if the model cannot be made."""
    if config.name == "gpt":
        require_transformers(key, "gpt")
    if config.name == "hf":
        opened(config, key)
    if config.has_flow and isinstance(config.ode.potential, dict):
        probe(build_flow(config).potential, torch.zeros(1, config.flow_dim))


__all__ = [
    "MODELS",
    "ComplexLanguageModel",
    "GptLanguageModel",
    "HuggingFaceModel",
    "LanguageModel",
    "MomentumLanguageModel",
    "ReversibleLanguageModel",
    "Stage1Block",
    "Stage2Block",
    "build_flow",
    "build_model",
    "require",
]
