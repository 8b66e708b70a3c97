"""What people read, made from results.json alone: never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["write"]


def write(folder: Path, *, results: Sequence[Path] | None = None) -> list[Path]:
    """Write report.html, table.csv, table.md, table.tex and plots/ into a folder, of every results.json below it.

    Args:
        folder: where the runs are and the report goes; a sweep.json in it adds the points that have no results.
        results: the results.json files to take instead of those below the folder.

    Returns the files written. A results.json that cannot be used is listed in the report, with the reason.
    Raises `ConfigError` if the folder cannot be written.
    """
    # whoever prints the table of one run (phasebench.report.summary) needs no matplotlib
    from phasebench.report.collect import collect
    from phasebench.report.write import write_report

    return write_report(collect([folder], results), folder)
