"""The process of points: ``python -m phasebench.run.sweep.child FOLDER PIPE``, started by `phasebench.run.sweep.worker`."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from phasebench.config import ConfigError
from phasebench.run.sweep.abandon import abandon
from phasebench.run.sweep.point import Point
from phasebench.run.sweep.state import state

Execute = Callable[[Point, Path], int]


def main(folder: Path, execute: Execute | None = None, ready: int | None = None) -> int:
    """Run the folder's point, unless another process has finished it meanwhile; the exit code is a run's.

    Then, if it ended well and may share its process with others, say so on the pipe `ready`, and run those whose
    folders come on standard input. One process at a time works in a folder: a job of an earlier sweep that still
    runs, as a cluster's does after the sweep was killed, is waited for.
    """
    orders = _Orders()
    if ready is not None:
        os.set_inheritable(
            ready, False
        )  # its end tells that this process has ended, whatever it has started
    while True:
        point = Point.load(folder)
        with _only_one(folder):
            code = _run(folder, point, execute or _execute)
        if ready is None or not point.may_share or state(folder, point).status != "ok":
            return code
        following = orders.next(ready)
        if following is None:
            return code
        folder = following


class _Orders:
    """What comes on standard input, the parent's pipe: folders, as JSON, one a line.

    As soon as it is closed, this process and those that it started are killed, unless it waits for a folder.
    """

    def __init__(self) -> None:
        self.folders: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self.busy = threading.Event()
        self.busy.set()
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self, ready: int) -> Path | None:
        """Say that this process waits, and wait for a folder; None where there are no more."""
        self.busy.clear()
        try:
            os.write(ready, b".")
        except BrokenPipeError:
            return None
        return self.folders.get()

    def _listen(self) -> None:
        with os.fdopen(0, "rb", closefd=False) as stream:
            for line in stream:
                self.busy.set()
                self.folders.put(Path(json.loads(line)))
        if not self.busy.is_set():
            self.folders.put(None)
            return
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(2)


def _execute(point: Point, folder: Path) -> int:
    from phasebench.config import to_config
    from phasebench.run.job import execute  # imports torch

    config = to_config(point.tree)
    if config.train.compile:
        import torch

        torch.compiler.reset()  # what earlier points compiled counts towards a limit, beyond which torch runs eagerly
    return execute(config, folder, list(point.overrides), point=point.facts())


def _run(folder: Path, point: Point, execute: Execute) -> int:
    found = state(folder, point)
    if found.status == "ok" and found.exit_code is not None and not point.rerun:
        print(f"{point.name}: another process has finished it", flush=True)
        return found.exit_code
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


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), ready=int(sys.argv[2])))
