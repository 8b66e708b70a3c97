"""How the weights were trained: loss over steps, validation perplexity, one line for each different set of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib import rc_context

from phasebench.report.axes import Axis
from phasebench.report.collect import Collection
from phasebench.report.plots.style import MARKERS, RC, Picture, figure, label, legend, look, picture
from phasebench.report.read import Broken, Run, content, histories
from phasebench.report.table import number

SHOWN = 7  # sets of weights


def training_curves(collection: Collection, axes: Sequence[Axis]) -> Iterator[Picture]:
    """Training and validation loss of the first few sets of weights whose history the results carry."""
    users: dict[str, list[int]] = {}
    runs: dict[str, Run] = {}  # the first with those weights
    for i, point in enumerate(collection.points):
        if run := point.run:
            for name in run.weights:
                users.setdefault(name, []).append(i)
                runs.setdefault(name, run)
    names = sorted(users)
    found = {}
    for name in names[:SHOWN]:
        path = runs[name].path
        try:
            history = next(h for h in histories(content(path)[0]["benches"]) if h["file"] == name)
            found[_words(name, users[name], axes)] = _curves(history)
        except (Broken, KeyError, TypeError, AttributeError, ValueError, OverflowError, StopIteration) as error:
            collection.notes.append(f"{path}: the history of {name} cannot be drawn: {error}")
    if found:
        more = f" {len(found)} of {len(names)} sets of weights." if len(names) > len(found) else ""
        yield _drawn(found, more)


def _words(name: str, users: Sequence[int], axes: Sequence[Axis]) -> str:
    """The model and the swept values that all points with these weights share; short, but told from the others."""
    model, _, digest = name.removesuffix(".safetensors").partition("-")
    shared = [axis for axis in axes if len({str(axis.values[i]) for i in users}) == 1]
    setting = (f"{axis.key.rpartition('.')[2]} {number(axis.values[users[0]])}" for axis in shared)
    return ", ".join([f"{model} {digest[:6]}".strip(), *setting])


def _curves(history: dict[str, Any]) -> tuple[list[float], ...]:
    """Steps and loss, then steps and loss of the validations."""
    steps, checks = history["steps"], history.get("validations", [])
    curves = (
        [float(s["step"]) for s in steps], [float(s["loss"]) for s in steps],
        [float(v["step"]) for v in checks], [float(v["nats_per_token"]) for v in checks],
    )  # fmt: skip
    if not all(math.isfinite(value) for curve in curves for value in curve):
        raise ValueError("a value is not finite")
    return curves


def _drawn(found: dict[str, tuple[list[float], ...]], more: str) -> Picture:
    with rc_context(RC):
        made, (panel,) = figure(height=3.0 + 0.17 * len(found))
        for i, (name, (steps, losses, at, checked)) in enumerate(found.items()):
            colour = look(i)["color"]
            panel.plot(steps, losses, color=colour, lw=0.8, alpha=0.7)
            panel.plot(at, checked, color=colour, marker=MARKERS[i % len(MARKERS)], lw=1.5,
                       label=label(name))  # fmt: skip
        panel.set_xlabel("optimizer steps")
        panel.set_ylabel("loss (nats per token)")
        legend(made, panel)
    caption = f"Training (thin) and validation (markers).{more}"
    return picture("training", caption, made)
