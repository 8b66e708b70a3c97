"""The command as a user calls it, in this process: compositions, bad input, failures, results."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from safetensors.torch import load_file

from commands import (
    TINY,
    TINY_ENERGY,
    TINY_GRAD,
    TINY_PPL,
    TINY_SPEED,
    TINY_VRAM,
    Command,
    refuses,
)
from paths import ROOT
from phasebench.results.file import load

sys.path.insert(0, str(ROOT))


def test_all_of_it(command: Command, tmp_path: Path) -> None:
    words = [*TINY, TINY_PPL, TINY_ENERGY]
    others = [TINY_VRAM, "bench.vram.seq=64", TINY_GRAD, TINY_SPEED]
    first = command("bench=all", *words, *others, "output=copy/here.json")
    (results,) = first.results
    assert json.loads((tmp_path / "copy" / "here.json").read_text()) == results
    assert results["status"] == "ok"
    assert results["comparable"] is False
    assert first.code == (0 if results["all_pass"] else 1)
    assert results["stage2_ppl"] > 1
    assert results["max_drift"] > 0
    assert (
        min(results["vram_symplectic_gb"], results["vram_full_backprop_gb"]) > 0
    )  # mostly workspace
    assert "trained" in {results["benches"]["ppl"]["details"]["candidate"]["weights"]["origin"]}
    again = command("bench=[ppl,energy]", *words)
    assert (
        again.results[0]["benches"]["ppl"]["details"]["candidate"]["weights"]["origin"] == "cache"
    )
    assert again.results[0]["stage2_ppl"] == results["stage2_ppl"]
    assert again.results[0]["max_drift"] == results["max_drift"]


def test_a_bad_point_of_a_multirun_leaves_the_others(command: Command) -> None:
    words = [*TINY, TINY_GRAD, "bench.grad.methods=[adjoint_exact]", "model.ode.dt=-1,0.05"]
    outcome = command("-m", "bench=grad", *words)
    assert outcome.code == 2
    assert [r["config"]["model"]["ode"]["dt"] for r in outcome.results] == [0.05]
    assert "model.ode.dt=-1" in outcome.out
    assert "report.html" in outcome.out


def test_a_benchmark_that_raises_leaves_the_others(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phasebench.bench.ppl import bench as ppl

    def broken(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(ppl, "run", broken)
    outcome = command("bench=[ppl,energy]", *TINY, TINY_ENERGY)
    (results,) = outcome.results
    assert outcome.code == 2
    assert results["benches"]["ppl"]["error"]["message"] == "broken on purpose"
    assert list(results["benches"]) == ["ppl", "energy"]
    assert results["benches"]["energy"]["status"] == "ok"
    assert results["all_pass"] is False
    assert results["vram_pass"] is None
    assert "not asked for" in results["null_reasons"]["vram_pass"]
    assert results["max_drift"] is not None


@pytest.fixture
def no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whatever asks for an address, or opens a socket that is not one of this machine's."""

    def refuse(family: int = socket.AF_INET, *_: object, **__: object) -> None:
        assert family == socket.AF_UNIX, "an internet socket was asked for"

    class Local(socket.socket):
        def __init__(self, family: int = socket.AF_INET, *how: int, **more: int) -> None:
            refuse(family)
            super().__init__(family, *how, **more)

    monkeypatch.setattr(socket, "socket", Local)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_internet")
def test_a_failed_gate_is_exit_code_1_and_a_run_opens_no_internet_socket(command: Command) -> None:
    outcome = command("bench=energy", *TINY, TINY_ENERGY, "bench.energy.target=1e-30")
    assert outcome.code == 1
    assert outcome.results[0]["energy_pass"] is False
    assert "FAIL" in outcome.out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("bench=vram bench.vram.seq=0", ["bench.vram.seq=0", "at least 2"]),
        (
            "bench=ppl bench.vram.seq=8",
            ["bench.vram.seq=8", "not part of this run", "bench=[ppl,vram]"],
        ),
        ("bench=vram scale.model.dim=8 device=cpu", ["scale.model", "model.dim", "scale=laptop"]),
        ("bench=null", ["bench"]),
        ("+sweep=ode device=cpu", ["sweep_name", "single run", "put -m"]),
        ("bench=vram device=cpu dry_run=true", ["sweep_name", "put -m"]),
        ("bench=vram device=cpu track=[mflow]", ["track=mflow", "did you mean 'mlflow'"]),
        ("bench=vram device=cpu seed=-1", ["seed=-1", "at least 0"]),
        (
            "bench=[vram,ppl] model=stage1 data=synthetic device=cpu",
            ["model=stage1", "model=stage2"],
        ),
        (
            "bench=energy data=synthetic device=cpu bench.energy.seq=999999",
            ["bench.energy.seq=999999", "split has"],
        ),
        ("bench=ppl data=wikitext2 data.path=/nowhere", ["data.path=/nowhere"]),
        ("bench=energy data=text", ["data.path"]),
        (
            "bench=energy data=synthetic device=cpu train.graph=true model.recompute=[tail]",
            ["train.graph=True", "model.recompute=[head]"],
        ),
        ("bench=vram device=cuda", ["device=cuda", "no such GPU", "device=cpu"]),
        ("bench=vram device=cpu:one", ["device=cpu:one", "choices"]),
        (
            "bench=vram device=cpu output=/proc/nothing/here.json",
            ["output=/proc/nothing/here.json"],
        ),
        (
            "bench=vram device=cpu hydra.run.dir=/proc/nothing",
            ["/proc/nothing", "choose a folder", "hydra.run.dir"],
        ),
        (
            "bench=energy data=synthetic model.checkpoint=/nowhere.safetensors",
            ["model.checkpoint=/nowhere"],
        ),
    ],
)
def test_bad_input(command: Command, words: str, parts: list[str]) -> None:
    refuses(command(words), *parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("sweep_name=../away", ["sweep_name=../away", "not the name of a folder"]),
        ("sweep_name=a output=here.json", ["output=here.json", "every point"]),
        ("model.ode.steps=1,x", ["model.ode.steps=x", "Integer"]),
        ("model.ode.dt=interval(0,1)", ["model.ode.dt", "no list of values"]),
        ("hydra.sweep.dir=/proc/nothing", ["/proc/nothing", "choose a folder"]),
    ],
)
def test_bad_sweeps_start_nothing(command: Command, words: str, parts: list[str]) -> None:
    outcome = command("-m device=cpu bench=vram", words)
    refuses(outcome, *parts)
    assert outcome.results == []


@pytest.mark.parametrize("name", ["ode", "dt", "integrator", "batch_seq", "precision"])
def test_a_preset_is_a_grid_that_composes(command: Command, name: str, tmp_path: Path) -> None:
    """With one value on each axis but the last, which has two."""
    preset = OmegaConf.load(ROOT / "conf" / "sweep" / f"{name}.yaml").hydra.sweeper.params
    axes = {key: str(values).split(",") for key, values in preset.items()}
    few = [f"{key}={values[0]}" for key, values in axes.items()]
    few[-1] += "," + axes[few[-1].partition("=")[0]][-1]
    outcome = command(f"-m +sweep={name} dry_run=true sweep_name=a device=cpu", *few)
    assert outcome.code == 0, outcome.err
    assert "outputs/sweeps/a: 2 of 2 points would run" in outcome.out
    assert outcome.out.count("would run: no results yet") == 2
    assert list(tmp_path.iterdir()) == []


def test_the_reference_preset_lists_every_kept_run(command: Command) -> None:
    outcome = command("-m +sweep=reference dry_run=true device=cpu data.path=FOLDER")
    runs = yaml.safe_load((ROOT / "conf/sweep/reference.yaml").read_text())
    asked = [set(run.split()) for run in runs["hydra"]["sweeper"]["runs"]]
    assert outcome.code == 0, outcome.err
    assert f"outputs/sweeps/reference: {len(asked)} of {len(asked)} points" in outcome.out
    kept = [load(file) for file in (ROOT / "outputs/reference").rglob("results.json")]
    made = [run for run in kept if "merged from" not in json.dumps(run["benches"])]
    assert made
    assert [
        run["overrides"] for run in made if {*run["overrides"]} - {"data.path=FOLDER"} not in asked
    ] == []


def test_a_dry_run_tells_of_points_that_cannot_run(command: Command) -> None:
    outcome = command("-m bench=vram device=cpu dry_run=true job_timeout_s=-1,5")
    assert outcome.code == 2
    assert "cannot run: job_timeout_s=-1" in outcome.out
    assert "job_timeout_s=5: would run" in outcome.out
    assert (
        "1 points have the configuration of another"
        in command("-m bench=vram device=cpu dry_run=true job_timeout_s=4,5").out
    )


def test_bad_texts(command: Command, tmp_path: Path) -> None:
    empty, short = tmp_path / "empty.txt", tmp_path / "short.txt"
    empty.write_text("")
    short.write_text("a few words\n" * 40)
    refuses(
        command(f"bench=ppl device=cpu data=text data.path={empty}"), f"data.path={empty}", "empty"
    )
    refuses(
        command(f"bench=ppl device=cpu data=text data.path={short} train.seq=4096"),
        "train.seq=4096",
        "tokens",
    )


def test_bad_checkpoints(command: Command, tmp_path: Path) -> None:
    words = [*TINY, TINY_ENERGY]
    assert command("bench=energy", *words).results[0]["status"] == "ok"
    (good,) = (tmp_path / "outputs" / "cache" / "weights").glob("stage2*.safetensors")
    short, foreign = tmp_path / "short.safetensors", tmp_path / "foreign.safetensors"
    short.write_bytes(good.read_bytes()[:-100])
    foreign.write_bytes(b"not a checkpoint at all")
    assert command("bench=energy", *words, f"model.checkpoint={good}").code in (0, 1)
    for file in (short, foreign):
        refuses(
            command("bench=energy", *words, f"model.checkpoint={file}"), f"model.checkpoint={file}"
        )
    refuses(
        command("bench=energy", *words, f"model.checkpoint={good}", "model.ode.steps=3"),
        "model.checkpoint",
        "model.ode.steps",
    )


def test_an_existing_copy_survives_bad_input(command: Command, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text('{\n  "schema_version": 2, "of": "last week"}')
    refuses(
        command(f"bench=energy device=cpu data=text data.path=/nowhere output={kept}"), "data.path"
    )
    assert "last week" in kept.read_text()


def test_a_killed_training_goes_on(command: Command, tmp_path: Path) -> None:
    """After SIGKILL the second run resumes and ends with the weights of an unbroken one."""
    words = [
        *TINY,
        *TINY_ENERGY.split(),
        "bench=energy",
        "train.steps=100",
        "train.checkpoint_every=10",
        "train.validate_every=100000",
        "model.ode.steps=1",
    ]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    line = [sys.executable, str(ROOT / "runner.py"), *words]
    first = subprocess.Popen(
        line, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    partial = tmp_path / "outputs" / "cache" / "weights"
    deadline = time.monotonic() + 120
    while not list(partial.glob("*.partial.safetensors")):
        assert first.poll() is None, "ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    weights = []
    for cache in ("outputs/cache", "unbroken"):
        (results,) = command(words, f"cache_dir={cache}").results
        (file,) = (tmp_path / cache / "weights").glob("*.safetensors")
        weights.append(file)
        resumed = results["benches"]["energy"]["details"]["weights"]["resumed_from"]
        assert (resumed is None) == (cache == "unbroken")
    a, b = (load_file(file) for file in weights)
    assert a.keys() == b.keys()
    assert all(a[k].equal(b[k]) for k in a)


def test_the_configuration_is_shown_fast_and_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, runner; sys.argv = ['runner.py', '--cfg', 'job'];"
        "from phasebench.run import hydra_app as run; code = run.command(runner.job);"
        "assert 'torch' not in sys.modules and 'pyarrow' not in sys.modules; sys.exit(code)"
    )
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bench:" in done.stdout
