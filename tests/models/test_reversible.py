"""The reversible stream: rebuilt bit for bit, gradients, memory that does not grow with depth."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from phasebench.config import ConfigError, DropoutConfig, ModelConfig
from phasebench.config.model import OdeConfig
from phasebench.dynamics.lattice import LatticeCorrupted, LatticeOverflow
from phasebench.models import LanguageModel, build_model, reversible

VOCAB = 40
TOKENS, TARGETS = torch.randint(VOCAB, (2, 2, 12), generator=torch.Generator().manual_seed(3))


def made(depth: int, dtype: torch.dtype = torch.float32, **changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(
        dim=8,
        blocks=depth,
        heads=2,
        hidden=16,
        stream="reversible",
        embedding_scale=20.0,
        dropout=DropoutConfig(input=0.1, block=0.2, output=0.1),
        **changes,
    )
    return build_model(config, VOCAB).to(dtype).train()


def gradients(model: LanguageModel) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(5)
    model.loss(TOKENS, TARGETS, 16)[0].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("depth", [1, 3, 24])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_input_of_every_block_comes_back_bit_for_bit(
    depth: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so do the gradients: those of kept states, with the same order of operations."""
    model, kept = made(depth), []
    advance, retreat = reversible.advance, reversible.retreat

    def forwards(*arguments: Any) -> Any:
        end = advance(*arguments)
        kept.append((*arguments[:2], *end))
        return end

    def backwards(Q: Tensor, P: Tensor, *rest: Any) -> Any:
        before_Q, before_P, after_Q, after_P = kept.pop()
        assert torch.equal(Q, after_Q)
        assert torch.equal(P, after_P)
        Q, P, w, v = retreat(Q, P, *rest)
        assert torch.equal(Q, before_Q)
        assert torch.equal(P, before_P)
        return Q, P, w, v

    monkeypatch.setattr(reversible, "advance", forwards)
    monkeypatch.setattr(reversible, "retreat", backwards)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        found = gradients(model)
    assert not kept
    assert found.keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize(("depth", "recompute"), [(1, []), (5, []), (2, ["tail", "head"])])
def test_gradients_are_those_of_backprop(depth: int, recompute: list[str]) -> None:
    """In float64, with dropout: the masks of the second pass are those of the first.

    By halves of the batch the masks are others, so there is no dropout.
    """
    model = made(depth, torch.float64, ode=OdeConfig(steps=2, dt=0.5), recompute=recompute)
    if recompute:
        model.eval()
    found = gradients(model)
    for block in model.blocks:
        block.ode.gradient = "backprop"
    for name, wanted in gradients(model).items():
        assert (found[name] - wanted).norm() < 1e-9 * wanted.norm(), name


def test_what_is_held_for_the_backward_pass_does_not_grow_with_depth() -> None:
    def held(depth: int) -> int:
        saved: list[weakref.ref[Tensor]] = []
        parameters: list[bool] = []

        def keep(x: Tensor) -> Tensor:
            kept = x.detach()  # a saved output itself would be a cycle
            saved.append(weakref.ref(kept))
            parameters.append(isinstance(x, torch.nn.Parameter))
            return kept

        model = made(depth)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = model.loss(TOKENS, TARGETS, 16)[0]
        alive = [ref() for ref, own in zip(saved, parameters, strict=True) if not own]
        storages = {
            x.untyped_storage().data_ptr(): x.untyped_storage().nbytes()
            for x in alive
            if x is not None and x.numel() >= TOKENS.numel()
        }
        loss.backward()
        return sum(storages.values())

    assert held(12) == held(2)


def test_an_overflow_anywhere_and_changed_weights_are_errors() -> None:
    model = made(3)
    with torch.no_grad():
        model.blocks[1].attention.out.weight.mul_(1e7)
    with pytest.raises(LatticeOverflow):
        gradients(model)
    model = made(3)
    loss = model.loss(TOKENS, TARGETS, 16)[0]
    with torch.no_grad():
        model.blocks[1].attention.out.weight.mul_(2.0)
    with pytest.raises(LatticeCorrupted):
        loss.backward()


def test_masks_depend_on_seed_layer_and_place_alone() -> None:
    seed = torch.tensor(12345)
    mask = reversible.dropout_mask((100, 1000), seed, 3, 0.25)
    assert torch.equal(mask, reversible.dropout_mask((100, 1000), seed, 3, 0.25))
    assert set(mask.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    others = [
        reversible.dropout_mask((100, 1000), seed, 4, 0.25),
        reversible.dropout_mask((100, 1000), seed + 1, 3, 0.25),
        mask.roll(1, 1),
        mask.roll(1, 0),
    ]
    dropped = mask == 0
    assert abs(dropped.float().mean() - 0.25) < 0.005
    for other in others:  # independent: a quarter of what one drops the other drops too
        assert abs((dropped & (other == 0)).float().mean() - 0.25**2) < 0.005


def test_a_locked_mask_is_the_same_at_all_positions() -> None:
    config = ModelConfig(
        dim=8, heads=2, stream="reversible", dropout=DropoutConfig(block=0.5, locked=True)
    )
    block, q = reversible.ReversibleBlock(config), torch.randn(2, 6, 16)
    dropped = block.kick(q, block.mask(q, torch.tensor(1), 0)) == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert 0 < dropped.float().mean() < 1


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": "gpt"}, "name"),
        ({"coordinates": "learned"}, "coordinates"),
        ({"dropout": DropoutConfig(attention=0.1)}, "dropout.attention"),
    ],
)
def test_what_cannot_be_reversed_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match="cannot be with stream=reversible") as refused:
        ModelConfig(stream="reversible", **changes)
    assert refused.value.key == key
