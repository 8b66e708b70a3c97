"""report.html: one file that opens offline. Whatever users wrote is escaped, by the template engine, everywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from phasebench.report.axes import flatten
from phasebench.report.collect import Collection, Point
from phasebench.report.plots.style import Picture
from phasebench.report.summary import clean, number
from phasebench.report.table import Cell, Column, Table, is_number

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class _Image:
    name: str
    caption: str
    source: str  # a data URI


def html_text(title: str, collection: Collection, table: Table, drawn: Sequence[Picture]) -> str:
    """The page: broken files, the sortable table, the pictures, environments, and each point's configuration."""
    engine = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters |= {"clean": lambda text: clean(str(text)), "text": _text, "sort_key": _sort_key}
    page = engine.from_string((_HERE / "page.html").read_text(encoding="utf-8"))
    return page.render(
        title=title,
        table=table,
        collection=collection,
        images=[_image(picture) for picture in drawn],
        css=_own("page.css"),
        js=_own("page.js"),
        environments=list(_environments(collection.points)),
        points=[_details(point) for point in collection.points],
        summary=_summary(collection),
    )


def _own(name: str) -> Markup:
    """Our own style or script, which is not escaped."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def _image(picture: Picture) -> _Image:
    encoded = base64.b64encode(picture.files["png"]).decode()
    return _Image(picture.name, picture.caption, f"data:image/png;base64,{encoded}")


def _text(cell: Cell, column: Column) -> str:
    return cell.text(column)


def _sort_key(cell: Cell) -> str:
    """What the script sorts by: a number at full precision, or nothing."""
    if isinstance(cell.value, bool):
        return str(int(cell.value))
    return repr(cell.value) if is_number(cell.value) else ""


def _summary(collection: Collection) -> str:
    counts: dict[str, int] = {}
    for point in collection.points:
        counts[point.status] = counts.get(point.status, 0) + 1
    times = sorted(point.run.timestamp for point in collection.points if point.run)
    words = [
        f"{len(collection.points)} points: "
        + ", ".join(f"{count} {status}" for status, count in counts.items())
    ]
    if times:
        words.append(f"runs from {times[0][:19]} to {times[-1][:19]} UTC")
    return "; ".join(words) + "."


def _environments(points: Sequence[Point]) -> Iterator[tuple[str, list[str]]]:
    """Each different environment as lines, with the points that ran in it."""
    found: dict[str, list[str]] = {}
    for point in points:
        if point.run:
            found.setdefault("\n".join(_lines(point.run.environment)), []).append(point.name)
    yield from found.items()


def _details(point: Point) -> dict[str, Any]:
    """What unfolds below the table: everything about one point, as lines of text."""
    run = point.run
    benches = run.benches if run else {}
    return {
        "name": point.name,
        "status": point.status,
        "reason": point.reason,
        "overrides": " ".join(point.overrides),
        "notices": [
            f"{name}: {notice}" for name, bench in benches.items() for notice in bench.notices
        ],
        "metrics": "\n".join(_metrics(point)),
        "config": "\n".join(_lines(run.config)) if run else "",
    }


def _metrics(point: Point) -> Iterator[str]:
    for name, bench in (point.run.benches if point.run else {}).items():
        for key, metric in bench.metrics.items():
            what = f" {metric.unit}" if metric.value is not None else f": {metric.reason}"
            label = (
                " (predicted)" if metric.kind == "predicted" and metric.value is not None else ""
            )
            yield f"{name}.{key} = {number(metric.value)}{what}{label}"
        for gate in bench.gates.values():
            verdict = {True: "pass", False: "FAIL", None: f"not measured: {gate.reason}"}[
                gate.passed
            ]
            yield f"{name} gate {gate.name} {gate.target}: {verdict}"


def _lines(tree: dict[str, Any]) -> Iterator[str]:
    return (f"{key} = {value}" for key, value in flatten(tree).items())
