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
from phasebench.report.axes import Study
from phasebench.report.collect import Collection, collect
from phasebench.report.csv_markdown_latex import csv_text
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
        (b'{"schema_version": 3}', "schema_version is 3; this phasebench reads 1"),
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
        lambda f: f["benches"]["ppl"]["gates"][0].update(passed=False),
        "gates[0].passed: True was expected",
    ),
    "another configuration": (
        lambda f: f["config"]["model"].update(dim=8),
        "config_hash is not the hash of config",
    ),
    "text for a number": (
        lambda f: f["benches"]["ppl"]["gates"][0].update(value="0.9"),
        "gates[0].value: '0.9' is not of type",
    ),
    "a list for a number": (lambda f: metric(f, [1]), "max_drift.value: [1] is not of type"),
    "a null without a reason": (
        lambda f: metric(f, None),
        "max_drift.reason: None is not of type 'string'",
    ),
    "an unknown kind": (
        lambda f: f["benches"]["energy"]["metrics"]["max_drift"].update(kind="guessed"),
        "'guessed' is not one of",
    ),
    "a huge number": (lambda f: metric(f, 10**400), "larger than 1e+100"),
    "no gates": (lambda f: f["benches"]["ppl"].pop("gates"), "'gates' is a required property"),
    "benches as a list": (lambda f: f.update(benches=[]), "benches: [] is not of type 'object'"),
    "a bench that is text": (
        lambda f: f["benches"].update(ppl="ok"),
        "benches.ppl: 'ok' is not of type 'object'",
    ),
    "an environment that is none": (
        lambda f: f.update(environment=3),
        "environment: 3 is not of type 'object'",
    ),
    "a GPU that is text": (lambda f: f["environment"].update(gpu="big"), "edited by hand?"),
    "data that is text": (lambda f: f.update(data="x"), "edited by hand?"),
    "a seed that is true": (lambda f: f.update(seed=True), "seed: True is not of type 'integer'"),
    "overrides that are numbers": (
        lambda f: f.update(overrides=[1]),
        "overrides[0]: 1 is not of type 'string'",
    ),
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


def gate(found: dict[str, Any], bench: str, name: str) -> dict[str, Any]:
    (one,) = (one for one in found["benches"][bench]["gates"] if one["name"] == name)
    return one


def worse(found: dict[str, Any]) -> dict[str, Any]:
    """A run whose drift is above its gate's target, as phasebench writes it."""
    value = 1.0
    found["max_drift"] = value
    found["benches"]["energy"]["metrics"]["max_drift"]["value"] = value
    gate(found, "energy", "max_drift").update(value=value, passed=False)
    return made.consistent(found)


KIND_3: dict[str, tuple[Edit, str]] = {
    "a gate set to passed": (
        lambda f: gate(f, "energy", "max_drift").update(passed=True),
        "gate energy max_drift has passed = True, but 1.0 against < 5e-05 is False",
    ),
    "a target in another place": (
        lambda f: gate(f, "energy", "max_drift").update(passed=True, target="-"),
        "has passed = True, but 1.0 against - is None",
    ),
    "a failing gate deleted": (
        lambda f: f["benches"]["energy"]["gates"].remove(gate(f, "energy", "max_drift")),
        "bench energy ended well, but its gate max_drift is missing",
    ),
    "a limit moved": (
        lambda f: gate(f, "energy", "max_drift").update(passed=True, comparison="<", limit=2.0),
        "gate energy max_drift has limit 2.0, but target < 5e-05",
    ),
    "evidence taken away": (
        lambda f: gate(f, "energy", "max_drift").update(
            needs=[{"what": "tokens", "value": 2.0, "least": 100.0}]
        ),
        "has passed = False, but 1.0 against < 5e-05 is None",
    ),
    "all gates deleted": (lambda f: f["benches"]["energy"]["gates"].clear(), "is missing"),
}


@pytest.mark.parametrize("name", KIND_3)
def test_kind_3_verdicts_are_made_anew_not_believed(tmp_path: Path, name: str) -> None:
    edit, words = KIND_3[name]
    found = worse(made.content())
    made.write(tmp_path / "as it is", found)
    assert [point.status for point in collect([tmp_path]).points] == ["fail"]
    edit(found)
    made.write(tmp_path / "edited", made.consistent(found))  # all_pass and energy_pass agree again
    assert words in reason(collect([tmp_path]))


def test_kind_3_a_deleted_gate_that_all_pass_remembers(tmp_path: Path) -> None:
    found = worse(made.content(benches=["energy"]))
    found["benches"]["energy"]["gates"].remove(gate(found, "energy", "max_drift"))
    found["energy_pass"] = True
    made.write(tmp_path, found)
    assert "is missing" in reason(collect([tmp_path]))
    found["benches"]["energy"]["gates"].append(
        gate(made.content(), "energy", "max_drift") | {"value": 1.0, "target": "< 2"}
    )
    made.write(tmp_path, found)
    assert "all_pass is False, but the gates say True" in reason(collect([tmp_path]))


def test_kind_9_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe named results.json, or sweep.json, would be waited for without end."""
    for name in ("results.json", "sweep.json"):
        os.mkfifo(tmp_path / name)
    reasons = [broken.reason for broken in collect([tmp_path]).broken]
    assert reasons == ["cannot be read: not a regular file"] * 2
    assert "not a regular file" in reason(collect([tmp_path / "results.json"]))


def test_infinity_is_no_value(tmp_path: Path) -> None:
    text = json.dumps(made.content(metrics={"energy.mean_exchange": 123456.5}))
    (tmp_path / "results.json").write_text(text.replace("123456.5", "1e999"), encoding="utf-8")
    assert "mean_exchange is larger than 1e+100" in reason(collect([tmp_path]))


def test_kind_9_what_is_no_file_or_too_large_is_listed(
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
    content = table(Study(collected.points), everything=True)
    assert csv_text(content)
    assert "</html>" in html_text("x", collected, {"x": content}, [])


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
    running["null_reasons"]["all_pass"] = "the run has not ended"
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
    words = "not as phasebench writes it (edited by hand?)"
    assert words in reason(found) or "not a sweep.json of phasebench" in reason(found)
    assert [point.name for point in found.points] == ["0"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_listed(tmp_path: Path) -> None:
    made.write(tmp_path, made.content()).chmod(0)
    assert "cannot be read" in reason(collect([tmp_path]))
