"""What no single module's test sees: style, types, import directions, examples in docstrings, what git holds."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import phasebench
from paths import ROOT

BIN = Path(sys.executable).parent  # not resolved: a virtual environment's own
MODULES = [
    "phasebench",
    *(m.name for m in pkgutil.walk_packages(phasebench.__path__, "phasebench.")),
]
MACHINE_PATH = re.compile(rb"(?<![\w.])/(work|root|home|farm)/")
MEGABYTE = 1_000_000


def passes(*line: str) -> None:
    """Run a tool on the repository; its own words are the message of a failure."""
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(
            f"{' '.join(line)}: exit code {done.returncode}\n{done.stdout}{done.stderr}",
            pytrace=False,
        )


def module(name: str, *arguments: str) -> list[str]:
    """The command line of a tool that runs as a module of this interpreter."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed here")
    return [sys.executable, "-m", name, *arguments]


def program(name: str, *arguments: str) -> list[str]:
    """The command line of a tool of this environment."""
    found = shutil.which(name, path=str(BIN))
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return [found, *arguments]


def test_ruff_has_nothing_to_say() -> None:
    passes(*module("ruff", "check", "--no-cache"))


def test_the_code_is_formatted() -> None:
    passes(*module("ruff", "format", "--check", "--no-cache"))


def test_imports_point_downward() -> None:
    passes(*program("lint-imports", "--no-cache"))


def test_types_are_right() -> None:
    passes(*module("pyright", "--pythonpath", sys.executable))


def test_there_are_modules_and_examples() -> None:
    """So that the test below cannot pass by finding nothing."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = sum(
        len(test.examples)
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
    )
    assert len(MODULES) == len(list((ROOT / "src" / "phasebench").rglob("*.py")))
    assert examples > 10


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0, capsys.readouterr().out


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    return [
        file for file in files if file.is_file()
    ]  # one that is deleted here is still listed until committed


def test_git_holds_no_large_file() -> None:
    assert ROOT / "pyproject.toml" in tracked()
    assert [
        (file.name, file.stat().st_size) for file in tracked() if file.stat().st_size > MEGABYTE
    ] == []


def test_no_tracked_text_names_a_machine_s_folders() -> None:
    contents = {file: file.read_bytes() for file in tracked()}
    texts = {file: content for file, content in contents.items() if b"\0" not in content}
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.decode(errors='replace')}"
        for file, content in texts.items()
        for number, line in enumerate(content.splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("/ho" + "me/ann/x", True),
        ('="/wo' + 'rk/x"', True),
        ("../work/x", False),
        ("a/home/x", False),
        ("/work", False),
    ],
)
def test_machine_paths_are_recognised(line: str, bad: bool) -> None:
    assert bool(MACHINE_PATH.search(line.encode())) is bad
