from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from phasebench.config import to_config
from phasebench.results.conditions import CONDITIONS, check

# the defaults are the specification's, but for its ten steps: the flow takes two larger ones
SPEC = {"bench": {"ppl": {}, "energy": {}, "vram": {}}, "model": {"ode": {"steps": 10}}}


WIKITEXT = {"name": "wikitext2", "vocab_size": 50257}


def by_name(tree: dict[str, Any], *args: Any) -> dict[str, dict[str, Any]]:
    return {c.name: dataclasses.asdict(c) for c in check(to_config(tree), *args)}


def test_the_defaults_meet_every_condition_of_the_specification() -> None:
    found = check(to_config(SPEC), WIKITEXT)
    assert len(found) == sum(map(len, CONDITIONS.values())) == 15
    assert [c for c in found if not c.met] == []
    assert all(condition.used == condition.seed for condition in found)


@pytest.mark.parametrize(
    ("bench", "own"),
    [
        (
            "ppl",
            {
                "data.name",
                "model.ode.steps",
                "bench.ppl.batch",
                "bench.ppl.seq",
                "bench.ppl.precision",
            },
        ),
        (
            "energy",
            {
                "data.name",
                "bench.energy.batch",
                "bench.energy.seq",
                "bench.energy.dt",
                "bench.energy.steps",
            },
        ),
        ("vram", {"bench.vram.vocab", "bench.vram.batch", "bench.vram.seq"}),
    ],
)
def test_only_the_benches_asked_for_have_conditions(bench: str, own: set[str]) -> None:
    shared = {"model.dim", "model.blocks"} | ({"data.vocab_size"} if bench != "vram" else set())
    assert set(by_name({"bench": {bench: {}}})) == own | shared


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.dim", 64),
        ("model.blocks", 2),
        ("model.ode.steps", 5),
        ("bench.ppl.batch", 8),
        ("bench.ppl.seq", 64),
        ("bench.ppl.precision", "bf16"),
        ("bench.energy.batch", 1),
        ("bench.energy.seq", 64),
        ("bench.energy.dt", 0.2),
        ("bench.energy.steps", 50),
        ("bench.vram.batch", 1),
        ("bench.vram.seq", 1024),
    ],
)
def test_each_value_that_differs_is_reported_alone(name: str, value: Any) -> None:
    tree: dict[str, Any] = copy.deepcopy(SPEC)
    *groups, key = name.split(".")
    inner = tree
    for group in groups:
        inner = inner.setdefault(group, {})
    inner[key] = value
    unmet = [c for c in check(to_config(tree), WIKITEXT) if not c.met]
    assert [(c.name, c.used) for c in unmet] == [(name, value)]


def test_the_text_in_use_counts_not_the_one_asked_for() -> None:
    asked = SPEC | {"data": {"name": "wikitext2"}}
    for key, used in (("name", "synthetic"), ("vocab_size", 777)):
        assert by_name(asked, WIKITEXT | {key: used})[f"data.{key}"] == {
            "name": f"data.{key}",
            "seed": WIKITEXT[key],
            "used": used,
            "met": False,
        }
    assert by_name(asked)["data.name"]["used"] is None


def test_a_model_without_a_flow_uses_no_steps() -> None:
    found = by_name(SPEC | {"model": {"name": "stage1"}})["model.ode.steps"]
    assert (found["used"], found["met"]) == (None, False)


def test_every_condition_names_a_key_of_the_configuration() -> None:
    tree = dataclasses.asdict(to_config(SPEC))
    for name, wanted in {k: v for part in CONDITIONS.values() for k, v in part.items()}.items():
        found: Any = tree
        for part in name.split("."):
            found = found[part]
        assert type(found) is type(wanted)
