"""Draw how the weights were trained: loss over steps, and drift where it was tracked; the seeds of
a model look alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from phasebench.report.axes import Axis, said
from phasebench.report.collect import Collection
from phasebench.report.plots.style import COLOURS, Picture, figure, label, legend, look, picture
from phasebench.report.read import Run, content, histories

SHOWN = len(COLOURS)  # sets of weights
_EARLY = 0.05  # of a training, whose loss may lie above the picture

Curve = list[tuple[float, float]]  # of optimizer step and value; what is not finite is left out


@dataclass(frozen=True)
class Curves:
    """One training: recorded losses, losses of its validations, and their largest drifts."""

    losses: Curve
    checked: Curve
    drifts: Curve

    @classmethod
    def of(cls, history: dict[str, Any]) -> Curves:
        """Take the curves from a history in results.json."""
        checks = history.get("validations", ())
        drifts = [(v["step"], v["max_drift"]) for v in checks if v.get("max_drift")]
        return cls(
            [(s["step"], s["loss"]) for s in history["steps"] if s["loss"] is not None],
            [(v["step"], v["nats_per_token"]) for v in checks if v["nats_per_token"] is not None],
            [(step, max(layers)) for step, layers in drifts if None not in layers and max(layers)],
        )


def training_curves(collection: Collection, axes: Sequence[Axis]) -> Iterator[Picture]:
    """Draw training and validation loss, and drift, of the first few sets of weights with a
    history.
    """
    users: dict[str, list[int]] = {}
    runs: dict[str, Run] = {}  # the first with those weights
    for i, point in enumerate(collection.points):
        if run := point.run:
            for name in run.weights:
                users.setdefault(name, []).append(i)
                runs.setdefault(name, run)
    names = sorted(users)
    models = [name.partition("-")[0] for name in names]
    shown: dict[str, list[Curves]] = {}
    for name in names[:SHOWN]:
        sets = histories(content(runs[name].path)[0]["benches"])
        seeds = next(own for own in sets if own[0]["file"] == name)
        # the model and the swept values that all points with these weights share
        model, _, digest = name.removesuffix(".safetensors").partition("-")
        words = [model if models.count(model) == 1 else f"{model} {digest[:6]}".strip()]
        words += [f"{len(seeds)} seeds"] if len(seeds) > 1 else []
        for axis in axes:
            if len({str(axis.values[i]) for i in users[name]}) == 1:
                words.append(said(axis.key, axis.values[users[name][0]]))
        curves = [Curves.of(history) for history in seeds]
        shown.setdefault(", ".join(words), []).extend(one for one in curves if one.losses)
    shown = {words: curves for words, curves in shown.items() if curves}
    more = f" {len(shown)} of {len(names)} sets of weights." if len(names) > len(shown) else ""
    if shown:
        yield _losses(shown, more)
    if any(one.drifts for seeds in shown.values() for one in seeds):
        yield _drifts(shown, more)


def _losses(shown: dict[str, list[Curves]], more: str) -> Picture:
    made, (panel,) = figure(height=3.2 + 0.17 * len(shown))
    for i, (name, seeds) in enumerate(shown.items()):
        style = {"color": look(i)["color"], "marker": look(i)["marker"]}
        for one in seeds:
            thin = {"color": style["color"], "lw": 0.8, "alpha": 0.7 / len(seeds)}
            panel.plot(*zip(*one.losses, strict=True), **thin)
            width = 1.5 if len(seeds) == 1 else 0.9
            checked = zip(*one.checked, strict=True) if one.checked else ([], [])
            panel.plot(*checked, lw=width, label=label(name), **style)
    highest = _cut([one for seeds in shown.values() for one in seeds])
    if highest is not None:
        panel.set_ylim(top=highest)
    panel.set(xlabel="optimizer steps", ylabel="loss (nats per token)")
    legend(made, panel)
    above = " The first losses lie above." if highest is not None else ""
    words = f"Loss through the training: each step's (thin) and of validations (markers).{above}"
    return picture("training", words + more, made)


def _cut(curves: list[Curves]) -> float | None:
    """Find a limit above all losses but the earliest; None where those are not much larger."""
    late = [y for one in curves for x, y in one.losses if x >= _EARLY * one.losses[-1][0]]
    late += [y for one in curves for _, y in one.checked]
    low, high, highest = min(late), max(late), max(y for one in curves for _, y in one.losses)
    limit = high + 0.05 * (high - low)
    return limit if highest - low > 1.25 * (limit - low) else None


def _drifts(shown: dict[str, list[Curves]], more: str) -> Picture:
    made, (panel,) = figure(height=3.2 + 0.17 * len(shown))
    for i, (name, seeds) in enumerate(shown.items()):
        for one in seeds:
            if one.drifts:
                panel.plot(*zip(*one.drifts, strict=True), **look(i), label=label(name))
    panel.set(yscale="log", xlabel="optimizer steps", ylabel="max drift |H(t) - H(0)| / E_ref")
    legend(made, panel)
    words = f"Drift through the training: the largest over tokens and layers.{more}"
    return picture("training_drift", words, made)
