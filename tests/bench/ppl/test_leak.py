from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasebench.bench.ppl.leak import POSITIONS, leak
from phasebench.config import ModelConfig
from phasebench.models import LanguageModel, build_model
from variants import MADE

VOCAB = 20


def small(name: str) -> LanguageModel:
    return build_model(
        ModelConfig(name=name, dim=8, blocks=2, heads=2, hidden=16, positions=40), VOCAB
    )


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("length", [2, 7, 40])
def test_a_causal_model_leaks_nothing_bit_for_bit(name: str, length: int) -> None:
    model = small(name)
    assert leak(model, torch.randint(0, VOCAB, (length,))) == 0.0
    assert model.training


@pytest.mark.parametrize("name", ["stage1", "gpt"])
@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_a_look_at_the_next_token_is_found(name: str, size: float) -> None:
    model, tokens = small(name), torch.randint(0, VOCAB, (40,))
    norm = model.get_submodule("norm" if name == "stage1" else "body.ln_f")
    norm.register_forward_hook(lambda _m, _i, z: z + size * z.roll(-1, 1))
    assert leak(model, tokens) > 0.0


def test_a_look_at_the_last_token_only_is_found() -> None:
    def peek(_m: object, _i: object, z: Tensor) -> Tensor:
        return z + z[:, -1:]

    model = small("stage1")
    model.get_submodule("blocks.0").register_forward_hook(peek)
    assert leak(model, torch.randint(0, VOCAB, (4 * POSITIONS + 1,))) > 0.0


def test_a_model_that_reads_nothing_is_no_proof() -> None:
    model = small("stage1")
    torch.nn.init.ones_(model.head)
    with pytest.raises(ArithmeticError, match="does not read token"):
        leak(model, torch.randint(0, VOCAB, (10,)))
