"""A report as a folder: report.html, the table in three forms, the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from phasebench.report.axes import swept
from phasebench.report.collect import Collection
from phasebench.report.export import csv_text
from phasebench.report.latex import latex_text
from phasebench.report.markdown import markdown_text
from phasebench.report.page import html_text
from phasebench.report.plots.all import pictures
from phasebench.report.table import table
from phasebench.results.jsonfile import destination, write_atomic


def write_report(collection: Collection, folder: Path) -> list[Path]:
    """Write everything into `folder`; returns the files. Raises `ConfigError` if the folder cannot be written."""
    home = destination(folder / "report.html", "the report's folder", "report.html").parent
    (home / "plots").mkdir(exist_ok=True)
    written = []
    for name, content in _contents(collection, folder.resolve().name):
        write_atomic(home / name, content)
        written.append(folder / name)
    return written


def _contents(collection: Collection, title: str) -> Iterator[tuple[str, bytes]]:
    axes = swept(collection.points)
    drawn = list(pictures(collection, axes))
    short, whole = table(collection.points, axes), table(collection.points, axes, everything=True)
    texts = {
        "report.html": html_text(title, collection, short, drawn),
        "table.csv": csv_text(whole),
        "table.md": markdown_text(short),
        "table.tex": latex_text(short),
    }
    for name, text in texts.items():
        yield (
            name,
            text.encode("utf-8", "replace"),
        )  # a lone surrogate, of a file's name or of JSON, has no UTF-8
    for picture in drawn:
        for suffix, content in picture.files.items():
            yield f"plots/{picture.name}.{suffix}", content
