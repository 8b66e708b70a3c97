"""The files that the tests of reports make are ones that phasebench could have written."""

from __future__ import annotations

import jsonschema
import pytest

import made
from phasebench.results.file import schema


@pytest.mark.parametrize(
    "found",
    [
        made.content(),
        made.content(
            {"model.ode.dt": 0.3}, {"energy.max_drift": 1.0}, {"energy.max_drift": False}, seed=3
        ),
        made.content(
            metrics={"vram.vram_symplectic_gb": None}, passed={"vram.vram_symplectic_gb": None}
        ),
        made.content(benches=["energy"]),
    ],
)
def test_made_files_are_valid(found: dict[str, object]) -> None:
    jsonschema.validate(found, schema())
