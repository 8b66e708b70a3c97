"""What no module's own test sees: style, types, imports, examples in docstrings, git's files."""

from __future__ import annotations

import ast
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
ROOMS = {"config", "results", "dynamics", "data", "models", "training", "bench", "report", "run"}
EXTRAS = {"phasebench.run.harness": "lm_eval"}  # modules that an optional library is needed for
BESIDE_ROOMS = {"__init__.py", "__init__.pyi", "__main__.py", "py.typed", "conf"}
UNPICKLERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
RUNS_CODE = {"eval", "exec", "torch.load", "numpy.load", "np.load", "yaml.load", "runpy.run_path"}
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
        for name in sorted({*MODULES} - {*EXTRAS})
        for test in finder.find(importlib.import_module(name))
    )
    assert len(MODULES) == len(list((ROOT / "src" / "phasebench").rglob("*.py")))
    assert examples > 10


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason=f"{EXTRAS[name]} is not installed here")
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0, capsys.readouterr().out


def tracked(*patterns: str) -> list[Path]:
    """The files that git holds and that are there: one deleted is listed until it is committed."""
    line = ["git", "ls-files", "-z", "--", *patterns]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


def where(file: Path, line: int) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


def test_the_root_holds_the_nine_rooms() -> None:
    names = {path.name for path in (ROOT / "src" / "phasebench").iterdir()} - {"__pycache__"}
    assert names == ROOMS | BESIDE_ROOMS


def test_no_line_is_longer_than_100_characters() -> None:
    """Ruff's own check spares lines that end in a URL or a pragma."""
    assert [
        where(file, number)
        for file in tracked("*.py")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 100
    ] == []


def test_the_formatter_lays_out_nearly_all() -> None:
    skip = "fmt: " + "skip"
    assert sum(file.read_text(encoding="utf-8").count(skip) for file in tracked("*.py")) < 20


def test_no_program_stands_under_outputs() -> None:
    programs = [
        file.name
        for file in tracked("outputs")
        if file.suffix in (".py", ".sh") or file.read_bytes()[:2] == b"#!"
    ]
    assert programs == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_function_has_more_than_40_lines(room: str) -> None:
    assert [
        f"{where(file, node.lineno)} {node.name}"
        for file in tracked(f"src/phasebench/{room}/*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 40
    ] == []


def runs_files(source: str) -> list[int]:
    """The lines that import an unpickler, or call what makes code or objects of a file."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        bad = any(name.partition(".")[0] in UNPICKLERS for name in names)
        if bad or (isinstance(node, ast.Call) and ast.unparse(node.func) in RUNS_CODE):
            lines.append(node.lineno)
    return lines


def test_no_file_becomes_code() -> None:
    """SECURITY.md promises it."""
    sources = {file: file.read_text(encoding="utf-8") for file in tracked("src/*.py")}
    found = [(file.name, line) for file, text in sources.items() for line in runs_files(text)]
    assert [name for name, _ in found] == ["child.py"]  # through a socket of its own, no file


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import pickle", [1]),
        ("from joblib.externals import x", [1]),
        ("import json\nx = torch.load(file)", [2]),
        ("model.eval()\nre.compile('x')", []),
    ],
)
def test_what_runs_files_is_recognised(source: str, lines: list[int]) -> None:
    assert runs_files(source) == lines


def test_git_holds_no_large_file() -> None:
    assert ROOT / "pyproject.toml" in tracked()
    assert [
        (file.name, file.stat().st_size) for file in tracked() if file.stat().st_size > MEGABYTE
    ] == []


def test_no_tracked_text_names_a_machine_s_folders() -> None:
    contents = {file: file.read_bytes() for file in tracked()}
    assert [
        f"{where(file, number)}: {line.decode(errors='replace')}"
        for file, content in contents.items()
        if b"\0" not in content
        for number, line in enumerate(content.splitlines(), 1)
        if MACHINE_PATH.search(line)
    ] == []


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
