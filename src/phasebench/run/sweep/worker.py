"""Runs points in processes of their own, which end when this one does, whatever ends this one.

The points of a sweep that may share a process follow each other in one, as long as they end well: starting it and
reading the text take longer than a small measurement.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from phasebench.bench.child import child_environment, killed_by
from phasebench.config import ConfigError
from phasebench.config.files import code_hash
from phasebench.run.sweep.abandon import abandon
from phasebench.run.sweep.point import Point

CHILD = [
    sys.executable,
    "-m",
    "phasebench.run.sweep.child",
]  # is given the first point's folder, and where to say ready
_LOOK_S = 1.0  # between two looks at whether a silent process still lives
_END_S = 10.0  # that a process may take to end which has nothing left to do


class _Child:
    """A process that runs points, with a group of its own.

    Its standard input is a pipe: a line on it is the folder of its next point, and its end tells that this process has
    gone. It says on another pipe that it waits for a next point; most end instead.
    """

    def __init__(self, folder: Path) -> None:
        self.code, self.place = (
            code_hash(),
            _place(),
        )  # of the modules that it imports; where it runs
        self.ready, theirs = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*CHILD, str(folder), str(theirs)],
                stdin=subprocess.PIPE,
                env=child_environment(),
                start_new_session=True,
                pass_fds=[theirs],
            )
        except BaseException:
            os.close(self.ready)
            raise
        finally:
            os.close(theirs)

    def send(self, folder: Path) -> None:
        """Have it run another point. Raises OSError if it has ended meanwhile."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(str(folder)).encode() + b"\n")
        self.process.stdin.flush()

    def wait(self, timeout_s: float | None) -> Literal["ready", "ended", "late"]:
        """Wait until it waits for another point, has ended, or timeout_s seconds are over."""
        end = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
        while (left := end - time.monotonic()) > 0:
            heard, _, _ = select.select([self.ready], [], [], min(left, _LOOK_S))
            if heard and os.read(self.ready, 1):
                return "ready"
            if heard or self.process.poll() is not None:
                self.process.wait()
                return "ended"
        return "late"

    def close(self, *, kill: bool = False) -> None:
        """End it: at once with all that it started, or by itself if it waits for a point."""
        if kill:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self.process.pid, signal.SIGKILL)
        os.close(self.ready)
        assert self.process.stdin
        with contextlib.suppress(OSError):  # of what it did not read
            self.process.stdin.close()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:  # stopped, or stuck on its way out
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


_idle: list[_Child] = []  # the one that waits for a point, if any


def run_point(folder: Path, timeout_s: float | None) -> None:
    """Run the point that was saved in a folder; its results.json then says how it ended, also if it was killed.

    The process is killed after timeout_s seconds and when this function is left by an exception.
    Raises OSError where no process can be started.
    """
    child = _given(folder) or _Child(folder)
    try:
        ending = child.wait(timeout_s)
    except BaseException:
        child.close(kill=True)
        raise
    if ending == "ready":
        _idle.append(child)
        return
    child.close(kill=ending == "late")
    if ending == "late":
        _record(folder, "TimedOut", f"took more than {timeout_s:g} s and was stopped")
    else:
        _record(folder, *_ending(child.process.returncode))


def release() -> None:
    """End the process that waits for another point, if there is one."""
    while _idle:
        _idle.pop().close()


atexit.register(release)


def _given(folder: Path) -> _Child | None:
    """The waiting process, with the point's folder, if it may run the point and began as a new one would."""
    child = _idle.pop() if _idle else None
    if child is None:
        return None
    try:
        if (child.code, child.place) == (code_hash(), _place()) and Point.load(folder).may_share:
            child.send(folder)
            return child
    except OSError:  # it was killed while it waited
        pass
    child.close()
    return None


def _place() -> tuple[str, dict[str, str]]:
    """Working directory and environment, which hydra.job.chdir and hydra.job.env_set change from job to job."""
    return os.getcwd(), child_environment()


def _ending(code: int) -> tuple[str, str]:
    """Type and message of the error with which a job ended that left no verdict."""
    if killed := killed_by(code):
        return "Killed", killed
    return "Crashed", f"its process ended with exit code {code} and left no results"


def _record(folder: Path, kind: str, message: str) -> None:
    """As far as it can be: a disk that is full leaves the point unfinished, and the other points go on."""
    try:
        abandon(folder, Point.load(folder), kind, message)
    except (OSError, ConfigError) as error:
        print(
            f"phasebench: {folder}: {kind}: {message}; that cannot be recorded: {error}",
            file=sys.stderr,
        )
