"""Mutated files: an exit code and a message, never a traceback, nor a pass that was not measured.

PHASEBENCH_FUZZ=500 tries as many cases of each kind; docs/reliability.md has the last count.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import made
from phasebench.config import ConfigError, DataConfig, ModelConfig, SyntheticConfig, TrainConfig
from phasebench.data import load_corpus
from phasebench.data.wikitext import wikitext_rows
from phasebench.report.__main__ import main as report
from phasebench.report.collect import collect
from phasebench.report.compare.__main__ import main as compare
from phasebench.run.sweep.point import Point
from phasebench.run.sweep.state import state
from phasebench.training.loop import partial_path
from phasebench.training.weights import WeightSource

pytestmark = pytest.mark.timeout(0)
CASES = int(os.environ.get("PHASEBENCH_FUZZ", "4"))
HOSTILE = [None, True, False, "", "x", "1", "=1+1", "\ud800", "\0", "a" * 5000, -1, 0, 1, 1e-300]
HOSTILE += [1e300, 10**400, float("nan"), float("inf"), [], [[]], {}, {"a": 1}, "../../x", "pass"]

fuzz = settings(
    deadline=None,
    max_examples=CASES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
draws = given(st.integers(0, 2**32).map(Random))


def damaged(raw: bytes, draw: Random, end: int | None = None) -> bytes:
    """Flip, cut out, repeat or overwrite a part of the bytes, of which the first `end` may be."""
    at = draw.randrange(end or len(raw))
    size = draw.choice([1, 1, 4, 100, len(raw)])
    part = raw[at : at + size]
    new = {
        "flip": bytes([part[0] ^ 1 << draw.randrange(8)]) + part[1:],
        "cut": b"",
        "repeat": part * 2,
        "zero": bytes(len(part)),
        "noise": draw.randbytes(len(part)),
        "digit": str(draw.choice([-1, 0, 9**9, 9**99])).encode(),
    }
    return raw[:at] + new[draw.choice([*new])] + raw[at + size :]


def edited(tree: Any, draw: Random) -> Any:
    """Replace, delete or add a value somewhere in the tree; often one that decides a verdict."""
    tree = copy.deepcopy(tree)
    place = tree
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw.choice([k for k in keys if k in ("benches", "gates", "points")] or keys)
        inner = place[key]
        if isinstance(inner, dict | list) and inner and draw.random() < 0.85:
            place = inner
            continue
        how = draw.random()
        if how < 0.2:
            del place[key]
        elif how < 0.3 and isinstance(place, dict):
            place[str(draw.choice(HOSTILE))] = inner
        else:
            place[key] = draw.choice([*HOSTILE, place])  # a value that holds itself twice
            place[key] = copy.deepcopy(place[key]) if place[key] is not place else 7
        return tree


def failing() -> dict[str, Any]:
    """A run whose drift is above its gate's target, as phasebench writes it."""
    return made.content(metrics={"energy.max_drift": 1.0})


@fuzz
@draws
def test_no_results_json_is_a_traceback_or_a_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], draw: Random
) -> None:
    for name in ("bytes", "values"):
        (tmp_path / name).mkdir(exist_ok=True)
    tree = failing()
    raw = damaged(json.dumps(tree, indent=1).encode(), draw)
    (tmp_path / "bytes" / "results.json").write_bytes(raw)
    for _ in range(draw.choice([1, 1, 3])):
        tree = edited(tree, draw) or {"all": "gone"}
    (tmp_path / "values" / "results.json").write_text(json.dumps(tree), encoding="utf-8")
    for name in ("bytes", "values"):
        folder = str(tmp_path / name)
        assert report([folder, "--print"]) in (0, 2)
        assert compare([folder, folder]) in (0, 1, 2)
        assert "pass" not in {point.status for point in collect([tmp_path / name]).points}
        point = Point({"bench": {"energy": {}}}, ())
        assert state(tmp_path / name, point).exit_code != 0


@fuzz
@draws
def test_no_sweep_json_is_a_traceback_or_a_pass(tmp_path: Path, draw: Random) -> None:
    made.write(tmp_path / "a", failing())
    entry = {"overrides": ["seed=0"], "swept": [], "reason": None, "exit_code": 0}
    tree = {"points": [{"folder": name, "status": "ok"} | entry for name in "ab"], "others": []}
    raw = json.dumps(edited(tree, draw)).encode()
    (tmp_path / "sweep.json").write_bytes(damaged(raw, draw) if draw.random() < 0.5 else raw)
    shown = [] if draw.random() < 0.05 else ["--print"]  # to write all files takes seconds
    assert report([str(tmp_path), *shown]) in (0, 2)
    assert "pass" not in {point.status for point in collect([tmp_path]).points}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], WeightSource]:
    """Makes sources of one tiny model's weights, with one cache."""
    cache = tmp_path_factory.mktemp("cache")
    data = DataConfig(name="synthetic", synthetic=SyntheticConfig(rows=20))
    recipe = TrainConfig(steps=2, batch=2, seq=8, warmup=1, precision="fp32", validate_tokens=64)
    what = load_corpus(data, cache), recipe, 0, torch.device("cpu"), cache
    return lambda: WeightSource(*what, say=lambda _: None, observers=lambda _: [])


@fuzz
@draws
def test_no_checkpoint_is_a_traceback_or_another_model(
    source: Callable[[], WeightSource], draw: Random
) -> None:
    model = ModelConfig(name="stage1", dim=4, blocks=1, heads=1, hidden=4)
    wanted = source().trained(model, "model")
    path = source().cache / "weights" / wanted.origin["file"]
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")  # of the header
    bad = damaged(raw, draw, draw.choice([8, end, end, len(raw)]))
    given_file = path.with_name("given.safetensors")
    for file in (path, partial_path(path), given_file):
        file.write_bytes(bad)
    found, keys = [source().trained(model, "model")], []  # sets what is damaged aside, and trains
    try:
        given_model = dataclasses.replace(model, checkpoint=str(given_file))
        found.append(source().trained(given_model, "model"))
    except ConfigError as error:
        keys = [error.key]
    assert keys in ([], ["model.checkpoint"])
    for each in found:
        for w, w0 in zip(each.model.parameters(), wanted.model.parameters(), strict=True):
            assert torch.equal(w, w0)


@fuzz
@draws
def test_no_parquet_is_a_traceback(tmp_path: Path, draw: Random) -> None:
    folder = tmp_path / "wikitext-2-v1"
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation", "test"):
        rows = pa.table({"text": [f"{i} a few words of a text" for i in range(40)]})
        pq.write_table(rows, folder / f"{split}-0.parquet")
    file = folder / "test-0.parquet"
    file.write_bytes(damaged(file.read_bytes(), draw))
    kinds: set[object]
    try:
        rows, _ = wikitext_rows(DataConfig(name="wikitext2", path=str(tmp_path)), "wikitext2")
        kinds = {type(row) for split in rows.values() for row in split}
    except ConfigError as error:
        kinds = {error.key}
    assert kinds in ({"data.path"}, {str})
