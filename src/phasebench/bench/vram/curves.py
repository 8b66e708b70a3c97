"""Predicted peaks over the number of integrator steps and over the sequence length, for the plot of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from phasebench.bench.vram.arm import ArmRequest, predict
from phasebench.bench.vram.gpus import Gpu
from phasebench.config import VramConfig

UNITS = {"seq": "tokens a sequence", "batch": "sequences", "steps": "integrator steps a layer"}


def at(request: ArmRequest, axis: str, value: int) -> ArmRequest:
    """The request with another sequence length, batch or number of steps."""
    changes = {"model": request.model.with_ode(steps=value)} if axis == "steps" else {axis: value}
    return dataclasses.replace(request, **changes)


def value(request: ArmRequest, axis: str) -> int:
    """Its sequence length, batch or number of steps."""
    return request.model.ode.steps if axis == "steps" else getattr(request, axis)


def curves(
    requests: Mapping[str, ArmRequest],
    known: Mapping[str, Mapping[str, int]],
    config: VramConfig,
    gpu: Gpu,
) -> dict[str, dict[str, Any]]:
    """By axis: its ``unit``, the run's ``own`` value, and by arm the ``points`` [value, bytes]; `known`: its
    prediction at the own."""
    found: dict[str, dict[str, Any]] = {}
    for axis, values in (("steps", config.curve_steps), ("seq", config.curve_seq)):
        points: dict[str, list[list[int]]] = {}
        for name, request in requests.items():
            own = value(request, axis)
            peaks = {x: predict(at(request, axis, x), gpu)[0].peak for x in set(values) - {own}}
            points[name] = [
                list(point) for point in sorted((peaks | {own: known[name]["peak"]}).items())
            ]
        if values:
            own = value(next(iter(requests.values())), axis)
            found[axis] = {"unit": UNITS[axis], "kind": "predicted", "own": own, "points": points}
    return found
