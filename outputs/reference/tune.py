"""Several trainings side by side within a time budget: a table of their perplexities, and weights in the cache.

    python outputs/reference/tune.py LINES OUT [--jobs 3] [--gpus 0,1] [--budget 540] -- COMMON OVERRIDES

LINES is a file with the overrides of one run a line; COMMON are those of all. Each run is `python runner.py COMMON
LINE` in a folder of OUT that is named by a hash of these overrides, with its log beside it; with --gpus, JOBS of them
on each of these. When the budget is spent the runs under way are ended: a training then goes on from its last
checkpoint when the same overrides are given again, and a run that has finished is not repeated.

For choosing hyperparameters, COMMON should hold bench=ppl bench.ppl.split=validation bench.ppl.seeds=null
bench.ppl.baseline=null bench.ppl.reference=null, and no gates.  Exit code 0 if all have finished, 3 if some have not, 2
if one failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RUNNER = Path(__file__).parents[2] / "runner.py"
LAST = 8  # recorded losses of training whose mean is shown
_VALID = re.compile(r"step (\d+)/(\d+).*valid ppl ([\d.e+]+)")


def main() -> int:
    arguments = _arguments()
    lines = [line.strip() for line in arguments.lines.read_text().splitlines()]
    trials = [line for line in lines if line and not line.startswith("#")]
    folders = {arguments.out / _digest(line, arguments): line for line in trials}
    _run_all(folders, arguments)
    rows = [_row(folder, line) for folder, line in folders.items()]
    (arguments.out / "tune.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in sorted(rows, key=lambda row: row["ppl"] or row["validation"] or float("inf")):
        values = (
            row[key] if row[key] is not None else float("nan")
            for key in ("ppl", "validation", "loss", "drift")
        )
        numbers = "{:9.3f} {:9.3f} {:7.3f} {:8.1e}".format(*values) + f" {row['progress']:>12}"
        print(f"{numbers} {row['status']:>9}  {row['line']}")
    if any(row["status"] == "failed" for row in rows):
        return 2
    return 0 if all(row["status"] == "ok" for row in rows) else 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lines", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument(
        "--gpus", type=lambda text: text.split(","), default=[None], help="0,1: these, JOBS on each"
    )
    parser.add_argument("--budget", type=float, default=540.0, help="seconds")
    parser.add_argument(
        "--runner", default=str(RUNNER), help="the program to run instead of runner.py"
    )
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    return parser.parse_args(words[:end], argparse.Namespace(common=words[end + 1 :]))


def _run_all(folders: dict[Path, str], arguments: argparse.Namespace) -> None:
    deadline = time.monotonic() + arguments.budget
    waiting = [folder for folder in folders if _results(folder) is None]
    slots = [(gpu, job) for job in range(arguments.jobs) for gpu in arguments.gpus]
    running: dict[tuple[str | None, int], subprocess.Popen[bytes]] = {}
    try:
        while (waiting or running) and time.monotonic() < deadline:
            for slot in slots:
                if waiting and slot not in running:
                    folder = waiting.pop(0)
                    running[slot] = _start(folder, folders[folder], slot[0], arguments)
            time.sleep(0.2)
            running = {slot: process for slot, process in running.items() if process.poll() is None}
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def _start(
    folder: Path, line: str, gpu: str | None, arguments: argparse.Namespace
) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})
    with (folder / "log.txt").open("ab") as log:
        command = [
            sys.executable,
            arguments.runner,
            *_words(line, arguments),
            f"hydra.run.dir={folder / 'run'}",
        ]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _words(line: str, arguments: argparse.Namespace) -> list[str]:
    return [*arguments.common, *shlex.split(line)]


def _digest(line: str, arguments: argparse.Namespace) -> str:
    return hashlib.sha256(json.dumps(_words(line, arguments)).encode()).hexdigest()[:12]


def _results(folder: Path, status: str = "ok") -> dict | None:
    """The results of a run that ended with that status; None where there are none."""
    path = folder / "run" / "results.json"
    found = json.loads(path.read_text()) if path.exists() else None
    return found if found and found["status"] == status else None


def _row(folder: Path, line: str) -> dict:
    """What is known of a run: perplexity, last losses and drift if it has finished, the last validation in its log."""
    found, log = _results(folder), folder / "log.txt"
    text = log.read_text(errors="replace") if log.exists() else ""
    seen = _VALID.findall(text)
    row: dict[str, Any] = dict.fromkeys(("ppl", "seconds", "loss", "drift"))
    row |= {"line": line, "folder": folder.name, "validation": float(seen[-1][2]) if seen else None}
    row["progress"] = "/".join(seen[-1][:2]) if seen else "-"
    row["status"] = "unstarted" if not text else "cut off"
    if found:
        candidate = found["benches"]["ppl"]["details"]["candidate"]
        row |= {"status": "ok", "ppl": found["benches"]["ppl"]["metrics"]["candidate_ppl"]["value"]}
        row |= {"seconds": candidate["weights"].get("seconds")}
        validations, losses = (
            candidate["weights"].get("validations", []),
            candidate["weights"].get("steps", [])[-LAST:],
        )
        row["curve"] = [(v["step"], v["perplexity"]) for v in validations]
        row["loss"] = sum(step["loss"] for step in losses) / len(losses) if losses else None
        row["drift"] = (
            max(validations[-1].get("max_drift") or [], default=None) if validations else None
        )
    elif _results(folder, "failed") or "phasebench: " in text or "Traceback" in text:
        row["status"] = "failed"
    return row


if __name__ == "__main__":
    sys.exit(main())
