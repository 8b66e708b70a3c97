"""Draw all pictures of a report, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence

from phasebench.report.axes import Axis
from phasebench.report.collect import Collection
from phasebench.report.plots.budget import budget_curves
from phasebench.report.plots.interaction import drift_over_interaction
from phasebench.report.plots.pareto import compared_integrators, pareto
from phasebench.report.plots.quantities import disturbed, over_axes
from phasebench.report.plots.style import Picture, styled
from phasebench.report.plots.traces import energy_traces
from phasebench.report.plots.training import training_curves


def pictures(collection: Collection, axes: Sequence[Axis]) -> list[Picture]:
    """Draw whatever the points suffice for; `collection.notes` gets what was left out."""
    if beside := sum(map(disturbed, collection.points)):
        collection.notes.append(
            f"{beside} points ran beside others of their sweep: plots of time leave them out"
        )
    with styled():
        return [
            *over_axes(collection.points, axes),
            *pareto(collection.points, axes),
            *compared_integrators(collection),
            *drift_over_interaction(collection, axes),
            *energy_traces(collection, axes),
            *budget_curves(collection),
            *training_curves(collection, axes),
        ]
