"""Set how all pictures look: paper width, colours for the colour-blind, text no user can break.

Colours: Okabe & Ito, Color Universal Design (2008); the yellow is left out, which is too faint on
white.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from phasebench.report.collect import Point
from phasebench.report.read import limit

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH, HEIGHT, DPI = 5.5, 3.6, 160  # inches: the text width of most papers
RC: Any = {
    "font.size": 9,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.formatter.min_exponent": 3,  # 20, not 2 x 10^1
    "axes.formatter.useoffset": False,  # a tick is the value, not its distance from another
    "grid.alpha": 0.25,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that no machine's fonts matter
    "pdf.fonttype": 42,  # journals refuse Type 3
    "svg.hashsalt": "phasebench",
}
_LONGEST = 44  # characters of a label
_TITLE = 84  # characters of a line of a title
_APART = 0.07  # of an axis, between two tick labels


@dataclass(frozen=True)
class Picture:
    """A picture as files: name without suffix, what it shows, and its content by suffix."""

    name: str
    caption: str
    files: dict[str, bytes]


def picture(name: str, caption: str, made: Figure) -> Picture:
    """Render a figure as PNG and PDF, with the caption's first sentence as its title."""
    title = label(caption.partition(". ")[0].removesuffix("."), 2 * _TITLE)
    made.suptitle(textwrap.fill(title, _TITLE))
    png, pdf = io.BytesIO(), io.BytesIO()
    made.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    made.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return Picture(name, caption, {"png": png.getvalue(), "pdf": pdf.getvalue()})


def figure(
    columns: int = 1,
    rows: int = 1,
    height: float = HEIGHT,
    *,
    share_x: bool = True,
    share_y: bool = True,
) -> tuple[Figure, list[Axes]]:
    """Make an empty figure of paper width with that many panels. No window, no global state."""
    made = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = made.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y)
    return made, list(panels.flat)


def label(text: str, longest: int = _LONGEST) -> str:
    """Cut text for a picture, without mathematics and characters that its font lacks."""
    shown = "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in text)
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return shown.replace("$", r"\$")


def look(index: int) -> dict[str, Any]:
    """Choose colour and marker of a line; markers shrink, so that equal lines look like several."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": max(3.0, 7.0 - 0.7 * index),
    }


def legend(made: Figure, panel: Axes, columns: int = 2) -> None:
    """Put a legend below the panels, where it hides nothing; each label once."""
    entries = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    if entries:
        wide = max(map(len, entries)) > _LONGEST - 6
        columns = min(1 if wide else columns, len(entries))
        made.legend(entries.values(), entries, loc="outside lower center", ncols=columns)


def x_scale(panel: Axes, values: Iterable[float]) -> None:
    """Set ticks at values whose labels do not touch; logarithmic where they span much."""
    distinct = sorted(set(values))
    log = distinct[0] > 0 and distinct[-1] / distinct[0] >= 4
    if log:
        panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_locator(FixedLocator(spread(distinct, log)))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def gate_line(panel: Axes, points: Sequence[Point], bench: str, gate: str) -> None:
    """Draw the target of a gate, if all points that have it have the same, and it is no zero."""
    entries = (point.bench(bench) for point in points)
    gates = [entry.gates[gate] for entry in entries if entry and gate in entry.gates]
    targets = {one.target for one in gates}
    value = limit(gates[0]) if len(targets) == 1 else None
    if value:
        words = label(f"gate: {targets.pop()}")
        panel.axhline(value, color="0.3", ls=(0, (5, 3)), lw=0.8, zorder=1, label=words)


def spread(values: Sequence[float], log: bool) -> list[float]:
    """Choose those of the values that lie far enough apart on the axis for their labels.

    Example:
        >>> spread([1, 2, 3, 100], log=False)
        [1, 100]
    """
    at = [math.log10(value) if log else value for value in values]
    kept = [0]
    for i in range(1, len(at)):
        if at[i] - at[kept[-1]] >= (at[-1] - at[0]) * _APART:
            kept.append(i)
    if kept[-1] != len(at) - 1 and len(kept) > 1:
        kept[-1] = len(at) - 1  # the largest value is always told
    return [values[i] for i in kept]
