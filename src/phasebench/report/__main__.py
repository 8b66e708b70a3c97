"""The command ``python -m phasebench.report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from phasebench.config import ConfigError
from phasebench.report.axes import swept
from phasebench.report.collect import Collection, collect
from phasebench.report.summary import clean
from phasebench.report.table import table
from phasebench.report.terminal import show

_EXAMPLES = """\
examples:
  python -m phasebench.report outputs/sweeps/demo
  python -m phasebench.report outputs/2026-11-22 outputs/2026-11-23 --output outputs/both
  python -m phasebench.report outputs/reference/h100 --print

exit code: 0 the report was written (files that cannot be used are listed in it), 2 there is nothing to report
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Report on folders; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        return _report(options, console)
    except ConfigError as error:
        print(f"phasebench.report: {clean(str(error))}", file=sys.stderr)
        return 2


def _report(options: argparse.Namespace, console: Console) -> int:
    folder = _folder(options)
    for place in options.places:
        if not place.exists():
            raise ConfigError(
                "",
                "",
                f"{place}: there is no such file or folder",
                "name a folder with results.json files",
            )
    collection = collect(options.places)
    if not collection.points and not collection.broken:
        places = ", ".join(map(str, options.places))
        raise ConfigError(
            "", "", f"no results.json below {places}", "name the folder of a run or of a sweep"
        )
    show(
        table(collection.points, swept(collection.points)),
        console,
        elsewhere=f"in {folder / 'table.md'}",
    )
    _remarks(collection, console)
    if not options.print:
        from phasebench.report.write import (
            write_report,
        )  # imports matplotlib, which --print and --help do without

        written = write_report(collection, folder)
        text = f"report: {written[0]} ({len(written)} files: tables, plots)"
        console.print(Text(clean(text), "bold", overflow="fold"))
    return 0


def _folder(options: argparse.Namespace) -> Path:
    if options.output is not None or options.print:
        return options.output or Path()
    first = options.places[0]
    if len(options.places) > 1:
        raise ConfigError("", "", "several places, and no folder for the report", "--output FOLDER")
    return first if not first.is_file() else first.parent


def _remarks(collection: Collection, console: Console) -> None:
    for broken in collection.broken:
        console.print(Text(clean(f"cannot be used: {broken}"), "bold red", overflow="fold"))
    for note in collection.notes:
        console.print(Text(clean(f"note: {note}"), overflow="fold"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m phasebench.report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
        description="One table, plots and one self-contained report.html, of every results.json below some folders.",
    )
    parser.add_argument(
        "places",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="a sweep's or a run's folder, or a results.json",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where the report goes; default: DIR itself"
    )
    parser.add_argument("--print", action="store_true", help="only print the table; write nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
