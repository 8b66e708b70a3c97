"""Write a report as a folder: report.html, the tables in three forms, the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from phasebench.report.collect import Collection, collect
from phasebench.results.jsonfile import destination, write_atomic


def write(
    folder: PathLike[str] | str, *, results: Sequence[PathLike[str] | str] | None = None
) -> list[Path]:
    """Write report.html, table.csv, table.md, table.tex and plots/ of every results.json below a
    folder into it.

    Args:
        folder: where the runs are and the report goes; a sweep.json in it adds the points without
            results.
        results: the results.json files to take instead of those below the folder.

    Returns the files written. A results.json that cannot be used is listed in the report, with the
    reason. Raises `ConfigError` if the folder cannot be written.
    """
    place = Path(folder)
    files = None if results is None else [Path(path) for path in results]
    return write_report(collect([place], files), place)


def write_report(collection: Collection, folder: Path) -> list[Path]:
    """Write everything into `folder`; returns the files. Raises `ConfigError` if the folder cannot
    be written.
    """
    # pandas and matplotlib, which whoever prints a table, or reads --help, does not wait for
    from phasebench.report.axes import Study, studies
    from phasebench.report.csv_markdown_latex import csv_text, latex_text, markdown_text
    from phasebench.report.page import html_text
    from phasebench.report.plots import pictures
    from phasebench.report.table import table

    home = destination(folder / "report.html", "the report's folder", "report.html").parent
    (home / "plots").mkdir(exist_ok=True)
    drawn = pictures(collection)
    tables = {study.name: table(study) for study in studies(collection.points)}
    texts = {
        "report.html": html_text(folder.resolve().name, collection, tables, drawn),
        "table.csv": csv_text(table(Study(collection.points), everything=True)),
        "table.md": markdown_text(tables),
        "table.tex": latex_text(tables),
    }
    # a lone surrogate, of a file's name or of JSON, has no UTF-8
    contents = {name: text.encode("utf-8", "replace") for name, text in texts.items()}
    for picture in drawn:
        for suffix, content in picture.files.items():
            contents[f"plots/{picture.name}.{suffix}"] = content
    for name, content in contents.items():
        write_atomic(home / name, content)
    return [folder / name for name in contents]
