"""Blocks by torch.compile: the same training, and an evaluation that knows nothing of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from variants import STAGES


@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU"
)
@pytest.mark.parametrize("name", STAGES)
def test_compiled_training_is_the_eager_one(name: str) -> None:
    script = Path(__file__).with_name(
        "compiled_training.py"
    )  # alone: the type checks of tests cannot be compiled
    done = subprocess.run(
        [sys.executable, script, name], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    graphs = re.fullmatch(r"compiled (\d+) graphs\n", done.stdout)
    assert graphs
    assert int(graphs[1]) >= 1
