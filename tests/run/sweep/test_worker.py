"""Points that share a process, and those that do not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import fake_point
from commands import TINY
from paths import ROOT
from phasebench.bench import child
from phasebench.config import Config
from phasebench.run import job
from phasebench.run.sweep import worker
from phasebench.run.sweep.point import Point
from phasebench.run.sweep.state import state
from sweeping import Sweep

ENERGY = [
    *TINY,
    "bench=energy",
    "bench.energy.batch=1",
    "bench.energy.seq=16",
    "bench.energy.steps=10",
]


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
    assert sweep.run("model.ode.steps=1,2,3", "sweep_name=b", "bench=[ppl,vram]")[0] == 0
    assert len(set(processes(sweep))) == 3


def test_a_shared_process_measures_what_one_of_its_own_does(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, fake=False)
    _, out = sweep.run(*ENERGY, "bench.energy.integrator=leapfrog,rk4", "sweep_name=shared")
    assert out.count("data: ") == 1, out  # read once
    for name in ("leapfrog", "rk4"):
        words = [f"bench.energy.integrator={name}", "sweep_name=alone"]
        sweep.run(*ENERGY, *words, "cache_dir=outputs/cache")
    shared, alone = (found(tmp_path / "outputs" / "sweeps" / name) for name in ("shared", "alone"))
    assert len(alone) == 2
    assert shared == alone


def found(folder: Path) -> dict[str, Any]:
    """What each point measured, less times, by its configuration."""
    results = [json.loads(file.read_text()) for file in folder.glob("*/results.json")]
    metrics = {r["config_hash"]: r["benches"]["energy"]["metrics"] for r in results}
    return {
        key: {name: m["value"] for name, m in of.items() if "seconds" not in name}
        for key, of in metrics.items()
    }


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
