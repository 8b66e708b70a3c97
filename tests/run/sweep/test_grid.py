"""The end of a sweep: its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasebench import report
from phasebench.run import hydra_app as run
from phasebench.run.sweep import grid as sweeper
from phasebench.run.sweep.point import Point


@pytest.fixture(autouse=True)
def codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(run, "_exit_codes", found)
    return found


def test_a_report_is_written_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, codes: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    kept, other = (
        Point({"bench": {}}, (), folder="kept"),
        Point({"bench": {}}, (), folder="not_run"),
    )
    (tmp_path / "a" / "kept").mkdir(parents=True)
    (tmp_path / "a" / "kept" / "results.json").touch()
    (tmp_path / "a" / "of_another_grid").mkdir()
    monkeypatch.setattr(report, "write", lambda folder, results: [folder / "report.html", *results])
    assert (
        sweeper._report(tmp_path / "a", [kept, other])
        == "report: a/report.html (2 files: tables, plots)"
    )
    assert codes == []


def test_a_report_that_fails_says_so(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    codes: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(_: Path, results: list[Path]) -> list[Path]:
        raise RuntimeError("no plots")

    monkeypatch.setattr(report, "write", broken)
    line = sweeper._report(tmp_path, [])
    assert "no report was written" in line
    assert "no plots" in capsys.readouterr().err
    assert codes == [2]
