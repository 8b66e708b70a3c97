"""The process of one point: ``python -m phasebench.sweep.child FOLDER``, started by `phasebench.sweep.isolate`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from phasebench.config import ConfigError
from phasebench.sweep.abandon import abandon
from phasebench.sweep.point import Point
from phasebench.sweep.state import state

Execute = Callable[[Point, Path], int]


def main(folder: Path, execute: Execute | None = None) -> int:
    """Run the folder's point, unless another process has finished it meanwhile; the exit code is a run's.

    One process at a time works in a folder. A job of an earlier sweep that still runs, as a cluster's does after the
    sweep was killed, is waited for.
    """
    _end_with_parent()
    with _only_one(folder):
        point = Point.load(folder)
        found = state(folder, point)
        if found.status == "ok" and found.exit_code is not None and not point.rerun:
            print(f"{point.name}: another process has finished it", flush=True)
            return found.exit_code
        return _run(folder, point, execute or _execute)


def _execute(point: Point, folder: Path) -> int:
    from phasebench.job import execute  # imports torch
    from phasebench.validation import to_config

    return execute(to_config(point.tree), folder, list(point.overrides), point=point.facts())


def _run(folder: Path, point: Point, execute: Execute) -> int:
    try:
        return execute(point, folder)
    except Exception as error:
        if isinstance(error, ConfigError):
            print(f"phasebench: {error}", file=sys.stderr)
        else:
            traceback.print_exception(error)
        abandon(folder, point, type(error).__name__, str(error))
        return 2


def _only_one(folder: Path) -> AcquireReturnProxy:
    lock = FileLock(folder / ".lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder.name}: another process runs this point; waiting for it", flush=True)
        return lock.acquire()


def _end_with_parent() -> None:
    """Kill this process and those that it started as soon as standard input, the parent's pipe, is closed."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(2)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
