"""Render report.html, which opens offline; the template engine escapes whatever users wrote."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from phasebench.report.axes import flatten
from phasebench.report.collect import Collection, Point
from phasebench.report.plots.style import Picture
from phasebench.report.table import Cell, Table
from phasebench.report.text import VERDICTS, clean, is_number, number


def html_text(title: str, collection: Collection, table: Table, drawn: Sequence[Picture]) -> str:
    """Render broken files, the sortable table, pictures, environments and configurations."""
    engine = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters |= {"clean": lambda text: clean(str(text)), "sort_key": _sort_key}
    texts = {
        suffix: Path(__file__).with_name(f"page.{suffix}").read_text(encoding="utf-8")
        for suffix in ("html", "css", "js")
    }
    environments: dict[str, list[str]] = {}
    for point in collection.points:
        if point.run:
            environments.setdefault(_lines(point.run.environment), []).append(point.name)
    counts = Counter(point.status for point in collection.points)
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    times = sorted(point.run.timestamp[:19] for point in collection.points if point.run)
    span = f"; runs from {times[0]} to {times[-1]} UTC" if times else ""
    return engine.from_string(texts["html"]).render(
        title=title,
        table=table,
        collection=collection,
        images=[
            (picture.caption, base64.b64encode(picture.files["png"]).decode()) for picture in drawn
        ],
        css=Markup(texts["css"]),  # our own, which is not escaped
        js=Markup(texts["js"]),
        environments=list(environments.items()),
        points=[_details(point) for point in collection.points],
        summary=f"{len(collection.points)} points: {told}{span}.",
    )


def _sort_key(cell: Cell) -> str:
    """Write what the script sorts by: a number at full precision, or nothing."""
    if isinstance(cell.value, bool):
        return str(int(cell.value))
    return repr(cell.value) if is_number(cell.value) else ""


def _details(point: Point) -> dict[str, Any]:
    """Collect what unfolds below the table: everything about one point, as lines of text."""
    benches = point.benches
    notices = [f"{name}: {notice}" for name, bench in benches.items() for notice in bench.notices]
    return {
        "name": point.name,
        "status": point.status,
        "reason": point.reason,
        "overrides": " ".join(point.overrides),
        "notices": notices,
        "metrics": "\n".join(_metrics(point)),
        "config": _lines(point.run.config) if point.run else "",
    }


def _metrics(point: Point) -> Iterator[str]:
    for name, bench in point.benches.items():
        for key, metric in bench.metrics.items():
            what = f": {metric.reason}"
            if metric.value is not None:
                what = f" {metric.unit}" + " (predicted)" * (metric.kind == "predicted")
            yield f"{name}.{key} = {number(metric.value)}{what}"
        for gate in bench.gates.values():
            why = f": {gate.reason}" if gate.passed is None else ""
            yield f"{name} gate {gate.name} {gate.target}: {VERDICTS[gate.passed]}{why}"


def _lines(tree: dict[str, Any]) -> str:
    return "\n".join(f"{key} = {value}" for key, value in flatten(tree).items())
