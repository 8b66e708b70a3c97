"""Points that share a process, and those that do not."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import fake_point
from paths import ROOT
from phasebench.bench import child
from phasebench.config import Config
from phasebench.run import job
from phasebench.run.sweep import worker
from phasebench.run.sweep.point import Point
from phasebench.run.sweep.state import state
from sweeping import Sweep

ENERGY = {
    "device": "cpu",
    "data": {"name": "synthetic", "vocab_size": 300, "synthetic": {"rows": 80}},
    "model": {"dim": 8, "blocks": 1, "heads": 2, "hidden": 16},
    "train": {"steps": 4, "batch": 2, "seq": 32, "warmup": 1, "checkpoint_every": 2},
    "bench": {"energy": {"batch": 8, "seq": 16, "steps": 10}},
}


def processes(sweep: Sweep) -> list[str]:
    """The process of each point, in the order in which they ran."""
    return [
        line.split()[2] for line in sweep.log.read_text().splitlines() if line.startswith("start ")
    ]


def test_only_points_that_measure_no_memory_and_end_well_share_a_process(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    words = ["model.ode.steps=1,2,3,4,5,6", "sweep_name=a", "bench=[ppl,energy]"]
    code, out = sweep.run(*words, faults={"steps-2": "raise", "steps-4": "kill"})
    assert code == 2, out
    assert [p["status"] for p in sweep.points("a").values()] == [
        "ok",
        "failed",
        "ok",
        "killed",
        "ok",
        "ok",
    ]
    one, two, three, four, five, six = processes(sweep)
    assert (one, three, five) == (two, four, six)
    assert len({one, three, five}) == 3
    sweep.log.unlink()
    assert sweep.run("model.ode.steps=1,2", "sweep_name=b", "bench=[ppl,vram]")[0] == 0
    assert len(set(processes(sweep))) == 2


def test_a_shared_process_measures_what_one_of_its_own_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two points follow each other in this process; the second is run in one of its own, too."""
    monkeypatch.chdir(tmp_path)
    found = {}
    for seed, name in ((1, "first"), (0, "shared")):
        worker.run_job(Point(ENERGY | {"seed": seed}, (), side_by_side=2), tmp_path / name)
        found[name] = measured(tmp_path / name)
    assert capfd.readouterr().out.count("data: ") == 1  # read once
    point, alone = Point(ENERGY, ()), tmp_path / "alone"
    shutil.rmtree("outputs")  # the trained weights, too
    point.save(alone)
    child.call(worker.run_saved, alone)
    assert measured(alone) == found["shared"] != found["first"]


def measured(folder: Path) -> dict[str, Any]:
    """What a point measured, less times."""
    energy = json.loads((folder / "results.json").read_text())["benches"]["energy"]
    side_by_side = "2 jobs of the sweep" in json.dumps(energy["notices"])
    assert side_by_side is (folder.name != "alone")
    metrics = energy["metrics"].items()
    return {name: metric["value"] for name, metric in metrics if "seconds" not in name}


# in this process, with the fake job


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(worker, "run_saved", fake_point.run_saved)
    monkeypatch.setenv("LOG", str(tmp_path / "log.txt"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / part) for part in ("src", "tests")))
    points = [
        Point({"device": "cpu", "bench": {"energy": {}}, "seed": seed}, ()) for seed in range(3)
    ]
    for point in points:
        point.save(tmp_path / f"a\nb{point.digest[:8]}")
    return [tmp_path / f"a\nb{point.digest[:8]}" for point in points]


def ran(folders: list[Path]) -> list[str]:
    assert [state(folder, Point.load(folder)).status for folder in folders] == ["ok"] * len(folders)
    log = folders[0].parent / "log.txt"
    return [line.split()[2] for line in log.read_text().splitlines() if line.startswith("start ")]


def test_code_that_changed_since_the_process_began_ends_it(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.run_point(folders[0], None)
    worker.run_point(folders[1], None)
    monkeypatch.setattr(child, "code_hash", lambda: "another")
    worker.run_point(folders[2], None)
    worker.release()
    first, second, third = ran(folders)
    assert first == second != third


def test_a_process_that_was_killed_while_it_waited_is_replaced(folders: list[Path]) -> None:
    worker.run_point(folders[0], None)
    (waiting,) = worker._idle
    os.kill(waiting.process.pid, signal.SIGKILL)
    waiting.process.wait()
    worker.run_point(folders[1], None)
    worker.release()
    assert len(set(ran(folders[:2]))) == 2


def test_a_process_that_waits_ends_with_its_pipe(folders: list[Path]) -> None:
    worker.run_point(folders[0], None)
    (waiting,) = worker._idle
    worker.release()
    assert waiting.process.returncode == 0
    assert worker._idle == []


@pytest.mark.parametrize("changes", ["directory", "environment"])
def test_a_process_that_began_elsewhere_is_replaced(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: str
) -> None:
    worker.run_point(folders[0], None)
    worker.run_point(folders[1], None)
    if changes == "directory":  # as hydra.job.chdir does
        monkeypatch.chdir(tmp_path)
    else:  # as hydra.job.env_set does
        monkeypatch.setenv("OF_THIS_JOB", "1")
    worker.run_point(folders[2], None)
    worker.release()
    first, second, third = ran(folders)
    assert first == second != third


def test_a_process_that_does_not_end_by_itself_is_killed(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "END_S", 0.2)
    worker.run_point(folders[0], None)
    (waiting,) = worker._idle
    os.kill(waiting.process.pid, signal.SIGSTOP)
    worker.release()
    assert waiting.process.returncode == -signal.SIGKILL
    assert ran(folders[:1])


def test_what_earlier_points_compiled_keeps_no_later_one_from_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []

    def compiles(config: Config, *_: Any, **__: Any) -> int:
        def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
            graphs.append(config.seed)
            return graph.forward

        torch.compile(twice, backend=backend, dynamic=False)(torch.ones(config.seed + 2))
        return 0

    monkeypatch.setattr(job, "execute", compiles)
    seeds = range(torch._dynamo.config.recompile_limit + 3)
    for seed in seeds:
        tree = {"device": "cpu", "bench": {"ppl": {}}, "seed": seed, "train": {"compile": True}}
        worker.run_job(Point(tree, ()), tmp_path)
    assert graphs == list(seeds)


def twice(x: torch.Tensor) -> torch.Tensor:
    return x + x
