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
]


@pytest.mark.parametrize(("tree", "key"), CASES)
def test_kind_9_what_cannot_be_is_refused_with_its_estimate(tree: dict[str, Any], key: str) -> None:
    tree = {"bench": {"ppl": {}}} | tree
    with pytest.raises(ConfigError, match=rf"{key}=(.|\n)* fix: .*force=true") as refused:
        check(to_config(tree), CPU)
    assert "GB" in refused.value.problem or "months" in refused.value.problem
    check(to_config(tree | {"force": True}), CPU)


def test_kind_9_what_users_run_is_let_through() -> None:
    benches = {"ppl": {}, "energy": {"steps": 10000}, "budget": {}}
    check(to_config({"bench": benches, "train": {"epochs": 100.0, "batch": 64}}), CPU)
