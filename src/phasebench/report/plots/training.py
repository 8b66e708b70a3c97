"""Draw how the weights were trained: loss over steps, and drift where it was tracked; the seeds of
a model look alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from phasebench.report.axes import LONGEST, Study, said
from phasebench.report.plots.style import SHOWN, Picture, figure, label, legend, look, picture
from phasebench.report.read import content, histories
from phasebench.results.jsonfile import Json

_EARLY = 0.05  # of a training: its losses are too large to be drawn beside the later ones

History = Json  # of a training, as results.json has it


def training_curves(study: Study) -> Iterator[Picture]:
    """Draw training and validation loss, and drift, of the first few sets of weights with a
    history.
    """
    users: dict[str, list[int]] = {}  # file name of weights -> the points that have them
    for i, point in enumerate(study.points):
        for name in point.run.weights if point.run else ():
            users.setdefault(name, []).append(i)
    names = sorted(users)
    models = [name.partition("-")[0] for name in names]
    shown: dict[str, list[History]] = {}
    for name in names[:SHOWN]:
        first = users[name][0]
        point = study.points[first]
        sets = histories(content(point.run.path)[0]["benches"]) if point.run else []
        seeds = next(own for own in sets if own[0]["file"] == name)
        # the model and the swept values that all points with these weights share
        model, _, digest = Path(name).stem.partition("-")
        words = [model if models.count(model) == 1 else f"{model} {digest[:6]}".strip()]
        words += [f"{len(seeds)} seeds"] if len(seeds) > 1 else []
        for axis in study.axes:
            if len({str(axis.values[i]) for i in users[name]}) == 1:
                words.append(said(axis.key, axis.values[first]))
        told = ", ".join(words)
        told = told if len(told) <= LONGEST else f"{model} of {point.name}"
        shown.setdefault(told, []).extend(seeds)
    if shown:
        yield from _draw(shown, f" {min(SHOWN, len(names))} of {len(names)} sets of weights.")


def _draw(shown: Mapping[str, Sequence[History]], more: str) -> Iterator[Picture]:
    """Draw losses, each step's (thin) and of validations, and drifts; a colour a set of weights."""
    height = 3.2 + 0.17 * len(shown)
    (losses, (loss,)), (drifts, (drift,)) = figure(height=height), figure(height=height)
    for i, (name, seeds) in enumerate(shown.items()):
        for history in seeds:
            steps = np.array([(s["step"], s["loss"]) for s in history["steps"]], dtype=float)
            late = steps[steps[:, 0] >= _EARLY * steps[-1, 0]]
            loss.plot(*late.T, color=look(i)["color"], lw=0.8, alpha=0.7 / len(seeds))
            checks = history.get("validations", ())
            x, y = [v["step"] for v in checks], [v["nats_per_token"] for v in checks]
            loss.plot(x, y, lw=0.9, label=label(name), **look(i))
            tracked = [
                (v["step"], max(v["max_drift"]))
                for v in checks
                if v.get("max_drift") and None not in v["max_drift"]
            ]
            if tracked:
                drift.plot(*zip(*tracked, strict=True), label=label(name), **look(i))
    loss.set(xlabel="optimizer steps", ylabel="loss (nats per token)")
    legend(losses, [loss])
    caption = "Loss through the training: each step's (thin) and of validations (markers)."
    caption += f" The first {_EARLY:.0%} of each training are left out.{more}"
    yield picture("training", caption, losses)
    if drift.lines:
        drift.set(yscale="log", xlabel="optimizer steps", ylabel="max drift |H(t) - H(0)| / E_ref")
        legend(drifts, [drift])
        caption = f"Drift through the training: the largest over tokens and layers.{more}"
        yield picture("training_drift", caption, drifts)
