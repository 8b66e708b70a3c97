"""A point's process that measures nothing and takes no time, unless FAULTS says otherwise; what it does is in LOG.

FAULTS is JSON: the beginning of a point's name -> raise, oom, kill, hang. With REAL=1 the others are run for real.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from phasebench.config import to_config
from phasebench.results.file import ResultsFile
from phasebench.results.gate import BenchResult, Gate
from phasebench.run.sweep import child
from phasebench.run.sweep.point import Point


def fault(name: str) -> str:
    faults = json.loads(os.environ.get("FAULTS", "{}"))
    return next((what for start, what in faults.items() if name.startswith(start)), "")


def execute(point: Point, folder: Path) -> int:
    log(f"start {point.name} {os.getpid()}")
    what = fault(point.name)
    if what == "raise":
        raise RuntimeError("broken on purpose")
    if what == "oom":
        raise MemoryError("no memory on purpose")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    code = (
        child._execute(point, folder)
        if "REAL" in os.environ
        else fake(point, folder, 60.0 if what else 0.05)
    )
    log(f"done {point.name}")
    return code


def fake(point: Point, folder: Path, seconds: float) -> int:
    """A results.json with one benchmark after the other, as a real job writes it."""
    config = to_config(point.tree)
    results = ResultsFile(
        folder / "results.json",
        benchmark_name="fake",
        device="cpu",
        seed=0,
        config=config.recorded(),
        overrides=point.overrides,
        environment={},
        conditions=[],
        benches=list(config.bench),
        point=point.facts(),
    )
    for name in config.bench:
        results.start(name)
        time.sleep(seconds)
        results.finish(name, BenchResult(gates=[Gate("always", True, 1.0, "> 0")]), seconds)
    results.close()
    return results.exit_code


def log(line: str) -> None:
    """One line, whole also beside other writers."""
    file = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


if __name__ == "__main__":
    sys.exit(child.main(Path(sys.argv[1]), execute, int(sys.argv[2])))
