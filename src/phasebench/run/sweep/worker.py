"""Runs points in processes of their own; `failures` records those that were killed or failed.

Points that may share a process follow each other in one, as long as they end well: starting it and
reading the text take longer than a small measurement.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from phasebench.bench.child import Child, ChildFailed
from phasebench.config import ConfigError, to_config
from phasebench.results.lock import locked
from phasebench.run.sweep.failures import abandon
from phasebench.run.sweep.point import Point
from phasebench.run.sweep.state import state

_idle: list[Child] = []  # the process that waits for a point, if any


def run_point(folder: Path, timeout_s: float | None) -> None:
    """Run the point that was saved in a folder; its results.json then says how it ended.

    The process is killed after timeout_s seconds and when this function is left by an exception.
    Raises OSError where no process can be started.
    """
    point = Point.load(folder)
    child = _idle.pop() if _idle else None
    if child and not (point.may_share and child.is_fresh):
        child.close()
        child = None
    child = child or Child()
    try:
        child.call(run_saved, folder, timeout_s=timeout_s)
    except ChildFailed as failure:
        if failure.trace:
            known = failure.kind == ConfigError.__name__
            text = f"phasebench: {failure.message}\n" if known else failure.trace
            print(text, end="", file=sys.stderr)
        try:
            abandon(folder, point, failure.kind, failure.message)
        except (OSError, ConfigError) as error:  # the disk is full: it stays unfinished
            print(f"phasebench: {folder}: {failure}; not recorded: {error}", file=sys.stderr)
    if point.may_share and state(folder, point).status == "ok":
        _idle.append(child)
    else:
        child.close()


@atexit.register
def release() -> None:
    """End the process that waits for another point, if there is one."""
    while _idle:
        _idle.pop().close()


def run_saved(folder: Path, execute: Callable[[Point, Path], object] | None = None) -> None:
    """Run the folder's point in this process, unless another process has finished it meanwhile.

    A job of an earlier sweep that still runs, as a cluster's does after the sweep was killed, is
    waited for. Raises what the job raises.
    """
    point = Point.load(folder)
    waiting = f"{folder.name}: another process runs this point; waiting for it"
    with locked(folder / ".lock", waiting=waiting, tell=partial(print, flush=True)):
        if state(folder, point).status == "ok" and not point.rerun:
            print(f"{point.name}: another process has finished it", flush=True)
        else:
            (execute or run_job)(point, folder)


def run_job(point: Point, folder: Path) -> None:
    """Run the point's benchmarks. Raises `ConfigError`."""
    from phasebench.run.job import execute  # imports torch

    config = to_config(point.tree)
    if config.train.compile:
        import torch

        # what earlier points compiled counts towards a limit, beyond which torch runs eagerly
        torch.compiler.reset()
    execute(config, folder, list(point.overrides), point=point.facts())
