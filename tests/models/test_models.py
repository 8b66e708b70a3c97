from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasebench.config import MODELS, ModelConfig, OdeConfig
from phasebench.models import BLOCKS, LanguageModel, build_model
from phasebench.models.language_model import flops_per_token

VOCAB = 50


def small(name: str, **kwargs: object) -> LanguageModel:
    hidden = 16 if name == "stage1" else 64
    return build_model(ModelConfig(name=name, dim=16, blocks=2, heads=2, hidden=hidden, **kwargs), VOCAB).eval()


def test_the_configuration_offers_exactly_the_table() -> None:
    assert set(MODELS) == set(BLOCKS)


@pytest.mark.parametrize("name", BLOCKS)
@given(changed=st.integers(1, 23), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_no_leak_from_the_future(name: str, changed: int, seed: int) -> None:
    """Changing token t leaves the logits before t bitwise as they were, and does change those at t."""
    torch.manual_seed(seed)
    model, tokens = small(name), torch.randint(0, VOCAB, (2, 24))
    other = tokens.clone()
    other[:, changed] = (other[:, changed] + 1) % VOCAB
    with torch.no_grad():
        before, after = model(tokens), model(other)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert not torch.equal(before[:, changed], after[:, changed])


def test_a_leaking_model_fails_that_test() -> None:
    model, tokens = small("stage2"), torch.randint(0, VOCAB, (1, 8))
    model.blocks[0].register_forward_hook(lambda _m, _i, z: z + z.mean(1, keepdim=True))
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % VOCAB
    assert not torch.equal(model(tokens)[:, 0], model(other)[:, 0])


@pytest.mark.parametrize("name", BLOCKS)
def test_loss_is_the_cross_entropy_of_the_logits(name: str) -> None:
    model = small(name)
    tokens, targets = torch.randint(0, VOCAB, (2, 9)), torch.randint(0, VOCAB, (2, 9))
    targets[0, :4] = -100
    nats, count = model.loss(tokens, targets, chunk=5)
    wanted = torch.nn.functional.cross_entropy(
        model(tokens).flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum"
    )
    torch.testing.assert_close(nats, wanted)
    assert count == 14


def test_the_stages_have_the_same_number_of_parameters() -> None:
    sizes = {"stage1": 64, "stage2": 256}
    configs = [ModelConfig(name=name, dim=64, blocks=2, heads=2, hidden=hidden) for name, hidden in sizes.items()]
    one, two = (build_model(config, VOCAB).parameter_counts()["blocks"] for config in configs)
    assert two == pytest.approx(one, rel=0.05)


def test_the_energy_function_is_where_the_design_says() -> None:
    q, p = torch.randn(1, 3, 16), torch.randn(1, 3, 16)
    assert small("stage2").blocks[0].ode.h_func(q, p).shape == (1, 3)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model, tokens = small(name), torch.randint(0, VOCAB, (2, 12))
    model.loss(tokens, tokens.roll(-1, 1), 100)[0].backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_weight_decay_spares_embedding_gains_and_biases() -> None:
    model = small("stage2")
    decayed = {n.rpartition(".")[2] for n, p in model.named_parameters() if model.decays(n, p)}
    assert decayed == {"weight", "W"}
    assert not model.decays("embedding.weight", model.embedding.weight)


def test_more_ode_steps_cost_flops_but_no_parameters() -> None:
    few, many = (small("stage2", ode=OdeConfig(steps=n)) for n in (2, 20))
    assert few.parameter_counts() == many.parameter_counts()
    assert flops_per_token(many, 8) > 2 * flops_per_token(few, 8)


@pytest.mark.parametrize("name", BLOCKS)
def test_dropout_acts_in_training_only(name: str) -> None:
    from phasebench.config import DropoutConfig

    model = small(name, dropout=DropoutConfig(0.2, 0.2, 0.2, 0.2))
    tokens = torch.randint(0, VOCAB, (1, 8))
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


def test_flops_are_those_of_the_products_and_of_attention() -> None:
    """2 a multiply-add: 4 complex D x D products, the mixer's two D x H, and scores and averages over T x T."""
    D, H, T, blocks = 16, 16, 8, 2
    products = blocks * 2 * (4 * 4 * D * D + 2 * 4 * D * H) + 2 * 2 * D * VOCAB
    attention = blocks * 2 * 2 * T * 2 * D
    assert flops_per_token(small("stage1"), T) == products + attention
