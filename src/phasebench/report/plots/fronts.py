"""Perplexity against drift against force evaluations: the front of points that no other beats in all three."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from phasebench.report.axes import Axis, short
from phasebench.report.collect import Point
from phasebench.report.plots.curves import said
from phasebench.report.plots.pareto import Trade, front, trades
from phasebench.report.plots.style import (
    HEIGHT,
    MARKERS,
    RC,
    Picture,
    figure,
    label,
    legend,
    picture,
    spread,
    x_log,
    y_log,
)

_EVALUATIONS = "force evaluations a layer and unit of time"
_DRIFT = "max drift |H(t) - H(0)| / E_ref"
_OTHER = {"marker": "o", "facecolors": "none", "s": 18, "linewidths": 0.9}
NAMED = len(MARKERS)  # points of the front that have a marker of their own


def pareto(points: Sequence[Point], axes: Sequence[Axis]) -> Iterator[Picture]:
    """The front, if at least two points have what it needs; without perplexities, drift over evaluations."""
    found = trades(points)
    if len(found) >= 2 and all(trade.drift > 0 for trade in found):
        yield front_picture("pareto", found, setting_names(points, axes))


def front_picture(name: str, found: list[Trade], names: dict[str, str], note: str = "") -> Picture:
    """Perplexity over drift, with evaluations as colour; or drift over evaluations. names: of points, for people."""
    best = front([trade.costs for trade in found])
    kept = [trade for trade, is_best in zip(found, best, strict=True) if is_best]
    rest = [trade for trade, is_best in zip(found, best, strict=True) if not is_best]
    with rc_context(RC):
        made, (panel,) = figure(height=HEIGHT + 0.17 * min(len(kept), NAMED))
        draw = _plane if found[0].perplexity is None else _space
        draw(made, panel, kept, rest, names)
        legend(made, panel)
    return picture(name, f"{_caption(found, kept)} {note}".rstrip(), made)


def _caption(found: list[Trade], kept: list[Trade]) -> str:
    words = [
        f"Pareto front: the {len(kept)} of {len(found)} points (filled) that no other beats in everything."
    ]
    if found[0].perplexity is None:
        words.append("No perplexity was measured with them.")
    evaluations = {trade.evaluations for trade in found}
    if len(evaluations) == 1:
        words.append(f"All take {evaluations.pop():.4g} {_EVALUATIONS}.")
    if len(kept) > NAMED:
        words.append(f"{NAMED} of them are named.")
    return " ".join(words)


def _space(
    made: Figure, panel: Axes, kept: list[Trade], rest: list[Trade], names: dict[str, str]
) -> None:
    """Perplexity over drift, evaluations as colour."""
    evaluations = [trade.evaluations for trade in (*kept, *rest)]
    norm = LogNorm(min(evaluations) / 1.01, max(evaluations) * 1.01)
    colours = ScalarMappable(norm, "viridis")
    shades: Any = colours.to_rgba(np.array(evaluations))
    x, y = [trade.drift for trade in rest], [trade.perplexity or 0.0 for trade in rest]
    panel.scatter(x, y, edgecolors=shades[len(kept) :], **_OTHER)
    for i, trade in enumerate(kept):
        _named(panel, trade.drift, trade.perplexity or 0.0, names[trade.point.name], i, shades[i])
    ticks = sorted(set(evaluations))
    if len(ticks) > 1:
        bar = made.colorbar(colours, ax=panel, label=_EVALUATIONS)
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_locator(FixedLocator(spread(ticks, log=True)))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    x_log(panel)
    panel.set_xlabel(_DRIFT)
    panel.set_ylabel("perplexity per token")


def _plane(
    made: Figure, panel: Axes, kept: list[Trade], rest: list[Trade], names: dict[str, str]
) -> None:
    """Drift over evaluations, the front as stairs."""
    panel.scatter(
        [t.evaluations for t in rest], [t.drift for t in rest], edgecolors="0.4", **_OTHER
    )
    stairs = sorted(kept, key=lambda trade: trade.evaluations)
    x, y = [t.evaluations for t in stairs], [t.drift for t in stairs]
    panel.step(x, y, where="post", color="0.6", lw=0.8, zorder=0)
    for i, trade in enumerate(stairs):
        _named(panel, trade.evaluations, trade.drift, names[trade.point.name], i, "#0072B2")
    x_log(panel)
    y_log(panel)
    panel.set_xlabel(_EVALUATIONS)
    panel.set_ylabel(_DRIFT)


def _named(panel: Axes, x: float, y: float, name: str, i: int, colour: object) -> None:
    """A point of the front; the first few with a marker of their own and a line in the legend."""
    words = label(name) if i < NAMED else None
    marker, size = (MARKERS[i], 34) if i < NAMED else (".", 20)
    panel.scatter(x, y, marker=marker, color=[colour], s=size, label=words, zorder=3)


def setting_names(points: Sequence[Point], axes: Sequence[Axis]) -> dict[str, str]:
    """A point's swept values, or its folder where nothing was swept."""
    names = short(axis.key for axis in axes)
    found = {}
    for i, point in enumerate(points):
        words = (said(names[a.key], a.values[i]) for a in axes if a.values[i] is not None)
        found[point.name] = ", ".join(words) or point.name
    return found
