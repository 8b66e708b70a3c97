"""What runs and reports print at 80 and 60 columns, of the results that are kept."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from paths import ROOT
from phasebench.report.axes import studies
from phasebench.report.collect import collect
from phasebench.report.summary import render
from phasebench.report.table import table
from phasebench.report.terminal import show

KEPT = [ROOT / "tests/kept_run.json", *sorted((ROOT / "outputs/reference").rglob("results.json"))]


def summary(path: Path, width: int) -> str:
    stream = io.StringIO()
    results = json.loads(path.read_text(encoding="utf-8"))
    render(results, Console(file=stream, width=width), "outputs/results.json")
    return stream.getvalue()


def assert_whole(screen: str, wide: str, width: int) -> None:
    """No line is too wide, and every word stands on the wide screen too."""
    assert max(map(cell_len, screen.splitlines())) <= width
    notes = "of columns do not fit: see in results.json"
    known = {*wide.split(), *notes.split()}
    known |= {f"benches.{name}.details.table" for name in ("grad", "speed", "energy", "vram")}
    broken = {word for word in screen.split() if word not in known and not word.isdigit()}
    assert {word for word in broken if set(word) != {"\u2500"}} == set()


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.parent.name)
def test_no_word_of_a_summary_is_broken(path: Path, width: int) -> None:
    assert_whole(summary(path, width), summary(path, 1000), width)


@pytest.mark.parametrize("width", [80, 60])
def test_no_word_of_the_kept_report_is_broken_and_studies_are_apart(width: int) -> None:
    found = studies(collect([ROOT / "outputs/reference"]).points)
    if len(found) < 2:
        pytest.skip("no results are kept")
    assert "grad" in [study.name for study in found]
    for study in found:
        columns = table(study)
        assert [column.key for column in columns[:2]] == ["point", "status"]
        roles = [column.role for column in columns[2:-1]]
        assert roles == sorted(roles, reverse=True)  # metrics before configuration
        screens = []
        for columns_wide in (width, 1000):
            stream = io.StringIO()
            show(columns, Console(file=stream, width=columns_wide))
            screens.append(stream.getvalue())
        assert_whole(*screens, width)
