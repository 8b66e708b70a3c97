from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import made
from phasebench.report.axes import swept
from phasebench.report.collect import Collection, collect
from phasebench.report.export import csv_text
from phasebench.report.page import html_text
from phasebench.report.read import Broken, read
from phasebench.report.table import table


def reason(found: Collection) -> str:
    (broken,) = found.broken
    assert str(broken.path) in str(broken)
    return broken.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not valid JSON"),
        (b"{" * 100_000, "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"schema_version": NaN}', "NaN is not JSON"),
        (b'{"a": 1}', "no schema_version"),
        (b"[1, 2]", "no schema_version"),
        (b'{"schema_version": 2}', "schema_version is 2; this phasebench reads 1"),
        (b'{"schema_version": 1}', "missing status"),
    ],
)
def test_foreign_files_are_listed(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "results.json").write_bytes(content)
    found = collect([tmp_path])
    assert words in reason(found)
    assert found.points == []


def test_every_truncation_is_broken(tmp_path: Path) -> None:
    text = json.dumps(made.content())
    for length in range(0, len(text) - 1, len(text) // 40):
        (tmp_path / "results.json").write_text(text[:length], encoding="utf-8")
        assert "not valid JSON" in reason(collect([tmp_path]))


Edit = Callable[[dict[str, Any]], object]


def metric(found: dict[str, Any], value: Any) -> None:
    found["benches"]["energy"]["metrics"]["max_drift"]["value"] = value


EDITS: dict[str, tuple[Edit, str]] = {
    "a better metric": (lambda f: metric(f, 1e-9), "max_drift is 8.99"),
    "a better top-level value": (lambda f: f.update(ppl_ratio=0.5), "ppl_ratio is 0.5"),
    "a better gate": (
        lambda f: f["benches"]["ppl"]["gates"][0].update(value=0.5),
        "gate ppl ppl_ratio judges 0.5",
    ),
    "a gate that passes": (
        lambda f: (f.update(all_pass=True), f["benches"]["ppl"]["gates"][0].update(passed=False)),
        "all_pass is True, but the gates say False",
    ),
    "another configuration": (
        lambda f: f["config"]["model"].update(dim=8),
        "config_hash is not the hash of config",
    ),
    "text for a number": (
        lambda f: f["benches"]["ppl"]["gates"][0].update(value="0.9"),
        "gates[0].value is '0.9'",
    ),
    "a list for a number": (lambda f: metric(f, [1]), "max_drift.value is '[1]'"),
    "a null without a reason": (lambda f: metric(f, None), "needs a reason"),
    "an unknown kind": (
        lambda f: f["benches"]["energy"]["metrics"]["max_drift"].update(kind="guessed"),
        "kind 'guessed'",
    ),
    "a huge number": (lambda f: metric(f, 10**400), "larger than 1e+100"),
    "no gates": (lambda f: f["benches"]["ppl"].pop("gates"), "no 'gates'"),
    "benches as a list": (lambda f: f.update(benches=[]), "benches is '[]'"),
    "a bench that is text": (lambda f: f["benches"].update(ppl="ok"), "benches.ppl is 'ok'"),
    "an environment that is none": (lambda f: f.update(environment=3), "environment is '3'"),
    "a GPU that is text": (lambda f: f["environment"].update(gpu="big"), "edited by hand?"),
    "data that is text": (lambda f: f.update(data="x"), "edited by hand?"),
    "a seed that is true": (lambda f: f.update(seed=True), "seed is 'True'"),
    "overrides that are numbers": (lambda f: f.update(overrides=[1]), "overrides[0] is '1'"),
    "steps of 0": (
        lambda f: (f["config"]["bench"]["energy"].update(steps=0), made.consistent(f)),
        "edited by hand?",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_by_hand_are_noticed(tmp_path: Path, name: str) -> None:
    edit, words = EDITS[name]
    found = made.content()
    edit(found)
    made.write(tmp_path, found)
    assert words in reason(collect([tmp_path]))


def test_infinity_is_no_value(tmp_path: Path) -> None:
    text = json.dumps(made.content(metrics={"energy.mean_exchange": 123456.5}))
    (tmp_path / "results.json").write_text(text.replace("123456.5", "1e999"), encoding="utf-8")
    assert "mean_exchange.value is larger than 1e+100" in reason(collect([tmp_path]))


def test_what_is_no_file_or_too_large_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Broken, match="cannot be read"):
        read(tmp_path)
    path = made.write(tmp_path, made.content())
    monkeypatch.setattr("phasebench.report.read.LARGEST", 100)
    with pytest.raises(Broken, match="larger than"):
        read(path)


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
anything = st.recursive(
    leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3)
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_replaced_part_crashes(tmp_path: Path, data: st.DataObject) -> None:
    found = made.content()
    place: Any = found
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            place[key] = data.draw(anything)
            break
        place = inner
    made.write(tmp_path, found)
    collected = collect([tmp_path])
    assert len(collected.points) + len(collected.broken) == 1
    content = table(collected.points, swept(collected.points), everything=True)
    assert csv_text(content)
    assert "</html>" in html_text("x", collected, content, [])


def test_points_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "b", "²"):
        made.write(tmp_path / name, made.content({"model.ode.dt": float(len(name) + ord(name[0]))}))
    assert [point.name for point in collect([tmp_path]).points] == ["9", "10", "b", "²"]


def test_a_file_counts_once(tmp_path: Path) -> None:
    path = made.write(tmp_path / "a", made.content())
    made.write(tmp_path / "b", json.loads(path.read_text(encoding="utf-8")))
    found = collect([tmp_path, tmp_path / "a", path])
    assert [point.name for point in found.points] == ["a"]
    assert "is a copy of" in found.notes[0]


def test_only_the_results_asked_for(tmp_path: Path) -> None:
    paths = [made.write(tmp_path / str(i), made.content(seed=i)) for i in range(3)]
    assert [point.name for point in collect([tmp_path], paths[1:]).points] == ["1", "2"]


def test_verdict_and_reason(tmp_path: Path) -> None:
    made.write(tmp_path / "0", made.content())
    made.write(tmp_path / "1", made.content(passed={"energy.max_drift": False}))
    made.write(tmp_path / "2", made.content(passed={"energy.max_drift": None}))
    running = made.content()
    running |= {"status": "running", "all_pass": None}
    made.write(tmp_path / "3", running)
    points = collect([tmp_path]).points
    assert [point.status for point in points] == ["pass", "fail", "not measured", "not ended"]
    assert points[2].reason == "energy max_drift: it was left out"


def sweep_json(folder: Path, *points: dict[str, Any]) -> None:
    (folder / "sweep.json").write_text(json.dumps({"points": points}), encoding="utf-8")


def test_a_sweep_lists_the_points_that_have_nothing(tmp_path: Path) -> None:
    made.write(tmp_path / "0", made.content())
    made.write(tmp_path / "1", made.content({"model.ode.dt": 0.2}))
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "results.json").write_text("{", encoding="utf-8")
    made.write(tmp_path / "9", made.content({"model.ode.dt": 0.9}))
    made.write(
        tmp_path / "5", made.content({"model.ode.dt": 0.5}, passed={"energy.max_drift": None})
    )
    sweep_json(
        tmp_path,
        {
            "folder": "0",
            "overrides": ["model.ode.dt=0.1"],
            "status": "ok",
            "reason": None,
            "exit_code": 0,
        },
        {
            "folder": "2",
            "overrides": ["model.ode.dt=0.3"],
            "status": "killed",
            "reason": None,
            "exit_code": -9,
        },
        {
            "folder": "1",
            "overrides": ["model.ode.dt=0.2"],
            "status": "not comparable",
            "reason": "ran beside 2",
        },
        {"folder": "3", "overrides": ["model.ode.dt=0.4"], "status": "ok", "exit_code": 0},
        {"folder": "4", "overrides": ["model.ode.dt=0.5"], "status": "ok", "exit_code": 0},
        {
            "folder": "5",
            "overrides": ["model.ode.dt=0.6"],
            "status": "failed",
            "reason": "it fell over",
        },
    )
    found = collect([tmp_path])
    rows = [(point.name, point.status, point.reason) for point in found.points]
    assert rows[:4] == [
        ("0", "pass", None),
        ("2", "killed", "exit code -9"),
        ("1", "not comparable", "ran beside 2"),
        ("3", "missing", "sweep.json says ok, but there is no results.json"),
    ]
    assert rows[4][:2] == ("4", "broken")
    assert rows[5] == ("5", "failed", "it fell over; energy max_drift: it was left out")
    assert rows[6] == ("9", "pass", None)  # not of the sweep, but there
    assert len(found.broken) == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"points": 3}',
        '{"points": [1]}',
        '{"points": [{"folder": "0"}]}',
        '{"points": ["x"]}',
        '{"points": [{"folder": "a\\u0000", "status": "ok"}]}',
        '{"points": [{"folder": "0", "status": "ok", "overrides": 3}]}',
        '{"points": [{"folder": 3, "status": "ok"}]}',
        "[" * 100_000,
    ],
)
def test_a_broken_sweep_json_is_listed_and_the_runs_stay(tmp_path: Path, content: str) -> None:
    made.write(tmp_path / "0", made.content())
    (tmp_path / "sweep.json").write_text(content, encoding="utf-8")
    found = collect([tmp_path])
    assert "not a sweep.json of phasebench" in reason(found)
    assert [point.name for point in found.points] == ["0"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_listed(tmp_path: Path) -> None:
    made.write(tmp_path, made.content()).chmod(0)
    assert "cannot be read" in reason(collect([tmp_path]))
