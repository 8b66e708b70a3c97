"""Draw the drift of every layer over what its force does: a small drift alone says nothing."""

from __future__ import annotations

from collections.abc import Iterator

from phasebench.report.axes import Study
from phasebench.report.plots.style import (
    SHOWN,
    Picture,
    figure,
    gate_line,
    label,
    legend,
    look,
    picture,
)

_FIGURES = {"learned_exchange": "learned exchange / E_ref", "nonlinearity": "nonlinearity"}


def drift_over_interaction(study: Study) -> Iterator[Picture]:
    """Draw a marker a layer, a colour a run, over learned exchange and over nonlinearity."""
    made, panels = figure(1, len(_FIGURES), height=3.6, sharey=True)
    own = [point for point in study.points if point.run and "energy" in point.benches]
    drawn = 0
    for point in own:
        details = point.details("energy")
        # older files name neither layers nor what their forces do
        drifts = {
            (row.get("seed"), row.get("layer")): row.get("max_drift")
            for row in details.get("layers", ())
        }
        rows = [
            (row, drifts[key])
            for row in details.get("interaction", ())
            if drifts.get(key := (row.get("seed"), row.get("layer"))) is not None
        ]
        if not rows or drawn == SHOWN:
            continue
        for panel, name in zip(panels, _FIGURES, strict=True):
            x, y = zip(*((row[name], drift) for row, drift in rows), strict=True)
            panel.loglog(x, y, ls="none", label=label(study.names[point.name]), **look(drawn))
        drawn += 1
    if not drawn:
        return
    for panel, (name, title) in zip(panels, _FIGURES.items(), strict=True):
        panel.set_xlabel(title)
        gate_line(panel, own, "energy", "max_drift")
        gate_line(panel, own, "energy", name, vertical=True)
    panels[0].set_ylabel("max drift / E_ref")
    made.set_figheight(3.2 + 0.17 * drawn)
    legend(made, panels, columns=1)
    caption = "Drift over what the force does, a marker a layer. Good is low and right of the line."
    yield picture("interaction", caption, made)
