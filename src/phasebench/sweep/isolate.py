"""Runs a point in a process of its own, which ends when this one does, whatever ends this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from phasebench.config import ConfigError
from phasebench.measure.child import child_environment, killed_by
from phasebench.sweep.abandon import abandon
from phasebench.sweep.point import Point

CHILD = [sys.executable, "-m", "phasebench.sweep.child"]  # is given the point's folder


def run_point(folder: Path, timeout_s: float | None) -> None:
    """Run the point that was saved in a folder; its results.json then says how it ended, also if it was killed.

    The process gets a group of its own, which is killed after timeout_s seconds and when this function is left by an
    exception. Its standard input is a pipe that nothing is written to: its end tells it that this process has gone.
    Raises OSError where the process cannot be started.
    """
    line = [*CHILD, str(folder)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, env=child_environment(), start_new_session=True) as child:
        try:
            code = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _end(child)
            _record(folder, "TimedOut", f"took more than {timeout_s:g} s and was stopped")
        except BaseException:
            _end(child)
            raise
        else:
            _record(folder, *_ending(code))


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


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
        print(f"phasebench: {folder}: {kind}: {message}; that cannot be recorded: {error}", file=sys.stderr)
