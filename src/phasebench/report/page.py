"""Render report.html, which opens offline; the template engine escapes whatever users wrote."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from phasebench.report.axes import flatten
from phasebench.report.collect import Collection
from phasebench.report.plots.style import Picture
from phasebench.report.table import Cell, Column
from phasebench.report.text import VERDICTS, clean, is_number, number
from phasebench.results.jsonfile import Json


def html_text(
    title: str,
    collection: Collection,
    tables: Mapping[str, Sequence[Column]],
    drawn: Sequence[Picture],
) -> str:
    """Render verdict, a sortable table a study, pictures, environments and configurations."""
    layout = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    engine = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, **layout)
    engine.filters |= {
        "clean": lambda text: clean(str(text)),
        "base64": lambda content: base64.b64encode(content).decode(),
        "lines": _lines,
        "number": number,
        "sort_key": _sort_key,
        "verdict": VERDICTS.get,
    }
    environments: dict[str, list[str]] = {}
    for point in collection.points:
        if point.run:
            environments.setdefault(_lines(point.run.environment), []).append(point.name)
    counts = Counter(point.status for point in collection.points)
    times = sorted(point.run.timestamp[:19] for point in collection.points if point.run)
    return engine.get_template("page.html").render(
        title=title,
        tables=[
            (name, columns[:-1], list(zip(*(column.cells for column in columns), strict=True)))
            for name, columns in tables.items()
        ],
        numbers={point.name: i for i, point in enumerate(collection.points, 1)},
        collection=collection,
        pictures=drawn,
        environments=environments,
        verdict="FAIL" if counts["fail"] else "PASS" if set(counts) == {"pass"} else "INCOMPLETE",
        counts=", ".join(f"{count} {status}" for status, count in counts.items()),
        span=f"Runs from {times[0]} to {times[-1]} UTC." if times else "",
    )


def _sort_key(cell: Cell) -> str:
    """Write what the script sorts by: a number at full precision, or nothing."""
    if isinstance(cell.value, bool):
        return str(int(cell.value))
    return repr(cell.value) if is_number(cell.value) else ""


def _lines(tree: Json) -> str:
    return "\n".join(f"{key} = {value}" for key, value in flatten(tree).items())
