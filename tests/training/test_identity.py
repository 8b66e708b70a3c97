"""The code whose text is part of the name of trained weights: all that a training imports."""

from __future__ import annotations

import ast
from pathlib import Path

import phasebench
from phasebench.training.identity import ROOMS

ROOT = Path(phasebench.__file__).parent
TRAINING = ("training/loop.py", "models/__init__.py", "data/batches.py")


def file_of(name: str) -> str | None:
    """A module's file, relative to the package; None for what is no module of phasebench."""
    root, _, stem = name.replace(".", "/").partition("/")
    files = [f"{stem}.py", f"{stem}/__init__.py".removeprefix("/")]
    return next((file for file in files if root == "phasebench" and (ROOT / file).is_file()), None)


def imports(file: str) -> set[str]:
    """Files that a file imports anywhere in it, in functions too, of phasebench."""
    names: list[str] = []
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import, which this does not follow"
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and str(node.value).startswith(
            "phasebench."
        ):  # importlib
            names.append(str(node.value))
    return {found for name in names if (found := file_of(name))}


def reached(starts: tuple[str, ...]) -> set[str]:
    """The starts and all that they import, however indirectly."""
    found: set[str] = set()
    due = list(starts)
    while due:
        file = due.pop()
        if file not in found:
            found.add(file)
            due += imports(file)
    return found


def test_all_that_a_training_imports_names_its_weights() -> None:
    left_out = {file for file in reached(TRAINING) if not file.startswith(ROOMS)}
    assert {file.split("/")[0] for file in left_out} <= {"__init__.py", "config", "results"}


def test_imports_are_followed() -> None:
    files = {"dynamics/precision.py", "dynamics/gpu/kernels.py", "training/cuda_graph.py"}
    assert files | {"models/gpt.py"} <= reached(TRAINING)


def test_every_entry_is_a_room() -> None:
    assert [room for room in ROOMS if not (ROOT / room).is_dir()] == []
