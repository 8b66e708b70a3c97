"""The picture of memory over steps and sequence length, from a results.json's content alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phasebench.report.plots.memory import draw

PNG = b"\x89PNG"


def results(**details: Any) -> dict[str, Any]:
    points = {"backprop": [[1, 10**9], [10, 10**10]], "adjoint_exact": [[1, 10**9], [10, 10**9]]}
    curves = {
        axis: {"unit": "units", "kind": "predicted", "own": 10, "points": points}
        for axis in ("steps", "seq")
    }
    arms = {"backprop": {"passes": [{"peak": 9 * 10**9}]}, "adjoint_exact": {"status": "predicted"}}
    config = {"bench": {"vram": {"batch": 2, "vocab": 50257, "precision": "tf32"}}}
    found = {"curves": curves, "arms": arms, "predicted_for": {"name": "h100"}} | details
    return {"benches": {"vram": {"details": found}}, "config": config}


def test_it_is_written_beside_the_results(tmp_path: Path) -> None:
    assert draw(results(), tmp_path) == tmp_path / "memory.png"
    assert (tmp_path / "memory.png").read_bytes().startswith(PNG)


def test_what_was_measured_shows(tmp_path: Path) -> None:
    pictures = []
    for arms in ({}, {"backprop": {"passes": [{"peak": 5 * 10**9}]}}):
        draw(results(arms=arms), tmp_path)
        pictures.append((tmp_path / "memory.png").read_bytes())
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize(
    "found",
    [{"benches": {}}, {"benches": {"vram": {"details": {}}}}, results(curves={})],
    ids=["no bench", "a bench that failed", "no curves"],
)
def test_without_curves_there_is_none(found: dict[str, Any], tmp_path: Path) -> None:
    assert draw(found, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
