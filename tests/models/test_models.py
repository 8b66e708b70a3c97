from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasebench.config import MODELS as NAMES
from phasebench.config import (
    ConfigError,
    DropoutConfig,
    ModelConfig,
    OdeConfig,
    TrainedOdeConfig,
)
from phasebench.models import MODELS, LanguageModel, build_model, require
from phasebench.models.language_model import flops_per_token
from variants import LEARNED, MADE, VARIANTS, variant

VOCAB = 50


def small(name: str, **kwargs: object) -> LanguageModel:
    hidden = 16 if name == "stage1" else 64
    sizes = {"dim": 16, "blocks": 2, "heads": 2, "hidden": hidden}
    config = ModelConfig(**variant(name), **sizes, **kwargs)  # pyright: ignore
    return build_model(config, VOCAB).eval()


def test_the_configuration_offers_exactly_the_table() -> None:
    assert set(NAMES) == set(MODELS)


@pytest.mark.parametrize("name", VARIANTS)
@given(changed=st.integers(1, 23), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_no_leak_from_the_future(name: str, changed: int, seed: int) -> None:
    """Changing token t leaves the bits of logits before t, and changes those at t."""
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
    model.get_submodule("blocks.0").register_forward_hook(
        lambda _m, _i, z: z + z.mean(1, keepdim=True)
    )
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % VOCAB
    assert not torch.equal(model(tokens)[:, 0], model(other)[:, 0])


@pytest.mark.parametrize("name", ["stage2", LEARNED])
def test_dropout_spares_free_motion(name: str) -> None:
    block = (
        small(name, free_motion=3.0, dropout=DropoutConfig(block=0.5))
        .train()
        .get_submodule("blocks.0")
    )
    z = torch.randn(2, 6, 32)
    with torch.no_grad():
        kicked = [block.merge(z, *block.mix(z)) for _ in range(2)]
        block.ode.potential.a.zero_()
        free = block.merge(z, *block.mix(z))
    assert not torch.equal(*kicked)
    moved = torch.cat((3.0 * block.norm2(z)[..., 16:], torch.zeros(2, 6, 16)), -1)
    torch.testing.assert_close(free, z + moved)


@pytest.mark.parametrize("name", ["stage2", LEARNED])
def test_stand_ins_take_the_place_of_every_flow(name: str) -> None:
    model, tokens = small(name), torch.randint(0, VOCAB, (2, 12))

    def logits(run_as: str) -> torch.Tensor:
        for flow in model.flows:
            flow.run_as = run_as
        return model(tokens)

    with torch.no_grad():
        ends = {name: logits(name) for name in ("flow", "first_order", "free")}
        assert len({end.sum().item() for end in ends.values()}) == 3
        for flow in model.flows:
            flow.potential.a.zero_()
        for name in ends:
            torch.testing.assert_close(logits(name), ends["free"], rtol=1e-5, atol=1e-6)


def test_weights_run_by_finer_steps_give_nearly_the_same_logits() -> None:
    coarse = small("stage2")
    fine = small("stage2", ode=OdeConfig(steps=20, dt=0.1), trained_ode=TrainedOdeConfig(2, 1.0))
    fine.load_state_dict(coarse.state_dict())
    tokens = torch.randint(0, VOCAB, (2, 12))
    with torch.no_grad():
        assert (fine(tokens) - coarse(tokens)).norm() < 0.01 * coarse(tokens).norm()


def test_the_shear_of_stage_1_is_free_motion_that_dropout_spares() -> None:
    block = (
        small("stage1", shear=3.0, dropout=DropoutConfig(block=0.5))
        .train()
        .get_submodule("blocks.0")
    )
    z = torch.randn(2, 6, 32)
    with torch.no_grad():
        block.mixer[-1].weight.zero_()
        moved = torch.cat((3.0 * block.norm2(z)[..., 16:], torch.zeros(2, 6, 16)), -1)
        torch.testing.assert_close(block.merge(z, *block.mix(z)), z + moved)


def test_a_shear_is_a_parameter_that_trains_and_none_is_none() -> None:
    without, model, tokens = (
        small("stage1"),
        small("stage1", shear=0.5),
        torch.randint(0, VOCAB, (2, 12)),
    )
    model.loss(tokens, tokens.roll(-1, 1), 100)[0].backward()
    more = dict(model.named_parameters()).keys() - dict(without.named_parameters()).keys()
    assert more == {"blocks.0.c1", "blocks.1.c1"}
    assert all(model.get_parameter(name).grad.abs().sum() > 0 for name in more)  # pyright: ignore
    assert not any(model.decay(name, model.get_parameter(name)) for name in more)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_dropped_first_word_leaves_finite_gradients(name: str) -> None:
    """Zero would not: every layer leaves it zero, where norms and a modReLU are steepest."""
    hidden, drop = (16 if name == "stage1" else 64), DropoutConfig(embedding=0.9)
    sizes = {"dim": 16, "blocks": 8, "heads": 2, "hidden": hidden}
    config = ModelConfig(**variant(name), **sizes, dropout=drop)  # pyright: ignore
    model = build_model(config, VOCAB).train()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("mixer.1.b"):
            parameter.data.fill_(0.5)
    tokens = torch.randint(0, VOCAB, (4, 24))
    nats, count = model.loss(tokens, tokens, chunk=100)
    (nats / count).backward()
    assert (
        torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        < 100
    )


@pytest.mark.parametrize("name", VARIANTS)
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


@pytest.mark.parametrize("name", [*VARIANTS, "reversible"])
def test_steps_give_the_logits_of_the_whole_sequence(name: str) -> None:
    reversible = name == "reversible"
    model = small("stage2", stream="reversible") if reversible else small(name)
    tokens, state = torch.randint(0, VOCAB, (2, 11)), {}
    with torch.no_grad():
        steps = [model.step(token, state) for token in tokens.T]
        torch.testing.assert_close(torch.stack(steps, 1), model(tokens), rtol=1e-5, atol=1e-5)


def test_the_stages_have_the_same_number_of_parameters() -> None:
    sizes = {"stage1": 64, "stage2": 256}
    configs = [
        ModelConfig(name=name, dim=64, blocks=2, heads=2, hidden=hidden)
        for name, hidden in sizes.items()
    ]
    one, two = (build_model(config, VOCAB).parameter_counts()["blocks"] for config in configs)
    assert two == pytest.approx(one, rel=0.05)


def test_learned_coordinates_are_two_complex_maps_a_block() -> None:
    state, learned = (small(name).parameter_counts()["blocks"] for name in ("stage2", LEARNED))
    assert learned - state == 2 * (2 * 2 * 16**2)


def test_learned_coordinates_that_are_the_identity_are_the_state_s() -> None:
    torch.manual_seed(0)
    model, learned = small("stage2"), small(LEARNED)
    missing = learned.load_state_dict(model.state_dict(), strict=False).missing_keys
    for key in missing:
        weight = learned.get_parameter(key)
        weight.data.copy_(torch.stack((torch.eye(16), torch.zeros(16, 16))))
    tokens = torch.randint(0, VOCAB, (2, 9))
    assert len(missing) == 4
    torch.testing.assert_close(learned(tokens), model(tokens))


def test_the_energy_function_is_where_the_design_says() -> None:
    q, p = torch.randn(1, 3, 16), torch.randn(1, 3, 16)
    assert small("stage2").get_submodule("blocks.0.ode").h_func(q, p).shape == (1, 3)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model, tokens = small(name), torch.randint(0, VOCAB, (2, 12))
    model.loss(tokens, tokens.roll(-1, 1), 100)[0].backward()
    silent = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    # the first velocity is zero, whatever its factors
    assert silent == (["kicks.0.beta", "kicks.0.mu"] if name == "momentum" else [])


def test_matrices_tables_and_potentials_have_a_decay_each() -> None:
    model = small("stage2")
    decays = {name: model.decay(name, p) for name, p in model.named_parameters()}
    assert decays.pop("embedding.weight") == "embedding_decay"
    own = {name.rpartition(".")[2] for name, key in decays.items() if key == "potential_decay"}
    assert own == {"W"}
    common = {name.rpartition(".")[2] for name, key in decays.items() if key == "weight_decay"}
    assert common == {"weight"}
    assert {name.rpartition(".")[2] for name, key in decays.items() if not key} >= {
        "a",
        "b",
        "c1",
        "c2",
        "g",
    }


def test_more_ode_steps_cost_flops_but_no_parameters() -> None:
    few, many = (small("stage2", ode=OdeConfig(steps=n)) for n in (2, 20))
    assert few.parameter_counts() == many.parameter_counts()
    assert flops_per_token(many, 8) > 2 * flops_per_token(few, 8)


@pytest.mark.parametrize("name", MADE)
def test_dropout_acts_in_training_only(name: str) -> None:
    model = small(name, dropout=DropoutConfig(0.2, 0.2, 0.2, 0.2))
    tokens = torch.randint(0, VOCAB, (1, 8))
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


def test_flops_are_those_of_the_products_and_of_attention() -> None:
    """4 complex D x D products, the mixer's two D x H, and scores and averages over T x T."""
    D, H, T, blocks = 16, 16, 8, 2
    products = blocks * 2 * (4 * 4 * D * D + 2 * 4 * D * H) + 2 * 2 * D * VOCAB
    attention = blocks * 2 * 2 * T * 2 * D
    assert flops_per_token(small("stage1"), T) == products + attention


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_flops_of_a_flow_are_two_products_a_force(device: str) -> None:
    """13 forces of two steps of Blanes-Moan 4, of D x H products; the fused flow is seen too."""
    D, H, T, blocks = 16, 64, 8, 2
    products = blocks * 2 * (4 * 4 * D * D + 13 * 2 * D * H) + 2 * 2 * D * VOCAB
    model = small("stage2").to(device)
    for flow in model.flows:
        flow.gradient = "adjoint_exact"
    assert flops_per_token(model, T) == products + blocks * 2 * 2 * T * 2 * D
    assert {flow.gradient for flow in model.flows} == {"adjoint_exact"}


def test_flops_of_gpt_are_counted_alike() -> None:
    """4 real D' x D' products, two D' x H, and the same attention; D' = 2 D."""
    D, H, T, blocks = 32, 64, 8, 2
    products = blocks * 2 * (4 * D * D + 2 * D * H) + 2 * D * VOCAB
    assert flops_per_token(small("gpt"), T) == products + blocks * 2 * 2 * T * D


def test_gpt_is_gpt2_s_body_under_the_same_head() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model, tokens = small("gpt"), torch.randint(0, VOCAB, (2, 9))
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=1024,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_inner=64,
        bos_token_id=None,
        eos_token_id=None,
    )
    whole = GPT2LMHeadModel(config).eval()
    body = {
        name.removeprefix("body."): w
        for name, w in model.state_dict().items()
        if name.startswith("body.")
    }
    whole.transformer.load_state_dict(body | {"wte.weight": model.head})
    torch.testing.assert_close(model(tokens), whole(tokens).logits)
    counted = sum(p.numel() for p in whole.parameters())
    assert model.parameter_counts() == {"total": counted, "blocks": counted - VOCAB * 32}
    tables = {
        model.decay(name, p)
        for name, p in model.named_parameters()
        if "embedding" in name or "wpe" in name
    }
    assert tables == {"embedding_decay"}


def test_gpt_refuses_more_tokens_than_positions() -> None:
    with pytest.raises(ConfigError, match=r"model\.positions=8"):
        small("gpt", positions=8)(torch.zeros(1, 9, dtype=torch.int64))


def test_gpt_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ConfigError, match=r"bench\.ppl\.reference=gpt.*(.|\n)*pip install 'phasebench\[gpt\]'"
    ):
        require(ModelConfig(name="gpt"), "bench.ppl.reference")
    require(ModelConfig(name="stage2"), "model")


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("kind", ["embedding", "input", "block", "output", "attention"])
def test_each_kind_of_dropout_acts_in_training_only(name: str, kind: str) -> None:
    model, tokens = (
        small(name, dropout=DropoutConfig(**{kind: 0.5})),
        torch.randint(0, VOCAB, (1, 8)),
    )
    still = model(tokens)
    assert torch.equal(still, model(tokens))
    model.train()
    assert not torch.equal(still, model(tokens))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("locked", [False, True])
def test_locked_dropout_drops_the_same_channels_at_all_positions(name: str, locked: bool) -> None:
    model, tokens = (
        small(name, dropout=DropoutConfig(output=0.5, locked=locked)),
        torch.randint(0, VOCAB, (2, 9)),
    )
    model.train()
    dropped = model.states(tokens) == 0
    assert 0.2 < dropped.float().mean() < 0.8
    assert bool((dropped == dropped[:, :1]).all()) is locked
    assert not torch.equal(dropped[0], dropped[1])


def test_locked_dropout_reaches_every_layer_of_gpt() -> None:
    from phasebench.models.layers import LockedDropout

    rates = [
        m.rate
        for m in small("gpt", dropout=DropoutConfig(0.0, 0.1, 0.2, 0.3, 0.4, True)).modules()
        if isinstance(m, LockedDropout)
    ]
    assert sorted(rates) == [0.1, 0.2, 0.2, 0.2, 0.2, 0.3]


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_dropout_keeps_the_mean(name: str, locked: bool) -> None:
    """Of the states that the head reads, over many masks."""
    model, tokens = (
        small(name, dropout=DropoutConfig(output=0.3, locked=locked)),
        torch.randint(0, VOCAB, (1, 4)),
    )
    with torch.no_grad():
        still = model.states(tokens)
        model.train()
        mean = model.states(tokens.expand(4000, -1)).mean(0, keepdim=True)
    torch.testing.assert_close(mean, still, rtol=0.15, atol=0.05)
