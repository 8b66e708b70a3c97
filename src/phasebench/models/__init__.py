"""The compared language models and the table of their names."""

from __future__ import annotations

from collections.abc import Callable

from phasebench.config import ModelConfig
from phasebench.models.gpt import GptLanguageModel
from phasebench.models.gpt import require as _require_gpt
from phasebench.models.language_model import ComplexLanguageModel, LanguageModel
from phasebench.models.momentum import MomentumLanguageModel
from phasebench.models.stage1 import Stage1Block
from phasebench.models.stage2 import Stage2Block, build_flow

MODELS: dict[str, Callable[[ModelConfig, int], LanguageModel]] = {
    "stage1": lambda config, vocab_size: ComplexLanguageModel(config, vocab_size, Stage1Block),
    "stage2": lambda config, vocab_size: ComplexLanguageModel(config, vocab_size, Stage2Block),
    "gpt": GptLanguageModel,
    "momentum": MomentumLanguageModel,
}


def build_model(config: ModelConfig, vocab_size: int) -> LanguageModel:
    """Make the model that config describes, with fresh weights from torch's global generator.

    Raises `ConfigError` for a model whose package is not installed.
    """
    return MODELS[config.name](config, vocab_size)


def require(config: ModelConfig, key: str) -> None:
    """Raise `ConfigError`, for the dotted name of config, if a package of the model is missing."""
    if config.name == "gpt":
        _require_gpt(key)


__all__ = [
    "MODELS",
    "ComplexLanguageModel",
    "GptLanguageModel",
    "LanguageModel",
    "MomentumLanguageModel",
    "Stage1Block",
    "Stage2Block",
    "build_flow",
    "build_model",
    "require",
]
