"""Draw perplexity over the budget of training: in tokens, in FLOPs and in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from phasebench.report.collect import Point
from phasebench.report.plots.style import Picture, figure, legend, look, picture

_ROLES = ("candidate", "baseline", "reference")


def budget_curves(points: Sequence[Point]) -> Iterator[Picture]:
    """Draw a picture a run of bench=budget: a panel a unit of budget, a line a model and seed."""
    flops_of = "{}_training_flops_per_token".format
    points = [p for p in points if p.metric("budget", flops_of("candidate"))]
    for number, point in enumerate(points, 1):
        made, panels = figure(1, 3, height=3.0, sharey=True)
        details = point.details("budget")
        for i, role in enumerate(role for role in _ROLES if role in details):
            model = details[role]
            flops = point.benches["budget"].metrics[flops_of(role)].value
            rows = [{**row, **row["point"]} for row in model["trainings"] if row["point"]]
            trainings: Any = pd.DataFrame(rows, columns=["seed", "tokens", "seconds", "test"])
            for _, own in trainings.groupby("seed"):
                x = (own.tokens, flops * own.tokens, own.seconds)
                for panel, budget in zip(panels, x, strict=True):
                    panel.loglog(budget, np.exp(own.test), label=model["name"], lw=0.9, **look(i))
        units = ("tokens read", "FLOPs of training", "seconds of training")
        for panel, unit in zip(panels, units, strict=True):
            panel.set_xlabel(unit)
            panel.xaxis.set_minor_formatter("")
            panel.yaxis.set_minor_formatter("{x:g}")
        panels[0].set_ylabel("perplexity per token")
        legend(made, panels, columns=3)
        caption = "Perplexity over the budget of training, in tokens, FLOPs and seconds."
        yield picture("budget" if len(points) == 1 else f"budget_{number}", caption, made)
