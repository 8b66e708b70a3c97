"""Draw all pictures of a report, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from phasebench.report.axes import Study, studies
from phasebench.report.collect import Collection
from phasebench.report.plots.budget import budget_curves
from phasebench.report.plots.interaction import drift_over_interaction
from phasebench.report.plots.pareto import compared_integrators, pareto
from phasebench.report.plots.parts import part_effects
from phasebench.report.plots.quantities import disturbed, over_axes
from phasebench.report.plots.style import Picture, styled
from phasebench.report.plots.traces import energy_traces
from phasebench.report.plots.training import training_curves


def pictures(collection: Collection) -> list[Picture]:
    """Draw whatever the points of each study suffice for.

    `collection.notes` gets what was left out. Where there are several studies, the names of
    pictures begin with the study's.
    """
    if beside := sum(map(disturbed, collection.points)):
        collection.notes.append(
            f"{beside} points ran beside others of their sweep: plots of time leave them out"
        )
    found = studies(collection.points)
    with styled():
        return [
            replace(
                drawn,
                name=f"{study.name.replace(', ', '-')}_{drawn.name}",
                caption=f"{study.name}: {drawn.caption}",
            )
            if len(found) > 1
            else drawn
            for study in found
            for drawn in _of_study(study)
        ]


def _of_study(study: Study) -> Iterator[Picture]:
    yield from over_axes(study)
    yield from pareto(study)
    yield from compared_integrators(study.points)
    yield from drift_over_interaction(study)
    yield from energy_traces(study)
    yield from budget_curves(study.points)
    yield from part_effects(study.points)
    yield from training_curves(study)
