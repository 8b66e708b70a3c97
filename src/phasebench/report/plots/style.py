"""How all pictures look: paper width, colours that the colour-blind tell apart, text that no user can break.

Colours: Okabe & Ito, Color Universal Design (2008); the yellow is left out, which is too faint on white.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from PIL import Image

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH, HEIGHT, DPI = 5.5, 3.6, 160  # inches: the text width of most papers
RC: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that no machine's fonts matter
    "text.parse_math": False,  # a user's $ is a dollar
    "pdf.fonttype": 42,  # journals refuse Type 3
}
_LONGEST = 44  # characters of a label
_APART = 0.07  # of an axis, between two tick labels


@dataclass(frozen=True)
class Picture:
    """A picture as files: name without suffix, what it shows, and its content by suffix."""

    name: str
    caption: str
    files: dict[str, bytes]


def picture(name: str, caption: str, figure: Figure) -> Picture:
    """Render a figure as PNG and PDF."""
    png, pdf = io.BytesIO(), io.BytesIO()
    with rc_context(RC):
        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        _save(canvas, png)
        figure.set_layout_engine(
            "none"
        )  # the layout is found: again, it would take longer than drawing
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    return Picture(name, caption, {"png": png.getvalue(), "pdf": pdf.getvalue()})


def _save(canvas: FigureCanvasAgg, png: io.BytesIO) -> None:
    """As PNG of 256 colours, which are enough for lines and text, and a third of the bytes."""
    width, height = canvas.get_width_height()
    image = Image.frombytes("RGBA", (width, height), bytes(canvas.buffer_rgba())).convert("RGB")
    image.quantize(256).save(png, "PNG", optimize=True, dpi=(DPI, DPI))


def figure(
    columns: int = 1, rows: int = 1, height: float = HEIGHT, share_y: bool = True
) -> tuple[Figure, list[Axes]]:
    """An empty figure of paper width with that many panels. No window, no global state."""
    with rc_context(RC):
        made = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = made.subplots(rows, columns, squeeze=False, sharex=True, sharey=share_y)
    return made, list(panels.flat)


def label(text: str) -> str:
    """Text for a picture: at most so long, and only characters that its font has."""
    shown = "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def look(index: int) -> dict[str, Any]:
    """Colour and marker of the line with that number; the markers shrink, so that equal lines are seen as several."""
    size = max(3.0, 7.0 - 0.7 * index)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": size,
    }


def legend(made: Figure, panel: Axes, columns: int = 2) -> None:
    """Below the panels, where it hides nothing."""
    handles, labels = panel.get_legend_handles_labels()
    if labels:
        columns = 1 if max(map(len, labels)) > _LONGEST - 6 else columns
        made.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def x_scale(panel: Axes, values: Sequence[float]) -> None:
    """Ticks at the values themselves, as far as their labels do not touch; logarithmic where they span much."""
    distinct = sorted(set(values))
    log = distinct[0] > 0 and distinct[-1] / distinct[0] >= 4
    if log:
        panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_locator(FixedLocator(spread(distinct, log)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def x_log(panel: Axes) -> None:
    """A logarithmic x axis whose labels are plain text."""
    panel.set_xscale("log")
    _decades(panel.xaxis, *panel.get_xlim())


def y_log(panel: Axes) -> None:
    """A logarithmic y axis whose labels are plain text."""
    panel.set_yscale("log")
    _decades(panel.yaxis, *panel.get_ylim())


def _decades(axis: Axis, low: float, high: float) -> None:
    few = high / low < 10**1.5
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=8))
    axis.set_minor_locator(NullLocator())
    digits = ".0e" if high / low >= 5 else ".2e"
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:{digits if value < 1e-3 else '.3g'}}")
    )


def spread(values: Sequence[float], log: bool) -> list[float]:
    """Those of the values, from the first on, that lie far enough apart on the axis for their labels.

    Example:
        >>> spread([1, 2, 3, 100], log=False)
        [1, 100]
    """
    at = [math.log10(v) if log else v for v in values]
    room = (at[-1] - at[0]) * _APART
    kept = [0]
    for i in range(1, len(at)):
        if at[i] - at[kept[-1]] >= room:
            kept.append(i)
    if kept[-1] != len(at) - 1 and len(kept) > 1:
        kept[-1] = len(at) - 1  # the largest value is always told
    return [values[i] for i in kept]
