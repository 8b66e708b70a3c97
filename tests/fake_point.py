"""A point's process that measures nothing and takes no time, unless FAULTS says otherwise; what it
does is in LOG.

FAULTS is JSON: the beginning of a point's name -> raise, oom, kill, hang.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from phasebench.config import to_config
from phasebench.report.read import EXPECTED
from phasebench.results.file import ResultsFile
from phasebench.results.gate import BenchResult, Gate
from phasebench.run.sweep import worker
from phasebench.run.sweep.point import Point


def fault(name: str) -> str:
    faults = json.loads(os.environ.get("FAULTS", "{}"))
    return next((what for start, what in faults.items() if name.startswith(start)), "")


def run_saved(folder: Path) -> None:
    worker.run_saved(folder, execute)


def execute(point: Point, folder: Path) -> None:
    log(f"start {point.name} {os.getpid()}")
    what = fault(point.name)
    if what == "raise":
        raise RuntimeError("broken on purpose")
    if what == "oom":
        raise MemoryError("no memory on purpose")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    fake(point, folder, 60.0 if what else 0.05)
    log(f"done {point.name}")


def fake(point: Point, folder: Path, seconds: float) -> None:
    """A results.json with one benchmark after the other, as a real job writes it."""
    config = to_config(point.tree)
    results = ResultsFile(
        folder / "results.json",
        device="cpu",
        config=config.recorded(),
        overrides=point.overrides,
        environment={},
        point=point.facts(),
    )
    for name in config.bench:
        results.start(name)
        time.sleep(seconds)
        gates = [Gate(gate, True, 1.0, "> 0") for gate in EXPECTED[name]]
        results.finish(name, BenchResult(gates=gates), seconds)
    results.close()


def log(line: str) -> None:
    """One line, whole also beside other writers."""
    file = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)
