"""Overrides are checked before Hydra sees them; texts stay as typed, strangers' code stays out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from commands import TINY_ENERGY, Command, refuses
from paths import ROOT
from phasebench.config import ConfigError
from phasebench.run.overrides import prepare


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("bench.vram.sqe=1024", ["bench.vram.sqe=1024", "unknown key", "did you mean 'seq'"]),
        ("+bench.vram.sqe=1024", ["bench.vram.sqe=1024", "unknown key", "did you mean 'seq'"]),
        ("model.oed.steps=3", ["model.oed=3", "unknown key", "did you mean 'ode'"]),
        ("model.ode.stpes=3", ["model.ode.stpes=3", "did you mean 'steps'"]),
        ("model={ode: {stpes: 3}}", ["model.ode.stpes=3", "did you mean 'steps'"]),
        ("nonsense=1", ["nonsense=1", "unknown key", "device"]),
        ("bench.vram.seq=many", ["bench.vram.seq=many", "Integer"]),
        ("bench.energy.dts=[0.1,x]", ["bench.energy.dts=[0.1, 'x']", "Float"]),
        ("train.compile=maybe", ["train.compile=maybe", "bool"]),
        (
            "model=stage4",
            ["model=stage4", "gpt, hf, momentum, stage1, stage2, stage3", "did you mean"],
        ),
        ("model@bench.ppl.reference=gtp", ["model=gtp", "did you mean 'gpt'"]),
        ("model@bench.ppl.reference=null", ["model=None", "fix: bench.ppl.reference=null"]),
        ("bench=[vram,sped]", ["bench=sped", "speed, vram", "'speed'"]),
        ("scale=seed", ["scale=seed", "auto, laptop, spec", "fix: scale=spec"]),
        ("experiment=seed", ["experiment=seed", "fix: experiment=spec"]),
        ("bench.vram.seq=[", ["bench.vram.seq=[", "cannot be composed", "quote"]),
        ("bench.vram.seq=8,16", ["bench.vram.seq=8,16", "Ambiguous value", "put -m"]),
        ("sweep=ode", ["sweep=ode", "a plus", "+sweep=ode"]),
    ],
)
def test_an_override_is_refused_before_hydra_composes(words: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        prepare([words])
    assert [part for part in parts if part not in str(error.value)] == []


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "bench.vram.seq=8,16", "model=stage1,stage2"],
        ["-m", "seed=range(0,3)", "model=glob(*)"],
        ["bench=[ppl,energy]", "bench.ppl.baseline=null", "~experiment"],
        ["model.ode.steps=${bench.energy.steps}", "model.lr=null", "bench.vram.find=null"],
        ["hydra.run.dir=here", "hydra/launcher=joblib", "scale.model.dim=8"],
        ["bench.energy.dts=[0.1,1]", "model.dropout={input: 0.1}", "benchmark_name='a b'"],
        ["-sc", "query=bash"],
    ],
)
def test_what_is_sound_reaches_hydra_as_it_is(words: list[str]) -> None:
    assert prepare(words) == words


# issue 22, kind 5: a library's small language reads the user's text


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("sweep_name=2026_11_27", "2026_11_27"),
        ("benchmark_name=1e3", "1e3"),
        ("benchmark_name=true", "true"),
        ("data.path=/x/a[1].txt", "/x/a[1].txt"),
        ("data.path=/x/a (1).txt", "/x/a (1).txt"),
        ("data.path=~/texts/it's", "~/texts/it's"),
        ("data.path=a,b.txt", "a,b.txt"),
        ("output={1}.json", "{1}.json"),
        ("model.checkpoint=null", None),
        ("benchmark_name='007'", "007"),
    ],
)
def test_kind_5_text_stays_text_as_typed(word: str, wanted: str | None) -> None:
    (prepared,) = prepare([word])
    assert OverridesParser.create().parse_override(prepared).value() == wanted


def test_kind_5_texts_of_a_sweep_stay_texts() -> None:
    _, prepared = prepare(["-m", "benchmark_name=1_0,2_0"])
    override = OverridesParser.create().parse_override(prepared)
    assert [entry.text for entry in override.sweep_iterator()] == ["1_0", "2_0"]


def test_kind_5_a_path_in_brackets_is_a_file(command: Command, tmp_path: Path) -> None:
    text = tmp_path / "text[1].txt"
    text.write_text("some words of a text\n" * 9)
    refuses(
        command(f"bench=ppl device=cpu data=text data.path={text} train.seq=4096"), "train.seq=4096"
    )


@pytest.mark.parametrize("key", ["data.path", "model.checkpoint", "output", "cache_dir"])
def test_kind_5_an_unknown_user_is_a_message(command: Command, key: str) -> None:
    refuses(command(f"bench=vram device=cpu {key}=~nosuchuser/x"), f"{key}=~nosuchuser/x")


# issue 22, kind 10: exit codes and pipes


@pytest.mark.parametrize("bench", ["ppl", "budget", "vram", "speed"])
def test_kind_10_a_key_of_a_model_that_is_not_there(command: Command, bench: str) -> None:
    outcome = command(f"bench={bench} device=cpu bench.{bench}.reference.dim=8")
    refuses(outcome, f"bench.{bench}.reference.dim=8", f"model@bench.{bench}.reference=gpt")


def test_kind_10_an_unknown_key_of_a_model_that_is_not_there(command: Command) -> None:
    refuses(command("bench=ppl device=cpu bench.ppl.reference.dmi=8"), "did you mean 'dim'")


def test_kind_10_a_run_that_nobody_reads_has_its_own_exit_code(tmp_path: Path) -> None:
    line = [sys.executable, str(ROOT / "runner.py"), "bench=grad", "device=cpu", "scale=laptop"]
    line += ["model.dim=4", "model.heads=1", "model.blocks=1", "model.hidden=4"]
    line += ["bench.grad.tokens=4", "bench.grad.steps=[1,2]", "bench.grad.integrators=[leapfrog]"]
    line += ["bench.grad.stiffness=[1]", "bench.grad.precisions=[fp32]"]
    line += ["bench.grad.methods=[adjoint_exact]"]
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    run = subprocess.Popen(
        line, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout
    assert run.stderr
    run.stdout.close()  # as `| head -1` does
    errors = run.stderr.read().decode()
    run.stderr.close()
    assert run.wait(timeout=120) == 0, errors
    assert "Traceback" not in errors
    assert len(list(tmp_path.rglob("results.json"))) == 1


# issue 22, kind 11: code from a command line


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.callbacks.x={_target_: shutil.copy, src: a, dst: b}",
        "+hydra.callbacks.x._target_=os.system",
        "hydra.sweeper._target_=os.system",
        "+hydra.launcher.list=[{_target_: os.system}]",
        "+hydra.job_logging.handlers.x={class: os.system}",
    ],
)
def test_kind_11_code_of_a_stranger_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="is code outside phasebench"):
        prepare([word])


def test_kind_11_code_in_a_folder_of_the_command_is_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "x.yaml"
    file.write_text(
        "# @package _global_\nhydra: {job_logging: {filters: {x: {(): shutil.copy}}}}\n"
    )
    words = ["--config-dir", str(tmp_path), "experiment=x"]
    with pytest.raises(ConfigError, match=r"x\.yaml.*\(\)=shutil\.copy"):
        prepare(words)
    assert prepare([*words, "allow_targets=true"]) == [*words, "allow_targets=true"]


def test_kind_11_plugins_are_trusted() -> None:
    words = ["hydra.launcher._target_=hydra_plugins.x.Y", "hydra.sweeper._target_=phasebench.x.Y"]
    assert prepare(words) == words


def test_a_value_out_of_range_is_left_to_its_point(command: Command) -> None:
    outcome = command("-m", "bench=energy", "dry_run=true", "device=cpu", TINY_ENERGY, "seed=1,-1")
    assert outcome.code == 2
    assert "cannot run: seed=-1" in outcome.out
    assert "seed=1: would run" in outcome.out


def test_keys_of_a_potential_of_one_s_own_take_the_place_of_its_name() -> None:
    words = ["model.ode.potential._target_=mypkg.V", "model.ode.potential.depth=2"]
    with pytest.raises(
        ConfigError, match=r"mypkg.V: is code outside .*\n  fix: allow_targets=true"
    ):
        prepare(words)
    found = prepare([*words, "allow_targets=true"])
    assert found == [f"++{word}" for word in words] + ["allow_targets=true"]
