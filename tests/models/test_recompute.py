"""What is computed again in the backward pass changes memory, not gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from phasebench.bench.vram.meter import measure_step
from phasebench.bench.vram.predict import predicting
from phasebench.config import GRADIENTS, RECOMPUTE, DropoutConfig, ModelConfig, OdeConfig
from phasebench.models import LanguageModel, build_model
from variants import LEARNED, STAGES, variant

SUBSETS = [list(s) for n in range(4) for s in itertools.combinations(RECOMPUTE, n)]


def config(name: str, recompute: list[str], dropout: float = 0.2, **ode: object) -> ModelConfig:
    rates = DropoutConfig(dropout, dropout, dropout, dropout)
    sizes = {"dim": 16, "blocks": 3, "heads": 2, "hidden": 32, "positions": 64}
    made = OdeConfig(**{"steps": 3, "dt": 0.1, "integrator": "leapfrog", **ode})  # pyright: ignore
    choice = {"dropout": rates, "recompute": recompute, "ode": made}
    return ModelConfig(**variant(name), **sizes, **choice)  # pyright: ignore


def gradients(
    made: ModelConfig, batch: int, precision: torch.dtype | None = None
) -> dict[str, Tensor]:
    torch.manual_seed(1)
    model = build_model(made, 50).train()
    tokens, targets = torch.randint(50, (2, batch, 12))
    targets[:, :3] = -100
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        loss = model.loss(tokens, targets, 5)[0]
    loss.backward()
    return {
        "loss": loss.detach(),
        **{name: p.grad for name, p in model.named_parameters() if p.grad is not None},
    }


@pytest.mark.parametrize("recompute", SUBSETS, ids="+".join)
@pytest.mark.parametrize("name", STAGES)
def test_gradients_have_the_same_bits_with_dropout_too(name: str, recompute: list[str]) -> None:
    plain, found = gradients(config(name, []), 1), gradients(config(name, recompute), 1)
    assert plain.keys() == found.keys()
    assert [key for key in plain if not torch.equal(plain[key], found[key])] == []


@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("name", STAGES)
def test_two_halves_of_a_batch_sum_to_the_whole_up_to_rounding(name: str, batch: int) -> None:
    plain, found = (gradients(config(name, parts, 0.0), batch) for parts in ([], list(RECOMPUTE)))
    for key, gradient in plain.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(found[key], gradient, rtol=1e-5, atol=2e-6 * scale + 1e-7)


@pytest.mark.parametrize("name", ["stage2", LEARNED])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_every_gradient_method_and_autocast_go_with_it(gradient: str, name: str) -> None:
    made = [config(name, parts, 0.1, gradient=gradient) for parts in ([], list(RECOMPUTE))]
    plain, found = (gradients(each, 1, torch.bfloat16) for each in made)
    assert [key for key in plain if not torch.equal(plain[key], found[key])] == []


def test_a_reference_model_defers_its_head_only() -> None:
    pytest.importorskip("transformers")
    plain, found = (gradients(config("gpt", parts), 1) for parts in ([], list(RECOMPUTE)))
    assert [key for key in plain if not torch.equal(plain[key], found[key])] == []


def test_a_plain_head_has_the_same_gradients() -> None:
    torch.manual_seed(1)
    made = config("stage2", list(RECOMPUTE), 0.0, gradient="backprop")
    model, tokens = build_model(made, 50).train().double(), torch.randint(50, (2, 12))
    found = []
    for chunk in (None, 5):
        model.zero_grad()
        loss = model.loss(tokens, tokens.roll(-1, 1), chunk)[0]
        loss.backward()
        found.append([loss, *(p.grad for p in model.parameters())])
    torch.testing.assert_close(*found)


def held(name: str, recompute: list[str]) -> float:
    """Between forward and backward, in states."""
    with predicting() as tracker:
        made = config(name, recompute, 0.0, steps=2)
        model: LanguageModel = build_model(made, 50).train()
        tokens = torch.zeros(2, 64, dtype=torch.int64)
        return measure_step(model, lambda: model.loss(tokens, tokens, 8)[0], tracker).held / (
            2 * 64 * 32 * 4
        )


@pytest.mark.parametrize("name", ["stage1", "stage2"])
def test_each_part_saves_memory(name: str) -> None:
    none, tail, attention, both = (
        held(name, parts) for parts in ([], ["tail"], ["attention"], ["tail", "attention"])
    )
    assert both < min(tail, attention) <= max(tail, attention) < none
    assert both < none / 3


def test_nothing_is_kept_without_gradients() -> None:
    model = build_model(config("stage2", list(RECOMPUTE), 0.0), 50).eval()
    with torch.no_grad():
        assert not model.loss(
            torch.zeros(1, 5, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64), 5
        )[0].grad_fn
