from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasebench.config import ConfigError
from phasebench.results import file as results
from phasebench.results.file import ResultsFile
from phasebench.results.gate import BenchResult, Gate, Metric, Need
from phasebench.results.jsonfile import dumps, plain, write_atomic

BENCHES = ["ppl", "energy", "vram"]
PASSED = Gate("ppl_ratio", True, 0.98, "<= 1.02")
FAILED = Gate("max_drift", False, 1e-3, "< 5e-5")
OPEN = Gate("vram_reduction_pct", None, None, ">= 70 %", "out of memory")
SCHEMA = jsonschema.Draft202012Validator(results.schema())


def make(folder: Path, benches: list[str] = BENCHES, **changes: Any) -> ResultsFile:
    asked = {name: {} for name in benches}
    arguments: dict[str, Any] = {
        "device": "cpu",
        "config": {"benchmark_name": "phasebench", "seed": 0, "bench": asked},
        "overrides": ["seed=0"],
        "environment": {"python": "3.11"},
    }
    return ResultsFile(folder / "run" / "results.json", **(arguments | changes))


def stored(file: ResultsFile) -> dict[str, Any]:
    found = results.load(file.path)
    SCHEMA.validate(found)
    return found


def outcome(*gates: Gate) -> BenchResult:
    return BenchResult(gates=list(gates))


def test_the_file_is_valid_after_each_event(tmp_path: Path) -> None:
    file = make(tmp_path)
    assert stored(file)["status"] == "running"
    file.start("ppl")
    assert stored(file)["benches"]["ppl"]["status"] == "running"
    metrics = {
        "stage2_ppl": Metric(98.0, "perplexity"),
        "stage1_ppl": Metric(None, "perplexity", reason="skipped"),
    }
    file.finish(
        "ppl",
        BenchResult(metrics, [PASSED], {"samples": [1, 2]}, ["notice"]),
        1.5,
    )
    found = stored(file)
    assert found["stage2_ppl"] == 98.0
    assert found["ppl_pass"] is True
    assert found["null_reasons"]["stage1_ppl"] == "skipped"
    assert found["null_reasons"]["mean_energy"] == "bench energy has not run"
    assert found["null_reasons"]["all_pass"] == "the run has not ended"
    file.fail("energy", RuntimeError("boom"), 2.0, "Traceback ...")
    found = stored(file)
    assert found["benches"]["energy"]["error"] == {
        "type": "RuntimeError",
        "message": "boom",
        "traceback": "Traceback ...",
    }
    assert found["null_reasons"]["max_drift"] == "bench energy failed: RuntimeError: boom"
    assert file.close() == stored(file)
    assert stored(file)["status"] == "failed"


def test_a_run_whose_gates_all_pass(tmp_path: Path) -> None:
    file = make(tmp_path, ["ppl"])
    file.finish("ppl", outcome(PASSED), 1.0)
    found = file.close()
    assert (found["status"], found["all_pass"], file.exit_code) == ("ok", True, 0)
    assert found["null_reasons"]["vram_pass"] == "bench vram was not asked for"
    assert stored(file) == found
    assert [p.name for p in file.path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("gates", "code", "ppl_pass"),
    [
        ([PASSED], 0, True),
        ([PASSED, FAILED], 1, False),
        ([PASSED, OPEN], 2, None),
        ([FAILED, OPEN], 2, False),
        ([], 2, None),
        ([Gate("x", True, 0.5, "< 1", kind="predicted")], 0, True),
        ([Gate.check("x", Metric(math.nan, "1"), "<", 1)], 2, None),
        ([Gate.check("x", Metric(math.inf, "1"), "<", 1)], 2, None),
    ],
)
def test_exit_code_and_verdict(
    tmp_path: Path, gates: list[Gate], code: int, ppl_pass: bool | None
) -> None:
    file = make(tmp_path, ["ppl"])
    file.finish("ppl", outcome(*gates), 1.0)
    found = file.close()
    assert (file.exit_code, found["ppl_pass"], found["all_pass"]) == (code, ppl_pass, code == 0)
    assert results.exit_code(stored(file)) == code


@pytest.mark.parametrize("state", ["pending", "running", "failed"])
def test_a_bench_that_did_not_end_well_is_not_passed(tmp_path: Path, state: str) -> None:
    file = make(tmp_path, ["ppl", "energy"])
    file.finish("ppl", outcome(FAILED), 1.0)
    if state == "running":
        file.start("energy")
    if state == "failed":
        file.fail("energy", ValueError("x"), 0.1)
    assert file.close()["all_pass"] is False
    assert file.exit_code == 2
    assert stored(file)["status"] == "failed"
    assert (stored(file)["benches"]["energy"]["error"] is None) == (state == "pending")


def test_a_bench_without_a_verdict_needs_no_gate(tmp_path: Path) -> None:
    file = make(tmp_path, ["ppl", "speed"])
    file.finish("ppl", outcome(PASSED), 1.0)
    file.finish("speed", outcome(), 1.0)
    assert file.close()["all_pass"] is True


def test_kind_1_a_run_without_any_gate_is_not_passed(tmp_path: Path) -> None:
    file = make(tmp_path, ["speed"])
    file.finish("speed", outcome(), 1.0)
    assert file.close()["all_pass"] is False
    assert file.exit_code == 2


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([PASSED, FAILED, OPEN]), max_size=4),
    st.lists(st.booleans(), min_size=2, max_size=2),
)
def test_all_pass_needs_every_gate(
    tmp_path_factory: pytest.TempPathFactory, gates: list[Gate], ran: list[bool]
) -> None:
    file = make(tmp_path_factory.mktemp("run"), ["ppl", "vram"])
    for name, runs in zip(("ppl", "vram"), ran, strict=True):
        if runs:
            file.finish(name, outcome(*gates), 1.0)
    assert file.close()["all_pass"] is (
        all(ran) and bool(gates) and all(gate is PASSED for gate in gates)
    )
    stored(file)


def test_values_that_are_not_finite_become_null_with_a_reason(tmp_path: Path) -> None:
    config = {"benchmark_name": "x", "seed": 0, "bench": {"energy": {}}, "x": math.inf}
    file = make(tmp_path, config=config, environment={"t": [1.0, math.nan]})
    metrics = {"max_drift": Metric(math.inf, "1"), "mean_drift": Metric(math.nan, "1")}
    details = {"raw": [{"drift": [0.0, math.nan]}, -math.inf]}
    file.finish(
        "energy",
        BenchResult(metrics, [OPEN], details),
        1.0,
    )
    found = stored(file)
    assert found["benches"]["energy"]["metrics"]["max_drift"]["reason"] == "not finite: inf"
    assert found["benches"]["energy"]["details"] == {"raw": [{"drift": [0.0, None]}, None]}
    assert found["benches"]["energy"]["notices"] == [
        "2 values of the details are null, the first at details.raw[0].drift[1]: not finite: nan"
    ]
    reasons = found["null_reasons"]
    assert (reasons["max_drift"], reasons["mean_drift"]) == ("not finite: inf", "not finite: nan")
    assert (reasons["config.x"], reasons["environment.t[1]"]) == (
        "not finite: inf",
        "not finite: nan",
    )


def test_numpy_torch_and_paths_become_plain() -> None:
    value = {
        "a": np.float32(0.5),
        "b": torch.tensor(3),
        "c": np.arange(2),
        "d": Path("x/y"),
        "e": np.bool_(True),
        "f": torch.tensor([0.5, math.nan]),
        "g": (1, 2),
        4: Metric(1, "GB"),
    }
    lost: dict[str, str] = {}
    found = plain(value, "", lost)
    assert found == {
        "a": 0.5,
        "b": 3,
        "c": [0, 1],
        "d": str(Path("x/y")),
        "e": True,
        "f": [0.5, None],
        "g": [1, 2],
        "4": {"value": 1, "unit": "GB", "kind": "measured", "reason": None, "bound": None},
    }
    assert type(found["e"]) is bool
    assert lost == {"f[1]": "not finite: nan"}


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, 1j, np.longdouble(1.0), {"1": 0, 1: 0}, torch.tensor(1j)]
)
def test_what_json_cannot_hold_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(TypeError, match=r"details\.x\[0\]"):
        plain({"x": [value]}, "details", {})


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
trees = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@settings(max_examples=50, deadline=None)
@given(trees)
def test_json_round_trip_never_nan(tree: Any) -> None:
    found = plain(tree, "", {})
    text = dumps(found)
    assert json.loads(text, parse_constant=pytest.fail) == found
    text.encode("utf-8")


@settings(max_examples=50, deadline=None)
@given(trees)
def test_finite_values_are_kept_exactly(tree: Any) -> None:
    lost: dict[str, str] = {}
    found = plain(tree, "", lost)
    assert bool(lost) == ("nan" in repr_numbers(tree) or "inf" in repr_numbers(tree))
    assert lost or found == tree


def repr_numbers(tree: Any) -> set[str]:
    if isinstance(tree, float):
        return {str(abs(tree))}
    items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return set().union(*map(repr_numbers, items))


def test_a_value_that_cannot_be_written_leaves_the_file_whole(tmp_path: Path) -> None:
    file = make(tmp_path)
    before = file.path.read_bytes()
    with pytest.raises(TypeError, match=r"details\.bad"):
        file.finish("ppl", BenchResult(gates=[PASSED], details={"bad": object()}), 1.0)
    assert file.path.read_bytes() == before
    assert file.as_dict()["benches"]["ppl"]["status"] == "pending"
    file.fail("ppl", TypeError("bad"), 1.0)
    assert stored(file)["benches"]["ppl"]["status"] == "failed"


@pytest.mark.parametrize("breaks", ["phasebench.results.file.dumps", "os.fsync", "os.replace"])
def test_a_crash_in_writing_leaves_the_former_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    file = make(tmp_path)
    before = file.path.read_bytes()

    def crash(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(breaks, crash)
    with pytest.raises(OSError, match="disk full"):
        file.finish("ppl", outcome(PASSED), 1.0)
    assert file.path.read_bytes() == before
    assert [p.name for p in file.path.parent.iterdir()] == ["results.json"]


def test_kind_14_a_written_file_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", "{}")
    (tmp_path / "b").touch()
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_bench_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    file = make(tmp_path)
    with pytest.raises(ValueError, match="bench speed was not asked for"):
        file.start("speed")


def test_the_copy_is_the_file(tmp_path: Path) -> None:
    file = make(tmp_path, ["ppl"], copy_to=tmp_path / "new" / "copy.json")
    copy = tmp_path / "new" / "copy.json"
    assert copy.read_bytes() == file.path.read_bytes()
    file.finish("ppl", outcome(PASSED), 1.0)
    file.close()
    assert copy.read_bytes() == file.path.read_bytes()


def test_a_folder_as_copy_means_the_results_in_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert (
        make(tmp_path, copy_to=tmp_path / "folder").copy_path
        == (tmp_path / "folder" / "results.json").resolve()
    )
    assert (
        make(tmp_path, copy_to=f"{tmp_path}/other/").copy_path
        == (tmp_path / "other" / "results.json").resolve()
    )


@pytest.mark.parametrize("event", ["none", "start", "config error", "close"])
def test_an_existing_copy_outlives_what_measures_nothing(tmp_path: Path, event: str) -> None:
    copy = tmp_path / "copy.json"
    copy.write_text(precious := '{\n  "schema_version": 2, "of": "last week"}')
    file = make(tmp_path, copy_to=copy)
    if event != "none":
        file.start("ppl")
    if event in ("config error", "close"):
        file.fail("ppl", ConfigError("model.checkpoint", "x", "truncated"), 0.1)
    if event == "close":
        file.close()
    assert copy.read_text() == precious


@pytest.mark.parametrize("event", ["finish", "fail"])
def test_an_existing_copy_is_replaced_by_a_measurement(tmp_path: Path, event: str) -> None:
    copy = tmp_path / "copy.json"
    copy.write_text('{\n  "schema_version": 1}')
    file = make(tmp_path, copy_to=copy)
    if event == "finish":
        file.finish("ppl", outcome(PASSED), 1.0)
    else:
        file.fail("ppl", FloatingPointError("NaN"), 1.0)
    assert copy.read_bytes() == file.path.read_bytes()


def test_an_unwritable_place_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        make(tmp_path, copy_to=tmp_path / "file" / "below.json")
    assert caught.value.key == "output"
    assert not (tmp_path / "run" / "results.json").exists()
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "file")
    assert caught.value.key == "hydra.run.dir"


@pytest.mark.parametrize("name", ["a" * 300, "nul\0l"])
def test_an_impossible_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        make(tmp_path, copy_to=tmp_path / name)


def test_kind_7_a_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    for place in (tmp_path / "link", Path("/dev/null"), Path("/dev/stdout"), Path("/dev/fd/1")):
        with pytest.raises(ConfigError, match=r"exists and is no results\.json"):
            make(tmp_path, copy_to=place)
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("content", ["notes", "{}", '{"last": "week"}'])
def test_kind_7_a_file_of_another_program_is_never_replaced(tmp_path: Path, content: str) -> None:
    (other := tmp_path / "results.json").write_text(content)
    for copy_to in (other, tmp_path):
        with pytest.raises(ConfigError, match=r"^output=(.|\n)*choose another file"):
            make(tmp_path / "there", copy_to=copy_to)
    assert other.read_text() == content
    other.rename((tmp_path / "run").mkdir() or tmp_path / "run" / "results.json")
    with pytest.raises(ConfigError, match=r"^hydra\.run\.dir="):
        make(tmp_path)
    other.write_text("")  # as mktemp makes one
    make(tmp_path / "there", copy_to=other)


def test_kind_14_the_first_write_in_a_folder_removes_what_killed_processes_left(
    tmp_path: Path,
) -> None:
    code = "import os, platform; print(f'.phasebench-{platform.node()}-{os.getpid()}-0.tmp')"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    dead = tmp_path / name.strip()
    alive = tmp_path / dead.name.replace(dead.name.split("-")[-2], str(os.getpid()))
    for file in (dead, alive):
        file.touch()
    write_atomic(tmp_path / "file", "x")
    assert sorted(tmp_path.iterdir()) == sorted([alive, tmp_path / "file"])


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target.json").touch()
    (tmp_path / "link.json").symlink_to("target.json")
    make(tmp_path, copy_to=tmp_path / "link.json").finish("ppl", outcome(PASSED), 1.0)
    assert (tmp_path / "link.json").is_symlink()
    assert results.load(tmp_path / "target.json")["ppl_pass"] is True


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "not valid JSON"),
        (b'{"schema_version": 1, ', "not valid JSON"),
        (b'{"schema_version": 1, "x": NaN}', "NaN is not JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1, 2]", "no schema_version"),
        (b'{"ppl": 3}', "no schema_version"),
        (b'{"schema_version": 99}', "schema_version is 99; this phasebench reads 1 and 2"),
        (b'{"schema_version": 1}', "missing status, benchmark_name"),
    ],
)
def test_load_refuses_what_is_not_a_results_file(tmp_path: Path, text: bytes, match: str) -> None:
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(ValueError, match=match) as caught:
        results.load(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_the_hash_is_that_of_the_values_not_of_their_order() -> None:
    assert results.config_hash({"a": 1, "b": {"c": 2.0}}) == results.config_hash(
        {"b": {"c": 2.0}, "a": 1}
    )
    assert results.config_hash({"a": 1}) != results.config_hash({"a": 2})


def test_null_values_need_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Metric(None, "GB")
    with pytest.raises(ValueError, match="needs a reason"):
        Gate("x", None, None, "< 1")
    with pytest.raises(ValueError, match="not finite"):
        Gate("x", True, math.nan, "< 2")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d.update(extra=1),
        lambda d: d.pop("overrides"),
        lambda d: d["null_reasons"].pop("max_drift"),
        lambda d: d.update(all_pass=True),
        lambda d: d.update(status="running"),
        lambda d: d["benches"]["ppl"].update(extra=1),
        lambda d: d["benches"]["ppl"].update(status="failed"),
        lambda d: d["benches"]["ppl"]["gates"][1].update(reason=None),
        lambda d: d["benches"]["ppl"]["gates"][0].update(kind="guessed"),
        lambda d: d["benches"]["ppl"]["metrics"]["m"].update(value=None),
        lambda d: d["benches"]["ppl"]["metrics"]["m"].update(extra=1),
        lambda d: d.update(timestamp="yesterday"),
    ],
)
def test_the_schema_is_strict(tmp_path: Path, break_it: Any) -> None:
    file = make(tmp_path, ["ppl"])
    file.finish("ppl", BenchResult({"m": Metric(1.0, "GB")}, [PASSED, OPEN]), 1.0)
    found = file.close()
    SCHEMA.validate(found)
    break_it(found)
    assert not SCHEMA.is_valid(found)


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(results.schema())


def test_conditions_can_be_told_later(tmp_path: Path) -> None:
    file = make(tmp_path)
    assert stored(file)["conditions"] == []
    file.set_data(
        None, [{"name": "data.name", "seed": "wikitext2", "used": "synthetic", "met": False}]
    )
    assert stored(file)["conditions"][0]["used"] == "synthetic"


# gates


@pytest.mark.parametrize(
    ("value", "comparison", "passed"),
    [
        (1.0, "<", False),
        (1.0, "<=", True),
        (1.0, ">", False),
        (1.0, ">=", True),
        (1.0, "==", True),
        (2.0, "<=", False),
        (2.0, ">", True),
        (0.5, "<", True),
        (True, "==", True),
    ],
)
def test_a_gate_compares_a_metric_with_its_limit(value: Any, comparison: Any, passed: bool) -> None:
    gate = Gate.check("x", Metric(value, "GB"), comparison, 1, unit="GB")
    assert (gate.passed, gate.value, gate.reason) == (passed, value, None)
    assert (gate.target, gate.comparison, gate.limit) == (f"{comparison} 1 GB", comparison, 1.0)


def test_a_null_or_a_value_that_is_not_finite_is_not_judged() -> None:
    null = Gate.check("x", Metric(None, "1", reason="no GPU"), "<", 1)
    assert (null.passed, null.value, null.reason, null.limit) == (None, None, "no GPU", 1.0)
    nan = Gate.check("x", Metric(math.nan, "1"), "<", 1)
    assert (nan.passed, nan.value, nan.reason) == (None, None, "not finite: nan")


def test_kind_1_too_little_evidence_is_no_verdict_but_its_value_stays(tmp_path: Path) -> None:
    lacking, there = Need("tokens scored", 2, 100), Need("rounds", 5, 2)
    gate = Gate.check("ppl_ratio", Metric(0.5, "1"), "<=", 1.02, [there, lacking])
    assert (gate.passed, gate.value) == (None, 0.5)
    assert gate.reason == "tokens scored: 2, needed 100"
    file = make(tmp_path, ["ppl"])
    file.finish("ppl", BenchResult({"ppl_ratio": Metric(0.5, "1")}, [gate]), 1.0)
    (recorded,) = file.close()["benches"]["ppl"]["gates"]
    assert recorded["needs"][1] == {"what": "tokens scored", "value": 2, "least": 100}
    assert (stored(file)["ppl_target"], file.exit_code) == (1.02, 2)
    assert Gate.check("x", Metric(0.5, "1"), "<", 1, [Need("n", math.nan, 1)]).passed is None


@pytest.mark.parametrize(
    ("comparison", "limit", "passed"),
    [("<", 1, False), ("<", 3, None), (">=", 1, True), (">=", 3, None)],
)
def test_a_lower_bound_decides_only_what_every_larger_value_does(
    comparison: Any, limit: float, passed: bool | None
) -> None:
    gate = Gate.check("x", Metric(2.0, "GB", bound="out of memory"), comparison, limit)
    assert (gate.passed, gate.value) == (passed, 2.0)
    assert (gate.reason or "only a lower bound, 2 GB").startswith("only a lower bound, 2 GB")


# version 1


def test_a_file_of_version_1_is_brought_to_the_present_form(tmp_path: Path) -> None:
    file = make(tmp_path, ["vram"])
    metrics = {
        "vram_reduction_ratio": Metric(4.0, "full backprop / adjoint"),
        "peak": Metric(3.0, "GB, at least: out of memory"),
    }
    file.finish("vram", BenchResult(metrics, [OPEN]), 1.0)
    old = file.close() | {"schema_version": 1}
    (tmp_path / "old.json").write_text(dumps(old))
    new = results.load(tmp_path / "old.json")
    SCHEMA.validate(new)
    assert new["vram_reduction_ratio"] == 0.25
    found = new["benches"]["vram"]["metrics"]
    assert (found["vram_reduction_ratio"]["value"], found["peak"]["unit"]) == (0.25, "GB")
    assert (found["peak"]["bound"], new["schema_version"]) == ("out of memory", 2)


def test_what_breaks_the_schema_is_refused_with_its_place(tmp_path: Path) -> None:
    found = make(tmp_path, ["ppl"]).close()
    found["benches"]["ppl"]["status"] = "fine"
    (tmp_path / "x.json").write_text(dumps(found))
    with pytest.raises(ValueError, match=r"edited by hand\?\): benches.ppl") as caught:
        results.load(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_stage_3_s_keys_stand_at_the_top_where_one_of_its_benches_ran(tmp_path: Path) -> None:
    none = make(tmp_path / "none", benches=["ppl"]).as_dict()
    assert not [key for key in none if key.startswith(("stage3", "koopman", "mera"))]
    file = make(tmp_path / "some", benches=["ppl", "recall"])
    metrics = {"mera_recall": Metric(0.97, "accuracy")}
    file.finish("recall", BenchResult(metrics), 1.0)
    file.finish("ppl", BenchResult({"stage3_ppl": Metric(70.0, "perplexity")}), 1.0)
    found = file.close()
    SCHEMA.validate(found)
    assert (found["mera_recall"], found["stage3_ppl"]) == (0.97, 70.0)
    reasons = found["null_reasons"]
    assert reasons["koopman_spectral_radius"] == "bench koopman was not asked for"
    assert reasons["mera_effect_pct_low"] == "bench parts was not asked for"
    assert "stage3_ppl" not in reasons
    del found["null_reasons"]["koopman_spectral_radius"]
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(found)
