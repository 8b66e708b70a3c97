"""Runs functions of this package in fresh processes, which end when this one does.

A process runs one function after the other, so that a job that measures memory gets one of its
own, and small jobs share one: starting it takes longer than they do. Arguments and results are
pickled through a socket. At the socket's end, which is this process' end too, the child is killed
with all that it has started; so it is after its time limit.

The child is this very program: it gets a safe path (python -P), in which no file of the working
directory hides a module, and refuses to work if it has imported another phasebench.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console

import phasebench
from phasebench.config.files import code_hash
from phasebench.results.progress import Display, Work, track

ROOT = Path(phasebench.__file__).parents[1]
LOOK_S = 1.0  # between two looks at whether a silent process still lives
END_S = 10.0  # that a process may take to end which has nothing left to do


class ChildFailed(Exception):
    """A job ended without a result.

    Attributes:
        kind: Killed (by a signal), TimedOut, Crashed (ended by itself), or the exception's type.
        message: the reason, in words.
        trace: the exception's traceback, if there was one.
    """

    def __init__(self, kind: str, message: str, trace: str = "") -> None:
        ended = kind in ("Killed", "TimedOut", "Crashed")
        super().__init__(message if ended else f"{kind}: {message}")
        self.kind, self.message, self.trace = kind, message, trace


class Child:
    """A process with a session and process group of its own. Raises OSError if none can start."""

    def __init__(self) -> None:
        keep_standard_streams()
        self._began = _surroundings()
        self._pipe, theirs = Pipe()
        code = "import sys; from phasebench.bench.child import serve; serve(*sys.argv[1:])"
        command = [sys.executable, "-P", "-c", code, str(theirs.fileno()), phasebench.__file__]
        with theirs:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                env=self._began[-1],
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )

    @property
    def is_fresh(self) -> bool:
        """Whether it lives and began with the code, directory and environment of now."""
        return self.process.poll() is None and self._began == _surroundings()

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        timeout_s: float | None = None,
        tell: Callable[[str], object] = str,
    ) -> Any:
        """Return function(*arguments), run in the process; function is found by its name there.

        `tell` is told how far the function is. Raises `ChildFailed`; the process lives on if the
        function raised, and else is gone.
        """
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        answered = False
        ended, result = None, ()
        try:
            self._pipe.send((function, arguments))
            while ended is None:
                while not self._pipe.poll(max(0.0, min(LOOK_S, end - time.monotonic()))):
                    if time.monotonic() >= end:
                        what = f"took more than {timeout_s:g} s and was stopped"
                        raise ChildFailed("TimedOut", what)
                    # a process that it has forked may hold the socket open
                    if self.process.poll() is not None and not self._pipe.poll():
                        raise EOFError
                ended, result = self._pipe.recv()
                if ended is None:
                    tell(result)
            answered = True
        except (EOFError, ConnectionError):
            self.close()
            raise ChildFailed(*ending(self.process.returncode)) from None
        finally:
            if not answered:  # for whatever reason, such as an interrupt
                self.close(kill=True)
        if not ended:
            raise ChildFailed(*result)
        return result

    def close(self, *, kill: bool = False) -> None:
        """End it with all that it has started: at once, or by itself if it waits for a job."""
        if self._pipe.closed:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # it has ended, or is stuck
            if not kill:
                self._pipe.send(None)
                self.process.wait(END_S)
        with contextlib.suppress(ProcessLookupError):  # nothing is left of its group
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._pipe.close()


def call(function: Callable[..., Any], *arguments: Any, timeout_s: float | None = None) -> Any:
    """Return function(*arguments), run in a process of its own. Raises `ChildFailed`, OSError."""
    child = Child()
    try:
        return child.call(function, *arguments, timeout_s=timeout_s)
    finally:
        child.close(kill=True)


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def each(
    function: Callable[..., Any], jobs: Sequence[Sequence[Any]], most: int, label: str
) -> list[Any]:
    """Return function(*job) of each job; at most so many processes, one a core, share the jobs.

    Where that is a single one, it is this process. Raises `ChildFailed` of the first job that
    failed, OSError.
    """
    processes = min(most, len(jobs), usable_cores())
    if processes < 2:
        return [function(*job) for job in track(jobs, label, len(jobs))]
    free: queue.SimpleQueue[Child] = queue.SimpleQueue()

    def one(job: Sequence[Any]) -> Any:
        child = free.get()
        try:
            with Work("", None) as work:
                return child.call(function, *job, tell=work.show)
        finally:
            free.put(child)

    with ThreadPoolExecutor(processes) as threads, contextlib.ExitStack() as children:
        try:
            for _ in range(processes):
                child = Child()
                children.callback(child.close, kill=True)
                free.put(child)
            return list(track(threads.map(one, jobs), label, len(jobs)))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            children.close()


def keep_standard_streams() -> None:
    """Open /dev/null for those of the descriptors 0 to 2 that whoever started us has closed.

    The next file opened would take their place, and get what is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this


def environment() -> dict[str, str]:
    """Return this process' environment with a path on which a child finds this phasebench.

    Empty entries of PYTHONPATH, which mean the working directory, are dropped; relative ones name
    the same folder wherever the child runs.
    """
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    path = os.pathsep.join([str(ROOT), *map(os.path.abspath, paths)])
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _surroundings() -> tuple[str, str, dict[str, str]]:
    # hydra.job.chdir and hydra.job.env_set change directory and environment from job to job
    return code_hash(), os.getcwd(), environment()


def ending(code: int) -> tuple[str, str]:
    """Return kind and message of the way in which a process ended that gave no result.

    >>> ending(-15)
    ('Killed', 'killed by SIGTERM')
    """
    if code >= 0:
        return "Crashed", f"its process ended with exit code {code} and left no results"
    name = signal.Signals(-code).name
    hint = ": the host's memory may have run out" if name == "SIGKILL" else ""
    return "Killed", f"killed by {name}{hint}"


def serve(descriptor: str, package: str) -> None:
    """Run the jobs that come on the socket, until it asks for an end: the child's main program."""
    keep_standard_streams()
    if phasebench.__file__ != package:
        sys.exit(f"phasebench: {phasebench.__file__} was imported instead of {package}")
    os.set_inheritable(int(descriptor), False)  # its end must be this process' end
    pipe = Connection(int(descriptor))
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                jobs.put(pipe.recv_bytes())
        except (EOFError, OSError):  # the parent is gone
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=listen, daemon=True).start()
    with _Relay(pipe):
        while job := pickle.loads(jobs.get()):
            function, arguments = job
            try:
                answer = True, function(*arguments)
            except Exception as error:
                answer = False, (type(error).__name__, str(error), traceback.format_exc())
            pipe.send(answer)


class _Relay(Display):
    """Sends what this process does to its parent, which shows it."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(Console(quiet=True), live=False)
        self.pipe, self.every_s, self.next_at = pipe, LOOK_S, 0.0

    def write(self, text: str) -> None:
        self.pipe.send((None, text))
