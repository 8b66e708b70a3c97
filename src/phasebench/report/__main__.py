"""The command ``python -m phasebench.report``, or ``phasebench-report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from phasebench.config import ConfigError
from phasebench.report.axes import studies
from phasebench.report.collect import collect
from phasebench.report.table import table
from phasebench.report.terminal import line, show
from phasebench.report.text import clean
from phasebench.report.write import write_report

_EXAMPLES = """\
examples:
  python -m phasebench.report outputs/sweeps/demo
  python -m phasebench.report outputs/2026-11-22 outputs/2026-11-23 --output outputs/both
  phasebench-report outputs/reference/h200 --print          (the same command, by its short name)

exit code: 0 the report was written (files that cannot be used are listed in it),
2 there is nothing to report, or no file of all can be used
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Report on folders; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m phasebench.report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
        description="Make tables, plots and a report.html of every results.json below folders.",
    )
    places = "a sweep's or a run's folder, or a results.json"
    parser.add_argument("places", nargs="+", type=Path, metavar="DIR", help=places)
    output = "where the report goes; default: DIR itself"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=output)
    only = "only print the table; write nothing"
    parser.add_argument("--print", action="store_true", help=only)
    options = parser.parse_args(arguments)
    try:
        return _report(options.places, options.output, printed=options.print)
    except ConfigError as error:
        print(f"phasebench.report: {clean(str(error))}", file=sys.stderr)
        return 2


def _report(places: list[Path], output: Path | None, *, printed: bool) -> int:
    if output is None and len(places) > 1 and not printed:
        what = "several places, and no folder for the report"
        raise ConfigError("", "", what, "--output FOLDER")
    collection = collect(places)
    if not collection.points and not collection.broken:
        what = f"no results.json below {', '.join(map(str, places))}"
        raise ConfigError("", "", what, "name the folder of a run or of a sweep")
    folder = output or (places[0] if places[0].is_dir() else places[0].parent)
    console = Console(highlight=False)
    found = studies(collection.points)
    for study in found:
        if len(found) > 1:
            console.print(line(f"{study.name}: ", f"{len(study.points)} points"))
        show(table(study), console, elsewhere=f"in {folder / 'table.md'}")
    for broken in collection.broken:
        console.print(line("", f"cannot be used: {broken}", "bold red"))
    written = [] if printed else write_report(collection, folder)
    for note in collection.notes:
        console.print(line("", f"note: {note}"))
    if written:
        console.print(line(f"report: {written[0]} ({len(written)} files: tables, plots)", ""))
    return 0 if collection.points else 2


if __name__ == "__main__":
    sys.exit(main())
