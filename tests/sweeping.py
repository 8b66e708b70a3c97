"""Sweeps in processes of their own, as a user starts them; as a program: runner.py with
`fake_point` for its jobs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from paths import ROOT

# two benchmarks for the fake job
FAKE = "device=cpu scale=laptop data=synthetic bench=[grad,vram]".split()


class Sweep:
    """Commands in one folder, with one log of what their fake jobs did."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log.txt"

    def start(
        self,
        *words: str,
        faults: dict[str, str] | None = None,
        stderr: int = subprocess.STDOUT,
    ) -> subprocess.Popen[str]:
        paths = os.pathsep.join(str(ROOT / part) for part in ("src", "tests", "."))
        env = os.environ | {
            "PYTHONPATH": paths,
            "LOG": str(self.log),
            "FAULTS": json.dumps(faults or {}),
        }
        line = [sys.executable, str(ROOT / "tests" / "sweeping.py"), "-m", *FAKE, *words]
        return subprocess.Popen(
            line,
            cwd=self.folder,
            env=env,
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=stderr,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # ignored in background jobs
        )

    def run(self, *words: str, **how: Any) -> tuple[int, str]:
        """Exit code and output of a sweep (see `start`)."""
        process = self.start(*words, **how)
        out, _ = process.communicate(timeout=240)
        return process.returncode, out

    def logged(self, what: str) -> list[str]:
        """Names of the points of which the log says that, in the log's order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split()[1] for line in lines if line.startswith(f"{what} ")]

    def points(self, name: str) -> dict[str, dict[str, Any]]:
        """What sweep.json says, by the swept values."""
        found = json.loads((self.folder / "outputs" / "sweeps" / name / "sweep.json").read_text())
        return {" ".join(point["swept"]): point for point in found["points"]}

    def results(self) -> dict[str, dict[str, Any]]:
        """Every results.json below the folder, by the name of the folder that it is in."""
        return {
            file.parent.name: json.loads(file.read_text())
            for file in self.folder.rglob("results.json")
        }


if __name__ == "__main__":
    import runner

    import fake_point
    from phasebench.run import hydra_app as run
    from phasebench.run.sweep import grid, worker

    worker.run_saved = fake_point.run_saved
    grid._report = lambda *_: "report: none of fake points"  # its libraries take a second to load
    sys.exit(run.command(runner.job))
