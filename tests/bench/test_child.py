"""Functions in other processes: results, ways to end without one, what a child ignores."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

import child_jobs
import phasebench
from paths import ROOT
from phasebench.bench import child
from phasebench.bench.child import Child, ChildFailed, call, each
from phasebench.results.progress import Display


@pytest.fixture(autouse=True)
def _finds_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("end", "kind", "reason"),
    [
        (child_jobs.kill, "Killed", "killed by SIGKILL: the host's memory may have run out"),
        (child_jobs.terminate, "Killed", "killed by SIGTERM"),
        (child_jobs.leave, "Crashed", "its process ended with exit code 3 and left no results"),
        (child_jobs.raises, "RuntimeError", "RuntimeError: no cuBLAS"),
        (child_jobs.no_memory, "MemoryError", "MemoryError: 10 GB"),
    ],
)
def test_no_result_has_a_reason(end, kind: str, reason: str) -> None:
    with pytest.raises(ChildFailed) as failure:
        call(end, timeout_s=60)
    assert (failure.value.kind, str(failure.value)) == (kind, reason)


def test_a_process_runs_several_jobs_also_after_one_that_raised() -> None:
    one = Child()
    pid = one.call(os.getpid)
    with pytest.raises(ChildFailed):
        one.call(child_jobs.raises)
    assert one.call(os.getpid) == pid == one.process.pid
    one.close()
    assert one.process.returncode == 0


def test_jobs_share_processes_side_by_side() -> None:
    assert each(divmod, [(7, 2), (9, 4), (8, 3)], 2, "jobs") == [(3, 1), (2, 1), (2, 2)]
    with pytest.raises(ChildFailed, match="ZeroDivisionError"):
        each(divmod, [(7, 2), (1, 0)], 2, "jobs")


def test_a_job_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "usable_cores", lambda: 2)
    out, clock = io.StringIO(), itertools.count(step=11.0)
    with Display(Console(file=out, width=200), clock=lambda: next(clock)):
        each(child_jobs.tells, [("x",), ("y",)], 2, "arms")
    lines = out.getvalue().splitlines()
    assert all(any(f"{name} 4,096?" in line for line in lines) for name in "xy")
    assert any(line.startswith("arms 2/2 ") for line in lines)


def test_a_timeout_kills_the_child_and_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"took more than 5 s and was stopped") as failure:
        call(child_jobs.starts_another, tmp_path / "pids", timeout_s=5.0)
    assert failure.value.kind == "TimedOut"
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_parent_that_is_killed_leaves_no_orphan(tmp_path: Path) -> None:
    code = (
        "import sys, child_jobs; from phasebench.bench.child import call; "
        "call(child_jobs.starts_another, sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "pids")]
    parent = subprocess.Popen(command, env=child.environment())
    for _ in range(600):
        if (tmp_path / "pids").exists():
            break
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


# the child is this program


@pytest.mark.parametrize("path", ["", ":", ".:", None])
def test_kind_4_the_child_is_this_program_whatever_the_working_directory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    for name in ("queue", "pickle", "phasebench"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the working directory')")
    if path is None:
        monkeypatch.delenv("PYTHONPATH")
    else:
        monkeypatch.setenv("PYTHONPATH", path + str(ROOT / "tests"))
    if path != ".:":  # which asks for this folder
        monkeypatch.chdir(tmp_path)
    assert call(os.getcwd) == os.getcwd()
    assert call(eval, "__import__('phasebench').__file__") == phasebench.__file__


def test_kind_4_the_child_is_this_program_or_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "phasebench").symlink_to(Path(phasebench.__file__).parent)
    monkeypatch.setattr(child, "ROOT", tmp_path)
    with pytest.raises(ChildFailed, match="exit code 1"):
        call(os.getpid)


def test_kind_4_the_child_is_this_program_also_with_closed_descriptors(tmp_path: Path) -> None:
    code = (
        f"import child_jobs; from phasebench.bench.child import call; "
        f"open({str(tmp_path / 'answer')!r}, 'w').write(call(child_jobs.prints))"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code],
        env=child.environment(),
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "answer").read_text() == "/dev/null /dev/null /dev/null"
