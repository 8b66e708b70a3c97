"""The compared language models and the table of their names."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from phasebench.config import ModelConfig
from phasebench.models.language_model import LanguageModel
from phasebench.models.stage1 import Stage1Block
from phasebench.models.stage2 import Stage2Block, build_flow

BLOCKS: dict[str, Callable[[ModelConfig], nn.Module]] = {"stage1": Stage1Block, "stage2": Stage2Block}


def build_model(config: ModelConfig, vocab_size: int) -> LanguageModel:
    """The model that config describes, with fresh weights from torch's global generator."""
    return LanguageModel(config, vocab_size, BLOCKS[config.name])


__all__ = ["BLOCKS", "LanguageModel", "Stage1Block", "Stage2Block", "build_flow", "build_model"]
