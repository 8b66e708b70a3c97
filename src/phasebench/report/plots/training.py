"""How the weights were trained: loss over steps, and drift where it was tracked; the seeds of a model look alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context

from phasebench.report.axes import Axis
from phasebench.report.collect import Collection
from phasebench.report.plots.style import (
    COLOURS,
    MARKERS,
    RC,
    Picture,
    figure,
    label,
    legend,
    look,
    picture,
    y_log,
)
from phasebench.report.read import Broken, Run, content, histories
from phasebench.report.summary import number

SHOWN = len(COLOURS)  # sets of weights
_EARLY = 0.05  # of a training, whose loss may lie above the picture
_LARGEST = 1e12


@dataclass(frozen=True)
class Curves:
    """One training: recorded steps and losses, steps and losses of its validations, and their largest drifts."""

    steps: list[float]
    losses: list[float]
    checks: list[float]
    checked: list[float]
    drifts: list[tuple[float, float]]  # step and drift, where it was tracked and finite

    @classmethod
    def of(cls, history: dict[str, Any]) -> Curves:
        """Raises ValueError for a step before the first, or a loss that no training has."""
        steps, checks = history["steps"], history.get("validations", [])
        curves = (
            [float(s["step"]) for s in steps],
            [float(s["loss"]) for s in steps],
            [float(v["step"]) for v in checks],
            [float(v["nats_per_token"]) for v in checks],
        )
        if not all(0 <= value < _LARGEST for curve in curves for value in curve):
            raise ValueError(f"a value is not between 0 and {_LARGEST:g}")
        tracked = [(float(v["step"]), v["max_drift"]) for v in checks if v.get("max_drift")]
        drifts = [(step, max(map(float, layers))) for step, layers in tracked if None not in layers]
        return cls(*curves, [(step, drift) for step, drift in drifts if 0 < drift < _LARGEST])


def training_curves(collection: Collection, axes: Sequence[Axis]) -> Iterator[Picture]:
    """Training and validation loss of the first few sets of weights whose history the results carry; their drift."""
    users: dict[str, list[int]] = {}
    runs: dict[str, Run] = {}  # the first with those weights
    for i, point in enumerate(collection.points):
        if run := point.run:
            for name in run.weights:
                users.setdefault(name, []).append(i)
                runs.setdefault(name, run)
    names = sorted(users)
    models = [_model(name) for name in names]
    found: dict[str, list[Curves]] = {}
    for name in names[:SHOWN]:
        path = runs[name].path
        try:
            seeds = next(
                own for own in histories(content(path)[0]["benches"]) if own[0]["file"] == name
            )
            words = _words(name, users[name], axes, len(seeds), models.count(_model(name)) == 1)
        except (Broken, KeyError, TypeError, AttributeError, ValueError, StopIteration) as error:
            collection.notes.append(f"{path}: the history of {name} cannot be drawn: {error}")
            continue
        for history in seeds:
            try:
                found.setdefault(words, []).append(Curves.of(history))
            except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
                collection.notes.append(
                    f"{path}: the history of {history['file']} cannot be drawn: {error}"
                )
    found = {words: curves for words, curves in found.items() if curves}
    more = f" {len(found)} of {len(names)} sets of weights." if len(names) > len(found) else ""
    if found:
        yield _losses(found, more)
    if any(one.drifts for seeds in found.values() for one in seeds):
        yield _drifts(found, more)


def _model(name: str) -> str:
    return name.partition("-")[0]


def _words(name: str, users: Sequence[int], axes: Sequence[Axis], seeds: int, alone: bool) -> str:
    """The model and the swept values that all points with these weights share; short, but told from the others."""
    model, _, digest = name.removesuffix(".safetensors").partition("-")
    shared = [axis for axis in axes if len({str(axis.values[i]) for i in users}) == 1]
    setting = (f"{axis.key.rpartition('.')[2]} {number(axis.values[users[0]])}" for axis in shared)
    several = [f"{seeds} seeds"] if seeds > 1 else []
    return ", ".join([model if alone else f"{model} {digest[:6]}".strip(), *several, *setting])


def _losses(found: dict[str, list[Curves]], more: str) -> Picture:
    with rc_context(RC):
        made, (panel,) = figure(height=3.0 + 0.17 * len(found))
        for i, (name, seeds) in enumerate(found.items()):
            colour = look(i)["color"]
            for j, one in enumerate(seeds):
                panel.plot(one.steps, one.losses, color=colour, lw=0.8, alpha=0.7 / len(seeds))
                panel.plot(
                    one.checks,
                    one.checked,
                    color=colour,
                    marker=MARKERS[i % len(MARKERS)],
                    lw=1.5 if len(seeds) == 1 else 0.9,
                    label=None if j else label(name),
                )
        highest = _cut([one for seeds in found.values() for one in seeds])
        if highest is not None:
            panel.set_ylim(top=highest)
        panel.set_xlabel("optimizer steps")
        panel.set_ylabel("loss (nats per token)")
        legend(made, panel)
    above = " The first losses lie above." if highest is not None else ""
    return picture("training", f"Training (thin) and validation (markers).{above}{more}", made)


def _cut(curves: list[Curves]) -> float | None:
    """A limit above all losses but the earliest; None where those do not tower over the rest."""
    late = [
        y
        for one in curves
        for x, y in zip(one.steps, one.losses, strict=True)
        if x >= _EARLY * one.steps[-1]
    ]
    late += [y for one in curves for y in one.checked]
    low, high, highest = min(late), max(late), max(y for one in curves for y in one.losses)
    limit = high + 0.05 * (high - low)
    return limit if highest - low > 1.25 * (limit - low) else None


def _drifts(found: dict[str, list[Curves]], more: str) -> Picture:
    with rc_context(RC):
        made, (panel,) = figure(height=3.0 + 0.17 * len(found))
        for i, (name, seeds) in enumerate(found.items()):
            for j, one in enumerate(one for one in seeds if one.drifts):
                panel.plot(
                    *zip(*one.drifts, strict=True), **look(i), label=None if j else label(name)
                )
        y_log(panel)
        panel.set_xlabel("optimizer steps")
        panel.set_ylabel("max drift |H(t) - H(0)| / E_ref")
        legend(made, panel)
    return picture(
        "training_drift",
        f"Drift through the training: the largest over tokens and layers.{more}",
        made,
    )
