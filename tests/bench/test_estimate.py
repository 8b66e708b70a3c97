"""Work is estimated before it starts: what cannot fit, or would take months, is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from phasebench.bench.estimate import check
from phasebench.config import ConfigError, to_config

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
