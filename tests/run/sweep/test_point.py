"""Points: names, identities, what becomes of a folder whose content is odd, and what cannot run
side by side.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasebench.config import ConfigError, RunOptions, to_config
from phasebench.report.read import EXPECTED
from phasebench.results.file import ResultsFile, config_hash, load
from phasebench.results.gate import BenchResult, Gate, Metric
from phasebench.run import gpus
from phasebench.run.sweep import point as point_module
from phasebench.run.sweep.failures import abandon
from phasebench.run.sweep.ledger import Ledger
from phasebench.run.sweep.neighbours import check, side_by_side
from phasebench.run.sweep.point import Point, distinct
from phasebench.run.sweep.state import State, state, why_run

TREE: dict[str, Any] = {"device": "cpu", "bench": {"grad": {}, "vram": {}}}


def made(**changes: Any) -> Point:
    return Point(TREE | changes, ("seed=0",), ("seed=0",))


def begun(folder: Path, of: Point) -> ResultsFile:
    """The results.json of a job that runs."""
    path = folder / "results.json"
    return ResultsFile(
        path,
        device="cpu",
        config={"benchmark_name": "x", "seed": 0, "bench": {"grad": {}}},
        overrides=[],
        environment={},
        point=of.facts(),
    )


def finished(folder: Path, of: Point, /, **changes: Any) -> Path:
    """A results.json as a job leaves it, with some top-level keys changed."""
    results = begun(folder, of)
    results.fail("grad", RuntimeError("broken"), 0.0)
    results.close()
    results.path.write_text(json.dumps(json.loads(results.path.read_text()) | changes))
    return results.path


# names and identities


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), max_size=3))
def test_a_name_is_a_folder_whatever_the_values(values: list[str]) -> None:
    swept = tuple(f"bench.energy.dt={value}" for value in values)
    name = Point(TREE, swept, swept).name
    assert len(name) < 120
    assert "/" not in name
    assert name not in (".", "..")


def test_the_name_follows_the_configuration_and_not_how_it_is_carried_out() -> None:
    assert made().name == made(rerun=True, track=["mlflow"], output="there", sweep_name="x").name
    assert made().name != made(seed=1).name
    assert made().name != Point(TREE, ("seed=0",), ("model.ode.steps=1",)).name


def test_a_point_of_a_grown_grid_keeps_its_folder(tmp_path: Path) -> None:
    points = [
        made(seed=1),
        made(seed=2),
        dataclasses.replace(made(seed=1), swept=("seed=1", "device=cpu")),
    ]
    assert [point.tree["seed"] for point in distinct(points, tmp_path)] == [1, 2]
    points[0].save(tmp_path / points[0].name)
    assert [point.name for point in distinct(points[::-1], tmp_path)] == [
        points[0].name,
        points[1].name,
    ]
    assert Point.load(tmp_path / points[0].name).name == points[0].name


def test_keys_of_handling_are_no_part_of_what_results_record() -> None:
    plain, handled = (
        to_config(TREE),
        to_config(TREE | {"sweep_name": "x", "rerun": True, "job_timeout_s": 3.0}),
    )
    assert config_hash(plain.recorded()) == config_hash(handled.recorded())
    assert dataclasses.asdict(plain).keys() - plain.recorded().keys() == {
        "sweep_name",
        "retry_failed",
        "rerun",
        "dry_run",
        "force",
        "job_timeout_s",
        "allow_targets",
        "track",
    }


def test_the_identity_follows_code_data_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one")
    point = made(data={"name": "text", "path": str(text)})
    before = point.identity
    assert point.identity == before
    text.write_text("two!")
    assert {key for key in before if point.identity[key] != before[key]} == {"data.path"}
    monkeypatch.setattr(point_module, "code_hash", lambda **_: "other")
    assert point.identity["code"] == "other"
    assert made().identity.keys() == {"configuration", "code", "torch", "python"}


def test_it_is_the_same_after_a_trip_through_its_folder(tmp_path: Path) -> None:
    point = dataclasses.replace(made(), side_by_side=3, rerun=True, label="of 2")
    point.save(tmp_path / "new")
    assert Point.load(tmp_path / "new") == point


# states


def test_a_folder_without_results_is_missing(tmp_path: Path) -> None:
    assert state(tmp_path, made()) == State("missing", "no results yet")


def test_results_of_this_point_are_taken(tmp_path: Path) -> None:
    finished(tmp_path, made())
    assert state(tmp_path, made()) == State("failed", "grad: RuntimeError: broken", 2)
    other = state(tmp_path, made(seed=1))
    assert other == State("missing", "changed: configuration")


def test_results_of_another_gpu_are_not_taken(tmp_path: Path) -> None:
    finished(tmp_path, made(), environment={"gpu": {"name": "A"}})
    assert state(tmp_path, made(), {"A", "B"}).status == "failed"
    assert state(tmp_path, made(), {"B"}) == State("missing", "changed: GPU")
    assert (
        state(tmp_path, made()).status == "failed"
    )  # on a machine without one, such as a cluster's front end


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"point": None}, "cannot be used"),
        ({"point": {"identity": 3}}, "cannot be used"),
        ({"point": {}}, "cannot be used"),
        ({"environment": []}, "cannot be used"),
        ({"benches": {"grad": 1}}, "cannot be used"),
        ({"benches": {"grad": {}}}, "cannot be used"),
        ({"benches": None}, "cannot be used"),
        ({"schema_version": 99}, "schema_version is 99"),
        ({"status": "running"}, "cannot be used"),
    ],
)
def test_results_edited_by_hand_are_missing(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    finished(tmp_path, made(), **changes)
    found = state(tmp_path, made())
    assert found.status == "missing"
    assert reason in (found.reason or "")


def test_results_of_a_job_that_did_not_end_are_missing(tmp_path: Path) -> None:
    begun(tmp_path, made())
    assert state(tmp_path, made()) == State("missing", "did not end")


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": 1}', "[]", "3", "null", "NaN", '"x"', "[" * 100_000]
)
def test_foreign_and_truncated_results_are_missing(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    assert state(tmp_path, made()).status == "missing"


@settings(deadline=None, max_examples=30)
@given(st.integers(min_value=0))
def test_results_truncated_anywhere_are_missing(
    tmp_path_factory: pytest.TempPathFactory, at: int
) -> None:
    folder = tmp_path_factory.mktemp("truncated")
    path = finished(folder, made())
    text = path.read_text()
    path.write_text(text[: at % (len(text) - 1)])
    assert state(folder, made()).status == "missing"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError("x"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "oom"),
        (type("OutOfMemoryError", (Exception,), {})("CUDA out of memory"), "oom"),
        (ValueError("x"), "failed"),
    ],
)
def test_errors_have_their_status(tmp_path: Path, error: Exception, status: str) -> None:
    path = finished(tmp_path, made())
    found = json.loads(path.read_text())
    found["benches"]["grad"]["error"] |= {"type": type(error).__name__, "message": str(error)}
    path.write_text(json.dumps(found))
    assert state(tmp_path, made()).status == status


@pytest.mark.parametrize(
    ("found", "retry_failed", "rerun", "runs"),
    [
        (State("missing", "no results yet"), False, False, True),
        (State("ok", None, 0), True, False, False),
        (State("ok", None, 1), True, False, False),
        (State("ok", None, 0), False, True, True),
        (State("failed", "x", 2), True, False, True),
        (State("failed", "x", 2), False, False, False),
        (State("killed", "x", 2), False, True, True),
        (State("not comparable", "x", 0), True, False, True),
    ],
)
def test_which_points_run(found: State, retry_failed: bool, rerun: bool, runs: bool) -> None:
    assert bool(why_run(found, RunOptions(retry_failed=retry_failed, rerun=rerun))) == runs


# jobs that ended without results


def test_an_abandoned_job_leaves_results(tmp_path: Path) -> None:
    abandon(tmp_path, made(), "Killed", "killed by SIGKILL")
    assert state(tmp_path, made()) == State("killed", "grad: Killed: killed by SIGKILL", 2)


def test_what_an_abandoned_job_measured_stays(tmp_path: Path) -> None:
    results = begun(tmp_path, made())
    results.fail("grad", RuntimeError("broken"), 0.0)
    abandon(tmp_path, made(), "Killed", "x")
    found = load(results.path)
    assert found["benches"]["grad"]["error"]["message"] == "broken"
    assert found["status"] == "failed"


def test_results_that_have_ended_are_not_abandoned(tmp_path: Path) -> None:
    before = finished(tmp_path, made()).read_text()
    abandon(tmp_path, made(), "Killed", "x")
    assert (tmp_path / "results.json").read_text() == before


# side by side


def launcher(kind: str, **values: Any) -> dict[str, Any]:
    return {"_target_": f"hydra_plugins.somewhere.{kind}", **values}


def test_how_many_jobs_a_launcher_runs_at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert side_by_side(launcher("BasicLauncher"), 9) == 1
    assert side_by_side(launcher("SlurmLauncher"), 9) == 1
    assert side_by_side(launcher("LocalLauncher"), 9) == 9
    assert side_by_side(launcher("SomeLauncher"), 9) == 9
    assert [side_by_side(launcher("JoblibLauncher", n_jobs=n), 9) for n in (1, 3, -1, -2, 20)] == [
        1,
        3,
        4,
        3,
        9,
    ]
    assert side_by_side(launcher("JoblibLauncher", n_jobs=3), 0) == 1


@pytest.mark.parametrize(
    ("benches", "device", "gpu", "refused"),
    [
        (["speed"], "cpu", False, True),
        (["grad", "speed"], "auto", True, True),
        (["vram"], "auto", True, True),
        (["vram"], "cuda:1", False, True),
        (["vram"], "auto", False, False),
        (["vram"], "cpu", True, False),
        (["ppl", "energy", "grad"], "auto", True, False),
    ],
)
def test_what_would_be_disturbed_is_refused(
    benches: list[str], device: str, gpu: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "gpu_names", lambda: {"A"} if gpu else set())
    points = [made(bench={name: {} for name in benches}, device=device), made(seed=-1)]
    check(points, 1)
    if refused:
        with pytest.raises(ConfigError, match=r"2 jobs at one time.*\n.*hydra/launcher=basic"):
            check(points, 2)
    else:
        check(points, 2)


# the ledger


def with_text(folder: Path, point: Point, fingerprint: str) -> Point:
    """A finished point whose gates passed, on a text of that fingerprint."""
    results = begun(folder / point.name, point)
    text = {"name": "x", "source": "x", "comparable": True, "notice": None, "tokenizer": "x"}
    results.set_data(text | {"vocab_size": 2, "fingerprint": fingerprint}, [])
    gates = [Gate.check(name, Metric(1.0, "1"), "<=", 2.0) for name in EXPECTED["grad"]]
    results.finish("grad", BenchResult(gates=gates), 0.0)
    results.close()
    return point


def test_a_point_of_another_text_is_not_comparable(tmp_path: Path) -> None:
    data = {"name": "auto"}
    points = [made(seed=seed, data=data) for seed in range(3)]
    for point, text in zip(points, ("a", "b", "b"), strict=True):
        with_text(tmp_path, point, text)
    asked = with_text(tmp_path, made(data={"name": "synthetic"}), "c")
    ledger = Ledger(tmp_path, [*points, asked])
    assert [ledger.states[point.name].status for point in ledger.points] == [
        "not comparable",
        "ok",
        "ok",
        "ok",
    ]
    assert json.loads(ledger.write().read_text())["points"][0]["status"] == "not comparable"


@pytest.mark.parametrize("data", [3, "x", [1], {}, {"fingerprint": [1]}])
def test_a_text_edited_by_hand_is_not_crashed_on(tmp_path: Path, data: Any) -> None:
    point = with_text(tmp_path, made(data={"name": "auto"}), "a")
    path = tmp_path / point.name / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": data}))
    assert Ledger(tmp_path, [point]).states[point.name].status == "missing"


def test_kind_3_a_point_edited_to_pass_runs_again(tmp_path: Path) -> None:
    point = with_text(tmp_path, made(), "a")
    path = tmp_path / point.name / "results.json"
    results = load(path)
    results["benches"]["grad"]["gates"][0] |= {"value": 3.0}  # beside passed = true
    path.write_text(json.dumps(results))
    found = Ledger(tmp_path, [point])
    assert found.exit_code == 2
    assert "has passed = True, but 3.0" in str(found.states[point.name].reason)


def test_the_exit_code_is_the_worst_of_the_points(tmp_path: Path) -> None:
    good = with_text(tmp_path, made(data={"name": "auto"}), "a")
    assert Ledger(tmp_path, [good]).exit_code == 0
    assert Ledger(tmp_path, [good, made(seed=1)]).exit_code == 2
    assert Ledger(tmp_path, [good, made(seed=-1)]).exit_code == 2
    assert Ledger(tmp_path, []).exit_code == 0
