"""Stage 3: off it is Stage 2 bit for bit; its parts' causality, start, steps and refusals."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasebench.config import ConfigError, KoopmanConfig, MeraConfig, ModelConfig, build
from phasebench.models import LanguageModel, build_model

VOCAB = 50
SIZES: dict[str, Any] = {"dim": 16, "blocks": 2, "heads": 2, "hidden": 32}
MERAS = [
    MeraConfig(mode, heads=2, gate=gate, disentangle=disentangle)
    for mode, gate, disentangle in itertools.product(
        ("off", "beside", "instead"), ("pool", "unitary"), ("none", "lagged")
    )
]


def stage3(**parts: Any) -> LanguageModel:
    torch.manual_seed(0)
    return build_model(ModelConfig("stage3", **SIZES, **parts), VOCAB).eval()


def test_all_off_is_stage_2_bit_for_bit() -> None:
    models = [stage3()]
    torch.manual_seed(0)
    models.append(build_model(ModelConfig("stage2", **SIZES), VOCAB).eval())
    tokens = torch.randint(0, VOCAB, (2, 13))
    for model in models:
        model.loss(tokens, tokens.roll(-1, 1), 100)[0].backward()
    assert torch.equal(models[0](tokens), models[1](tokens))
    ours, theirs = (dict(model.named_parameters()) for model in models)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name].grad, theirs[name].grad) for name in ours)  # pyright: ignore


def test_parts_leave_the_start_of_what_is_shared() -> None:
    ours = dict(stage3(koopman=KoopmanConfig("damped"), mera=MERAS[-1]).named_parameters())
    shared = [x for name, x in stage3().named_parameters() if name in ours]
    given = [ours[name] for name, _ in stage3().named_parameters() if name in ours]
    assert 10 < len(shared) < len(ours)
    assert all(torch.equal(*pair) for pair in zip(shared, given, strict=True))


@given(
    length=st.integers(1, 27),
    place=st.integers(0, 26),
    memory=st.sampled_from(("damped", "unitary")),
    mera=st.sampled_from(MERAS),
    base=st.sampled_from((None, 1e4)),
)
@settings(deadline=None, max_examples=15)
def test_no_leak_from_the_future(
    length: int, place: int, memory: str, mera: MeraConfig, base: float | None
) -> None:
    model = stage3(koopman=KoopmanConfig(memory, 16), mera=mera, rope_base=base)
    tokens, place = torch.randint(0, VOCAB, (2, length)), place % length
    other = tokens.clone()
    other[:, place] = (other[:, place] + 1) % VOCAB
    with torch.no_grad():
        before, after = model(tokens), model(other)
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place], after[:, place])


def test_neither_memory_nor_levels_decay() -> None:
    model = stage3(koopman=KoopmanConfig("damped"), mera=MERAS[6])
    kept = {name.rpartition(".")[2] for name, p in model.named_parameters() if model.decay(name, p)}
    assert kept == {"weight", "W", "M"}


def refused(**tree: Any) -> str:
    with pytest.raises(ConfigError) as error:
        build(ModelConfig, tree, "model")
    return str(error.value)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"mera": {"mode": "beside"}}, ["model.mera.mode=beside", "memory", "damped, or unitary"]),
        ({"mera": {"mode": "beside", "blocks": [1, 6]}}, ["mera.blocks=[1, 6]", "no block 6", "5"]),
        ({"mera": {"mode": "beside", "heads": 7}}, ["mera.heads=7", "channels=256", "divisor"]),
        ({"stream": "reversible"}, ["model.name=stage3", "stream=reversible", "stage2"]),
    ],
)
def test_parts_that_cannot_be_are_refused(tree: dict[str, Any], words: list[str]) -> None:
    memory = {} if "memory" in words else {"koopman": {"memory": "damped"}}
    message = refused(name="stage3", **memory, **tree)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", ["gpt", "stage1", "stage2", "momentum"])
def test_parts_of_another_model_are_refused(name: str) -> None:
    message = refused(name=name, koopman={"memory": "damped"})
    assert all(word in message for word in ("koopman.memory=damped", name, "model=stage3"))
