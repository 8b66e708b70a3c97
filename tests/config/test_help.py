"""What --help and shell completion say, and that they say it without torch."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keys import leaves
from paths import ROOT
from phasebench.config import BENCH_SCHEMAS, Config, ModelConfig
from phasebench.config.validation import field_types, keys_at

CLASSES = [Config, ModelConfig, *BENCH_SCHEMAS.values()]
BIN = Path(sys.executable).parent


def told(*words: str, **environment: str) -> str:
    """What a command prints, in a process that does not import torch."""
    script = (
        "import sys, runner; from phasebench.run import hydra_app as run;"
        f"sys.argv = ['runner.py', *{list(words)!r}]; code = run.command(runner.job);"
        f"assert not {{'torch', 'pyarrow', 'numpy'}} & set(sys.modules); sys.exit(code)"
    )
    env = (
        os.environ
        | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "COLUMNS": "120"}
        | environment
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def text() -> str:
    """The help, of a run that measures everything."""
    return told(f"bench=[{','.join(BENCH_SCHEMAS)}]", "device=cpu", "--help")


def test_help_lists_every_key_group_and_option(text: str) -> None:
    keys = [
        *leaves(Config),
        *(key for name, cls in BENCH_SCHEMAS.items() for key in leaves(cls, f"bench.{name}.")),
    ]
    assert len(keys) > 80
    assert [
        key for key in keys if not re.search(rf"^  {re.escape(key)}( |$)", text, re.MULTILINE)
    ] == []
    options = [(file.parent.name, file.stem) for file in (ROOT / "conf").glob("*/*.yaml")]
    assert len(options) > 15
    assert [
        o for o in options if not re.search(rf"^  {o[0]} .*\b{o[1]}\b", text, re.MULTILINE)
    ] == []
    assert "step size, in the units of H's time; above 0.0" in text
    assert (
        "  train.accumulate                   1                parts into which a batch is split"
        in text
    )
    assert 'eval "$(python runner.py -sc install=bash)"' in text
    lines = [line for line in text.splitlines() if " | " not in line]  # groups take a line each
    assert max(map(len, lines)) <= 120


def test_help_shows_the_values_that_the_words_before_it_set() -> None:
    text = told("model=stage1", "scale=laptop", "model.dim=12", "--help")
    assert re.search(r"^  model.name +stage1 ", text, re.MULTILINE)
    assert re.search(r"^  model.dim +12 ", text, re.MULTILINE)
    assert re.search(r"^  scale +laptop ", text, re.MULTILINE)


def test_every_example_of_the_help_is_a_command(text: str) -> None:
    examples = re.findall(r"^  (python runner\.py .*?)(?:   |$)", text, re.MULTILINE)
    assert len(examples) >= 7
    for example in examples:
        words = [
            word for word in example.split()[2:] if word not in ("-m", "--cfg", "job", "--resolve")
        ]
        keys = [word.partition("=")[0].strip("+") for word in words]
        assert [key for key in keys if not _known(key)] == [], example


def _known(key: str) -> bool:
    group, _, name = key.rpartition(".")
    return name in (keys_at(group) or []) or (ROOT / "conf" / key).is_dir()


@pytest.mark.parametrize("cls", CLASSES)
def test_every_key_has_a_line_of_documentation(cls: type) -> None:
    kinds = field_types(cls)
    undescribed = [f.name for f in dataclasses.fields(cls) if not f.metadata["about"]]
    assert [name for name in undescribed if not dataclasses.is_dataclass(kinds[name])] == []


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("python runner.py bench=e", ["bench=energy"]),
        ("python runner.py -m +sweep=b", ["+sweep=batch_seq"]),
        ("phasebench train.ac", ["train.accumulate="]),
    ],
)
def test_the_shell_completes_groups_and_keys(line: str, parts: list[str]) -> None:
    assert told("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line))).split() == parts


def test_bash_takes_the_completion() -> None:
    script = (
        f'PATH="{BIN}:$PATH"; eval "$(python runner.py -sc install=bash)";'
        'COMP_LINE="python runner.py model.ode.ep"; COMP_POINT=${#COMP_LINE}; COMP_CWORD=2;'
        'hydra_bash_completion; echo "${COMPREPLY[@]}"'
    )
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["model.ode.eps="], done.stderr


def test_the_installed_command_is_the_same(tmp_path: Path) -> None:
    """`python -m phasebench` runs what the console script runs, from any folder."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    line = [sys.executable, "-m", "phasebench", "bench=vram", "device=cpu", "--cfg", "job"]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "vram:" in done.stdout
    assert (ROOT / "src" / "phasebench" / "conf").resolve() == ROOT / "conf"
