"""A sweep's guards, and its end: the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import TINY, Command, refuses
from phasebench import report
from phasebench.results.lock import locked
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


# guards that hold whoever starts a sweep


@pytest.mark.parametrize("sweeper", ["resuming", "basic"])
def test_kind_7_no_sweep_leaves_outputs(command: Command, tmp_path: Path, sweeper: str) -> None:
    outcome = command("-m seed=1,2 device=cpu sweep_name=../../esc", f"hydra/sweeper={sweeper}")
    refuses(outcome, "sweep_name=../../esc: is not the name of a folder")
    assert list(tmp_path.iterdir()) == []


def test_kind_7_a_dry_run_trains_nothing_with_any_sweeper(command: Command) -> None:
    outcome = command("-m seed=1,2 device=cpu dry_run=true hydra/sweeper=basic")
    assert (outcome.code, outcome.results) == (0, [])
    assert outcome.out.count("would run") == 2


def test_kind_9_a_long_grid_is_listed_in_part_and_not_run(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "LISTED", 2)
    outcome = command("-m seed=range(0,1000000) device=cpu dry_run=true")
    assert outcome.code == 0
    assert outcome.out.count("would run: no results yet") == 2
    assert "the first 2 of 10,001 or more points" in outcome.out
    refuses(command("-m seed=range(0,1000000) device=cpu"), "a sweep has at most 10,000")


def test_kind_7_a_run_in_a_folder_in_which_another_works_is_refused(
    command: Command, tmp_path: Path
) -> None:
    with locked(tmp_path / "mine" / ".lock"):
        outcome = command(*TINY, "bench=energy hydra.run.dir=mine")
    refuses(outcome, "hydra.run.dir=", "another run works there")
    assert outcome.results == []
