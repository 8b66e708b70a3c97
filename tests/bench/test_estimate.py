"""Work is estimated before it starts: what cannot fit, or would take months, is refused."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from phasebench.bench import estimate
from phasebench.bench.clock import Timed
from phasebench.bench.estimate import check, slow
from phasebench.config import ConfigError, ModelConfig, TrainConfig, to_config

CPU = torch.device("cpu")
CASES: list[tuple[dict[str, Any], str]] = [
    ({"data": {"name": "synthetic", "synthetic": {"rows": 2_000_000_000}}}, "data.synthetic.rows"),
    ({"train": {"batch": 1_000_000_000}}, "train.batch"),
    ({"train": {"steps": 10**15}}, "train.steps"),
    ({"bench": {"ppl": {"batch": 10**12}}}, "bench.ppl.batch"),
    ({"bench": {"energy": {"dts": [1e-7]}}}, "bench.energy.dts"),
    ({"bench": {"energy": {"steps": 10**9}}}, "bench.energy.steps"),
    ({"bench": {"grad": {"tokens": 10**12}}}, "bench.grad.tokens"),
    ({"bench": {"grad": {"steps": [1, 10**9]}}}, "bench.grad.steps"),
    ({"bench": {"speed": {"batch": 10**12}}}, "bench.speed.batch"),
    ({"model": {"dim": 10**7}}, "model.dim"),
    ({"model": {"ode": {"steps": 10**9}}}, "model.ode.steps"),
    ({"train": {"epochs": 1e9}}, "train.epochs"),
    ({"bench": {"budget": {"budgets": [1.0, 1e9]}}}, "bench.budget.budgets"),
]


@pytest.mark.parametrize(("tree", "key"), CASES)
def test_kind_9_what_cannot_be_is_refused_with_its_estimate(tree: dict[str, Any], key: str) -> None:
    tree = {"bench": {"ppl": {}}} | tree
    with pytest.raises(ConfigError, match=rf"{key}=(.|\n)* fix: .*force=true") as refused:
        check(to_config(tree), CPU, tokens=10**6)
    assert "GB" in refused.value.problem or "months" in refused.value.problem
    check(to_config(tree | {"force": True}), CPU, tokens=10**6)


def test_kind_9_what_users_run_is_let_through() -> None:
    benches = {"ppl": {}, "energy": {"steps": 10000}, "budget": {}}
    check(to_config({"bench": benches, "train": {"epochs": 100.0, "batch": 64}}), CPU)


def test_kind_9_rows_are_held_by_the_host_and_steps_are_unused_beside_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = {"bench": {"ppl": {}}, "train": {"epochs": 1.0, "steps": 10**15}}
    check(to_config(tree | {"data": {"name": "synthetic", "synthetic": {"rows": 10**6}}}), CPU)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 10**12))
    rows = {"data": {"name": "synthetic", "synthetic": {"rows": 4 * 10**9}}}  # 800 GB
    with pytest.raises(ConfigError, match=r"^data\.synthetic\.rows="):
        check(to_config(tree | rows), torch.device("cuda"))


class Source:
    """A source of weights, trained or not, on text of 50,257 types."""

    corpus = SimpleNamespace(vocab_size=50257)

    def __init__(self, tree: dict[str, Any], *, there: bool) -> None:
        self.recipe, self.there = to_config(tree).train, there

    def recipe_of(self, model: ModelConfig, epochs: float | None) -> TrainConfig:
        return self.recipe

    def is_there(self, model: ModelConfig, seed: int, epochs: float | None) -> bool:
        return self.there


TRAINED = {"bench": {"ppl": {}}, "train": {"steps": 3000, "batch": 16, "seq": 1024}}


@pytest.mark.parametrize(
    ("tree", "there", "words"),
    [
        (TRAINED, False, "hours at least on this machine .*faster: .*train.steps=300"),
        (TRAINED, True, None),
        ({"bench": {"speed": {}}}, True, r"faster: .*bench\.speed\.methods"),
        ({"bench": {"speed": {"batch": 1, "seq": 64}}}, True, None),
        ({"bench": {"energy": {"steps": 100_000}}}, True, r"bench\.energy\.steps=10000"),
        ({"bench": {"grad": {}}}, True, None),
    ],
)
def test_what_takes_hours_says_so_and_what_is_faster(
    tree: dict[str, Any], there: bool, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = {"": Timed([2 * 512**3 / 1e11], None)}  # 100 GFLOP/s
    monkeypatch.setattr(estimate, "interleaved", lambda *_, **__: timed)
    told = slow(to_config(tree), lambda: Source(tree, there=there), CPU)  # type: ignore[arg-type]
    assert told is None if words is None else re.search(words, told or "")
    if told:
        assert "scale=laptop, or " in told


def test_what_takes_little_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "interleaved", None)
    tree = {"bench": {"grad": {"steps": [1, 10]}}}
    source: Any = Source(tree, there=True)
    assert slow(to_config(tree), lambda: source, CPU) is None
