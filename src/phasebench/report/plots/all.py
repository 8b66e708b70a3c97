"""All pictures of a report, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phasebench.report.axes import Axis
from phasebench.report.collect import Collection
from phasebench.report.plots.fronts import pareto
from phasebench.report.plots.integrators import compared_integrators
from phasebench.report.plots.quantities import disturbed, over_axes
from phasebench.report.plots.style import Picture
from phasebench.report.plots.traces import energy_traces
from phasebench.report.plots.training import training_curves


def pictures(collection: Collection, axes: Sequence[Axis]) -> Iterator[Picture]:
    """Whatever the points suffice for; `collection.notes` gets what could not be drawn."""
    if beside := sum(map(disturbed, collection.points)):
        collection.notes.append(
            f"{beside} points ran beside others of their sweep: plots of time leave them out"
        )
    yield from over_axes(collection.points, axes)
    yield from pareto(collection.points, axes)
    yield from compared_integrators(collection)
    yield from energy_traces(collection, axes)
    yield from training_curves(collection, axes)
