"""Blocks by torch.compile: the same training, and an evaluation that knows nothing of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from variants import STAGES

SCRIPT = Path(__file__).with_name("compiled_training.py")  # types checked by tests do not compile
GENERATES_CODE = "stage2-learned"


def graphs(backend: str, *names: str) -> list[int]:
    """The number of graphs of each model, from one process: its start takes longest."""
    line = [sys.executable, str(SCRIPT), backend, *names]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [int(number) for number in re.findall(r"compiled (\d+) graphs\n", done.stdout)]


def test_compiled_training_is_the_eager_one() -> None:
    """All but the generated code, which takes most of a compilation. Stage 2's state coordinates
    are a part of the learned ones.
    """
    names = [name for name in STAGES if name != "stage2"]
    counts = graphs("aot_eager", *names)
    assert len(counts) == len(names)
    assert min(counts) >= 1


@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU"
)
def test_generated_code_trains_as_the_eager_one() -> None:
    (count,) = graphs("inductor", GENERATES_CODE)
    assert count >= 1
