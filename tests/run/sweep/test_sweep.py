"""Sweeps as a user runs them: jobs that fail, kills, resuming, locks, full disks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

from phasebench.results.file import schema
from sweeping import Sweep

STEPS = "model.ode.steps=1,2,3"
KILLS = int(os.environ.get("PHASEBENCH_TEST_KILLS", "4"))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path)


def valid(sweep: Sweep) -> None:
    for results in sweep.results().values():
        jsonschema.validate(results, schema())


def test_jobs_that_fail_leave_the_others_and_what_is_run_again_is_for_the_user_to_say(
    sweep: Sweep,
) -> None:
    steps = "model.ode.steps=1,2,3,4,5"
    faults = {"steps-1": "raise", "steps-2": "kill", "steps-3": "oom", "steps-4": "hang"}
    code, out = sweep.run(steps, "sweep_name=a", "job_timeout_s=5", faults=faults)
    points = sweep.points("a")
    assert [point["status"] for point in points.values()] == [
        "failed",
        "killed",
        "oom",
        "timeout",
        "ok",
    ]
    assert points["model.ode.steps=1"]["reason"] == "grad: RuntimeError: broken on purpose"
    assert "SIGKILL" in points["model.ode.steps=2"]["reason"]
    assert [point["exit_code"] for point in points.values()] == [2, 2, 2, 2, 0]
    assert code == 2
    assert "5 points: 1 failed, 1 killed, 1 oom, 1 timeout, 1 ok" in out
    valid(sweep)
    sweep.log.unlink()
    code, out = sweep.run(steps, "sweep_name=a", "dry_run=true")
    assert code == 0
    for status in ("failed", "killed", "oom", "timeout"):
        assert out.count(f"would run: {status} last time") == 1
    code, out = sweep.run(steps, "sweep_name=a", "retry_failed=false")
    assert (code, sweep.logged("start")) == (2, []), out
    code, out = sweep.run(steps, "sweep_name=a")
    started = sweep.logged("start")
    assert [name[:7] for name in started] == ["steps-1", "steps-2", "steps-3", "steps-4"]
    assert code == 0, out
    assert {point["status"] for point in sweep.points("a").values()} == {"ok"}
    assert [results["all_pass"] for results in sweep.results().values()] == [True] * 5
    valid(sweep)
    code, out = sweep.run("model.ode.steps=2,6", "sweep_name=a", "rerun=true")
    assert sweep.logged("start")[4:] == [point["folder"] for point in sweep.points("a").values()]
    assert "not of this grid, left as they are: 4" in out


def test_hydra_s_own_sweeper_isolates_its_jobs_too(sweep: Sweep) -> None:
    words = ("hydra/sweeper=basic", "hydra.sweep.dir=x")
    code, out = sweep.run("model.ode.steps=1,2", *words, faults={"": "raise"})
    assert code == 2, out
    assert {name: results["status"] for name, results in sweep.results().items()} == {
        "0": "failed",
        "1": "failed",
    }
    valid(sweep)
    code, out = sweep.run("model.ode.steps=3", *words)
    assert code == 0, out
    assert sweep.results()["0"]["config"]["model"]["ode"]["steps"] == 3


def end(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("benches", "wanted"), [("[grad,vram]", KILLS), ("[ppl,energy]", KILLS // 2)]
)
def test_killed_at_random_moments_it_loses_and_repeats_nothing(
    sweep: Sweep, benches: str, wanted: int
) -> None:
    """SIGKILL of the sweep alone: its job must notice. Grids follow each other until there were
    enough kills.

    The points of the second kind share a process.
    """
    chance, kills, grids = random.Random(6), 0, 0
    while kills < wanted:
        grids += 1
        words = ("model.ode.steps=1,2,3", f"sweep_name=grid{grids}", f"bench={benches}")
        finished: dict[str, str] = {}
        while len(finished) < 3:
            process = sweep.start(*words)
            try:
                process.communicate(timeout=chance.uniform(0.8, 2.5) if kills < wanted else 240)
                assert process.returncode == 0
            except subprocess.TimeoutExpired:
                kills += 1
                end(process, signal.SIGKILL)
            finished = unharmed(sweep, finished, f"grid{grids}")
    assert kills == wanted
    valid(sweep)
    assert {results["status"] for results in sweep.results().values()} == {"ok"}
    done = Counter(sweep.logged("done"))  # by the point's name, which is the same in every grid
    assert (len(done), set(done.values())) == (3, {grids})


def unharmed(sweep: Sweep, before: dict[str, str], name: str) -> dict[str, str]:
    """The finished results as text, after a check that those from before are still the same."""
    files = (sweep.folder / "outputs" / "sweeps" / name).glob("*/results.json")
    texts = {file.parent.name: file.read_text() for file in files}
    assert {folder: texts[folder] for folder in before} == before
    return {folder: text for folder, text in texts.items() if json.loads(text)["status"] == "ok"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_ended_takes_its_job_along(sweep: Sweep, number: signal.Signals) -> None:
    process = sweep.start(STEPS, "sweep_name=a", faults={"steps-2": "hang"})
    pid = wait_for_start(sweep, "steps-2")
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline, "the job goes on"
        time.sleep(0.02)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "interrupted" in out
        assert [point["status"] for point in sweep.points("a").values()] == [
            "ok",
            "missing",
            "missing",
        ]


def wait_for_start(sweep: Sweep, name: str) -> int:
    """The process of the point whose name begins so, once it runs."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = sweep.log.read_text().splitlines() if sweep.log.exists() else []
        for line in lines:
            if line.startswith(f"start {name}"):
                return int(line.split()[2])
        time.sleep(0.02)
    pytest.fail("the point has not started")


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_sweep_ends_when_nobody_reads_it_any_more(sweep: Sweep) -> None:
    process = sweep.start(STEPS, "sweep_name=a", stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    assert "points to run" in process.stdout.readline()
    process.stdout.close()  # as `| head -1` does
    with process.stderr:
        errors = process.stderr.read()
    assert process.wait(timeout=60) == 2
    assert "Traceback" not in errors
    assert "bug" not in errors
    assert len(sweep.logged("start")) < len(sweep.points("a"))


def test_a_second_sweep_into_the_same_folder_is_refused(sweep: Sweep) -> None:
    first = sweep.start(STEPS, "sweep_name=a", faults={"steps-2": "hang"})
    wait_for_start(sweep, "steps-2")
    started = sweep.logged("start")
    code, out = sweep.run(STEPS, "sweep_name=a")
    assert code == 2
    assert "sweep_name=a: another sweep runs in outputs/sweeps/a" in out
    assert sweep.logged("start") == started
    end(first, signal.SIGTERM)


def test_sweeps_of_one_second_have_folders_of_their_own(sweep: Sweep) -> None:
    both = [sweep.start("model.ode.steps=1") for _ in range(2)]
    assert [(process.communicate(timeout=60), process.returncode)[1] for process in both] == [0, 0]
    assert len(list(sweep.folder.glob("outputs/*/*-sweep/steps-1*/results.json"))) == 0
    assert len(list(sweep.folder.glob("outputs/*/*-sweep/*/results.json"))) == 2


def test_a_full_disk_leaves_the_former_results_whole(sweep: Sweep, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        words = ("model.ode.steps=1", f"hydra.sweep.dir={disk}/sweep")
        assert sweep.run(*words)[0] == 0
        before = {file: file.read_text() for file in disk.rglob("results.json")}
        assert len(before) == 1
        fill(disk)
        code, out = sweep.run(*words, "rerun=true")
        assert code == 2
        assert "sweep.json: No space left on device" in out
        assert "Traceback" not in out
        assert {file: file.read_text() for file in disk.rglob("results.json")} == before
        (disk / "filling").unlink()
        assert sweep.run(*words)[0] == 0
        assert {file: file.read_text() for file in disk.rglob("results.json")} == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return
