"""Set how all pictures look: paper width, colours for the colour-blind, text no user can break.

Colours: Okabe & Ito, Color Universal Design (2008); the yellow is left out, which is too faint on
white.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from phasebench.report.axes import LONGEST
from phasebench.report.collect import Point
from phasebench.report.read import limit

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SHOWN = len(COLOURS)  # lines of one picture that can be told apart
WIDTH = 5.5  # inches: the text width of most papers
_TITLE = 84  # characters of a line of a title

Item = TypeVar("Item")


@dataclass(frozen=True)
class Picture:
    """A picture as files: name without suffix, what it shows, and its content by suffix."""

    name: str
    caption: str
    files: dict[str, bytes]


def styled() -> AbstractContextManager[None]:
    """Draw in the style of paper.mplstyle inside a ``with``, and restore matplotlib's after it."""
    return rc_context(fname=Path(__file__).with_name("paper.mplstyle"))


def picture(name: str, caption: str, made: Figure) -> Picture:
    """Render a figure as PNG and PDF, with the caption's first sentence as its title."""
    title = label(caption.partition(". ")[0].removesuffix("."), 2 * _TITLE)
    made.suptitle(textwrap.fill(title, _TITLE))
    files = {}
    # without a date and a version, equal pictures are equal files
    for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        made.savefig(content := io.BytesIO(), format=suffix, metadata=metadata)
        files[suffix] = content.getvalue()
    return Picture(name, caption, files)


def figure(
    rows: int = 1, columns: int = 1, *, height: float, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """Make an empty figure of paper width with that many panels. No window, no global state.

    shared: which panels share their axes, as matplotlib's `subplots` takes it.
    """
    made = Figure(figsize=(WIDTH, height), layout="constrained")
    return made, list(made.subplots(rows, columns, squeeze=False, **shared).flat)


def label(text: str, longest: int = LONGEST) -> str:
    """Cut text for a picture, without mathematics and characters that its font lacks."""
    shown = "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in text)
    shown = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return shown.replace("$", r"\$")


def look(index: int) -> dict[str, Any]:
    """Choose colour and marker of a line; markers shrink, so that equal lines look like several."""
    return {
        "color": COLOURS[index % SHOWN],
        "marker": MARKERS[index % SHOWN],
        "markersize": max(3.0, 7.0 - 0.7 * index),
    }


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Choose that many items, or all if they are fewer: the first, the last and between them.

    Examples:
        >>> evenly("abcdefghi", 3)
        ['a', 'e', 'i']
    """
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[i] for i in places.round().astype(int)]


def legend(made: Figure, panels: Sequence[Axes], columns: int = 2) -> None:
    """Put a legend of all panels below them, where it hides nothing; each label once."""
    entries = {}
    for one in panels:
        entries |= dict(zip(*reversed(one.get_legend_handles_labels()), strict=True))
    if entries:
        wide = max(map(len, entries)) > LONGEST - 6
        columns = min(1 if wide else columns, len(entries))
        made.legend(entries.values(), entries, loc="outside lower center", ncols=columns)


def x_scale(panel: Axes, values: Iterable[float]) -> None:
    """Make x logarithmic, with ticks at (some of) the values, where these span much."""
    distinct = sorted(set(values))
    if 0 < 4 * distinct[0] <= distinct[-1]:
        panel.set_xscale("log")
        panel.set_xticks(evenly(distinct, 8))
        panel.minorticks_off()
    panel.xaxis.set_major_formatter("{x:g}")


def log_scale(panel: Axes) -> None:
    """Make both axes logarithmic, with a few plain ticks where one spans less than a decade."""
    panel.set(xscale="log", yscale="log")
    for axis, (low, high) in ((panel.xaxis, panel.get_xlim()), (panel.yaxis, panel.get_ylim())):
        if high < 10 * low:
            axis.set_major_locator(MaxNLocator(4))
            axis.set_major_formatter("{x:.4g}")
            axis.set_minor_locator(NullLocator())


def gate_line(
    panel: Axes, points: Sequence[Point], bench: str, name: str, *, vertical: bool = False
) -> None:
    """Draw the target of a gate, if all points that have it have the same, and it is no zero."""
    entries = (point.benches[bench].gates.get(name) for point in points if bench in point.benches)
    targets = {gate.target: limit(gate) for gate in entries if gate}
    for target, value in targets.items() if len(targets) == 1 else ():
        if value:
            text = label(f"gate: {name.replace('_', ' ')} {target}")
            line, dashes = (panel.axvline, ":") if vertical else (panel.axhline, (0, (5, 3)))
            line(value, label=text, color="0.3", ls=dashes, lw=0.8, zorder=1)
