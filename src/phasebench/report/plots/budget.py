"""Draw perplexity over the budget of training: in tokens, in FLOPs and in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

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
            for seed in sorted({row["seed"] for row in model["trainings"]}):
                measured = [
                    row["point"]
                    for row in model["trainings"]
                    if row["seed"] == seed and row["point"]
                ]
                tokens = np.array([point["tokens"] for point in measured], dtype=float)
                seconds = [point["seconds"] for point in measured]
                ppl = np.exp([point["test"] for point in measured])
                for panel, x in zip(panels, (tokens, flops * tokens, seconds), strict=True):
                    panel.loglog(x, ppl, label=model["name"], lw=0.9, **look(i))
        units = ("tokens read", "FLOPs of training", "seconds of training")
        for panel, unit in zip(panels, units, strict=True):
            panel.set_xlabel(unit)
            panel.xaxis.set_minor_formatter("")
            panel.yaxis.set_minor_formatter("{x:g}")
        panels[0].set_ylabel("perplexity per token")
        legend(made, panels, columns=3)
        caption = "Perplexity over the budget of training, in tokens, FLOPs and seconds."
        yield picture("budget" if len(points) == 1 else f"budget_{number}", caption, made)
