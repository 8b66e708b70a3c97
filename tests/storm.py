"""SIGKILL storms: the same command again and again, killed at random moments, until it ends.

    PYTHONPATH=src python -m tests.storm --kills 1000

Nothing may be lost. A training goes on from its last checkpoint and repeats no logged step, a point
of a sweep that has ended stays as it is. At the end weights are equal bit for bit to those of an
undisturbed run, and so are the results but for times. No temporary file, no unfinished training and
no process is left. The first difference ends the storm with exit code 1 and the folder that has it.

A start costs little: this process has imported torch and phasebench, and each start is a fork of it
that runs runner.py's command. Sweeps start processes of their own, as they always do.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}  # for torch

import psutil
import runner
import torch  # noqa: F401

from phasebench.results.file import load
from phasebench.run import hydra_app
from phasebench.training.checkpoint import load as load_checkpoint

MODEL = "model.dim=8 model.blocks=1 model.heads=2 model.hidden=16 model.ode.steps=1"
GRAD = (
    "bench.grad.tokens=4 bench.grad.stiffness=[1] bench.grad.precisions=[fp32] "
    "bench.grad.integrators=[leapfrog] bench.grad.steps=[1,3]"
)
VRAM = (
    "bench.vram.vocab=50 bench.vram.seq=64 bench.vram.curve_steps=[] bench.vram.curve_seq=[] "
    "bench.vram.arms=[adjoint_exact,backprop]"
)
TRAIN = (
    "data.synthetic.rows=80 train.batch=2 train.seq=32 train.warmup=1 train.checkpoint_every=3 "
    "train.validate_every=20 train.validate_tokens=64 train.steps="
)
ENERGY = (
    "bench=energy bench.energy.batch=1 bench.energy.seq=16 bench.energy.steps=10 "
    "bench.energy.discretisation_target=null"
)
PPL = "bench=ppl bench.ppl.baseline=null model=stage1"
SCENARIOS = {  # name -> share of the kills, and the command
    "training": (10, f"{PPL} {TRAIN}50 model.dropout.input=0.1 train.patience=9"),
    "average": (10, f"{PPL} {TRAIN}50 train.average=ema train.optimizer=muon"),
    "trunk": (10, f"{PPL} {TRAIN}50 train.schedule=wsd train.precision=fp16"),
    "two models": (6, f"bench=ppl bench.ppl.baseline.dim=8 bench.ppl.baseline.heads=2 {TRAIN}30"),
    "energy": (3, f"{ENERGY} {TRAIN}30"),
    "grad": (6, f"bench=grad {GRAD}"),
    "vram": (1, f"bench=vram {VRAM}"),
    "sweep": (1, f"sweep_name=storm seed=1,2 {ENERGY} {TRAIN}15"),
    "sweep of grads": (1, f"sweep_name=storm seed=1,2 bench=grad {GRAD}"),
}
COMMON = f"device=cpu scale=laptop data=synthetic {MODEL}"
IN_A_ROW = 12  # kills, before a command may end
MARK = "PHASEBENCH_STORM"  # in the environment of all that a start has started
TIMES = ("seconds", "_s", "_ms", "tokens_per_s")


class Broken(AssertionError):
    """Something is lost, differs or is left."""


def start(words: str, folder: Path) -> int:
    """Fork a process that runs the command in a folder, as the head of a group; return its id."""
    if pid := os.fork():
        with contextlib.suppress(PermissionError, ProcessLookupError):  # it has done it, or ended
            os.setpgid(pid, pid)
        return pid
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        os.environ[MARK] = str(folder)
        log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        before = "-m" if "sweep_name=" in words else "hydra.run.dir=run"
        sys.argv[1:] = f"{before} {COMMON} {words}".split()
        code = hydra_app.command(runner.job)
        folder.with_suffix(".modules").write_text("\n".join(sys.modules))
        sys.stdout.flush()
        os._exit(code)
    finally:
        os._exit(99)


def wait(pid: int, seconds: float = 600.0) -> int | None:
    """Wait for a process; return its exit code, None where it was killed after that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def processes(folder: Path) -> list[str]:
    """List the processes that starts in a folder have started and that still live, after 20 s."""
    for _ in range(400):
        left = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(folder):
                    left.append(f"{process.pid} {process.cmdline()}")
            except psutil.Error:  # it has ended, or is another user's
                continue
        if not left:
            return []
        time.sleep(0.05)
    return left


def weights(folder: Path) -> dict[str, Any]:
    """Return all that a finished training determines: a hash of its tensors, and its history."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        raw = path.read_bytes()
        size = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:size])
        history = json.loads(header.pop("__metadata__")["history"])
        steps = [without_times(step) for step in history["steps"]]
        kept = {key: history[key] for key in ("validations", "stopped", "weights", "best_step")}
        tensors = json.dumps(header, sort_keys=True).encode() + raw[size:]
        found[path.name] = {"tensors": hashlib.sha256(tensors).hexdigest(), "steps": steps, **kept}
    return found


def results(folder: Path) -> dict[str, Any]:
    """Return what the results.json files say, without times."""
    found = {}
    for path in sorted(folder.rglob("results.json")):
        content = load(path)
        benches = {
            name: {
                "status": bench["status"],
                "metrics": without_times({k: m["value"] for k, m in bench["metrics"].items()}),
                "gates": bench["gates"],
            }
            for name, bench in content["benches"].items()
        }
        top = {key: content[key] for key in ("status", "all_pass", "config_hash")}
        found[str(path.relative_to(folder))] = top | benches
    return found


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if not any(word in k for word in TIMES)}


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def state(folder: Path) -> dict[str, Any]:
    """Return what the next start must not lose: steps of trainings, files that are whole."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*.safetensors"):
        checkpoint = load_checkpoint(path)  # raises where a kill has left a part of a file
        partial = ".partial." in path.name
        found[path.name.replace(".partial.", ".")] = checkpoint.step if partial else 10**9
    for path in folder.glob("outputs/sweeps/*/*/results.json"):
        if load(path)["status"] != "running":
            found[path.parent.name] = path.stat().st_mtime_ns
    return found


def same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if found[key] != value:
            raise Broken(f"{folder}: {key} differ:\n{found[key]}\nundisturbed:\n{value}")


class Storm:
    """Kills, and counts what they met."""

    def __init__(self, folder: Path, seed: int, names: list[str]) -> None:
        self.folder, self.draw, self.names = folder, random.Random(seed), names
        self.counts: collections.Counter[str] = collections.Counter()
        self.whole: dict[str, tuple[float, dict[str, Any]]] = {}  # undisturbed: seconds, outcome

    def outcome(self, folder: Path, code: int | None) -> dict[str, Any]:
        known = {"code": code, "weights": weights(folder), "results": results(folder)}
        return known | {"files": files(folder)}

    def undisturbed(self, name: str) -> tuple[float, dict[str, Any]]:
        """Run a command twice; return seconds and outcome of the second, which are the first's."""
        outcomes = []
        for turn in () if name in self.whole else ("first", "second"):
            folder = self.folder / f"{turn} {name}"
            folder.mkdir()
            begun = time.monotonic()
            code = wait(start(SCENARIOS[name][1], folder))
            seconds = time.monotonic() - begun
            if code not in (0, 1, 2) or not results(folder):
                raise Broken(f"{folder}: exit code {code}")
            for module in folder.with_suffix(".modules").read_text().split():
                with contextlib.suppress(ImportError):  # one that only that process could make
                    importlib.import_module(module)  # which no later start needs to do
            outcomes.append(self.outcome(folder, code))
            self.whole[name] = seconds, outcomes[-1]
            print(f"undisturbed {name}: {seconds:.1f} s, exit code {code}", flush=True)
        if outcomes:
            same(self.folder / name, *outcomes)
        return self.whole[name]

    def blow(self, most: int) -> None:
        """Run one command to its end through at most so many kills."""
        (name,) = self.draw.choices(self.names, [SCENARIOS[name][0] for name in self.names])
        seconds, wanted = self.undisturbed(name)
        self.counts["commands"] += 1
        folder = self.folder / f"{self.counts['commands']:04d} {name}"
        folder.mkdir()
        code, before = None, {}
        for _ in range(min(most, IN_A_ROW)):
            moment = seconds * self.draw.random() ** 1.5  # early more often, which costs less
            code = wait(start(SCENARIOS[name][1], folder), moment)
            if code is not None:
                break
            self.counts["kills"] += 1
            self.counts[f"kills of {name}"] += 1
            if left := processes(folder):
                raise Broken(f"{folder}: processes are left: {left}")
            after = state(folder)
            for key, value in before.items():
                if after.get(key, -1) < value or (value > 10**9 and after[key] != value):
                    raise Broken(f"{folder}: {key} was at {value} and is at {after.get(key)}")
            self.counts["kills that left a temporary file"] += any(
                ".phasebench-" in file for file in files(folder)
            )
            self.counts["kills with a training to resume"] += any(
                0 < value < 10**9 for value in after.values()
            )
            before = after
        if code is None:
            code = wait(start(SCENARIOS[name][1], folder))
        if left := processes(folder):
            raise Broken(f"{folder}: processes are left: {left}")
        same(folder, self.outcome(folder, code), wanted)
        shutil.rmtree(folder)
        folder.with_suffix(".log").unlink()
        folder.with_suffix(".modules").unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=[*SCENARIOS])
    options = parser.parse_args()
    storm = Storm(Path(tempfile.mkdtemp(prefix="storm-")), options.seed, options.only)
    begun = time.monotonic()
    try:
        while (done := storm.counts["kills"]) < options.kills:
            storm.blow(options.kills - done)
            print(f"{storm.counts['kills']} kills, {time.monotonic() - begun:.0f} s", flush=True)
    except Exception as error:
        print(f"storm: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    finally:
        for what, count in sorted(storm.counts.items()):
            print(f"{count:6d} {what}")
    shutil.rmtree(storm.folder)
    print("nothing lost; weights and results equal; no file and no process left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
