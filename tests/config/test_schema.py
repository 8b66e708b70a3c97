from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from phasebench.config import BENCH_SCHEMAS, BENCHES, Config, ConfigError
from phasebench.config.validation import keys_at, to_config
from phasebench.run.job import bench_module


def refused(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        to_config({"bench": {"vram": {}}} | tree)
    return str(caught.value)


def test_a_whole_tree_becomes_typed() -> None:
    config = to_config(
        {
            "bench": {"ppl": {"baseline": {"name": "stage1"}}, "vram": {"seq": 7}},
            "model": {"dim": 16},
        }
    )
    assert config.model.dim == 16
    assert config.bench["ppl"].baseline.name == "stage1"
    assert config.bench["vram"].seq == 7


def test_the_round_trip_keeps_everything() -> None:
    config = to_config(
        {"bench": {name: {} for name in BENCHES}, "data": {"name": "text", "path": "x"}}
    )
    assert to_config(dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("tree", "parts"),
    [
        ({"bench": {"vram": {"seq": 0}}}, ["bench.vram.seq=0", "at least 2", "fix"]),
        (
            {"bench": {"vram": {"sqe": 1024}}},
            ["bench.vram.sqe=1024", "unknown key", "loss_chunk", "did you mean 'seq'"],
        ),
        ({"bench": {"vrm": {}}}, ["bench.vrm", "recall, vram", "did you mean 'vram'"]),
        ({"bench": {}}, ["no benchmark to run", "bench=all"]),
        ({"model": {"name": "stage4"}}, ["model.name=stage4", "stage1, stage2", "did you mean"]),
        ({"model": {"dim": "x"}}, ["model.dim=x", "expected int", "got str"]),
        ({"model": {"dim": True}}, ["model.dim=True", "expected int"]),
        ({"model": {"heads": 7}}, ["model.heads=7", "does not divide dim=512"]),
        ({"model": {"ode": {"dt": 0}}}, ["model.ode.dt=0", "above 0"]),
        ({"model": {"ode": {"dt": float("nan")}}}, ["model.ode.dt=nan", "finite"]),
        ({"model": {"dropout": {"block": 1.5}}}, ["model.dropout.block=1.5", "at most 0.95"]),
        ({"model": 3}, ["model=3", "group of keys"]),
        ({"bench": {"ppl": {"stride": 2000}}}, ["bench.ppl.stride=2000", "seq=1024"]),
        (
            {"bench": {"vram": {"arms": ["adjiont"]}}},
            ["bench.vram.arms=adjiont", "did you mean 'adjoint'"],
        ),
        (
            {"bench": {"vram": {"arms": "adjoint"}}},
            ["bench.vram.arms=adjoint", "expected a list", "[adjoint]"],
        ),
        ({"bench": {"vram": {"arms": []}}}, ["bench.vram.arms=[]", "at least one"]),
        ({"train": {"accumulate": 3}}, ["train.accumulate=3", "batch=16"]),
        (
            {"bench": {"ppl": {"baseline": {"heads": 3}}}},
            ["bench.ppl.baseline.heads=3", "does not divide"],
        ),
        ({"seed": 10**26}, ["seed=", "at most"]),
        (
            {"data": {"synthetic": {"seed": 2**32}}},
            ["data.synthetic.seed=4294967296", "at most 4294967295"],
        ),
        ({"device": "tpu"}, ["device=tpu", "auto, cpu, cuda"]),
    ],
)
def test_bad_values_name_key_value_choices_and_fix(tree: dict[str, Any], parts: list[str]) -> None:
    message = refused(tree)
    assert [part for part in parts if part not in message] == []


def test_keys_of_groups() -> None:
    assert list(keys_at("") or {}) == [f.name for f in dataclasses.fields(Config)]
    assert "dt" in (keys_at("model.ode") or [])
    assert "heads" in (keys_at("bench.ppl.baseline") or [])
    assert list(keys_at("bench") or {}) == list(BENCHES)
    assert keys_at("model.nothing") is None
    assert keys_at("bench.vrm") is None


def test_the_tables_of_benchmarks_agree() -> None:
    assert set(BENCHES) == set(BENCH_SCHEMAS)
    assert all(hasattr(bench_module(name), "run") for name in BENCHES)
