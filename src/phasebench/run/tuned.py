"""The best settings of each model among a sweep's points, as YAML that an experiment includes."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from phasebench.config import Config
from phasebench.results.file import load
from phasebench.results.jsonfile import write_atomic
from phasebench.run.sweep.point import Point

_HEADER = """\
# Of {trials} settings of {model} the best: {metric} {value:.4g} ({folder}).
# Include it as +tuned@model={model}, with --config-dir, or in an experiment's defaults.
"""


def write(sweep: Path, points: Sequence[Point], metric: str) -> str:
    """Write tuned/MODEL.yaml for each model whose trials have all ended; returns what to tell.

    It holds the model's swept keys (`model.lr`, say) as the point with the lowest `metric` had
    them, and `trials`, the number of settings that were tried, which results.json then records.
    """
    keys = {word.partition("=")[0] for point in points for word in point.swept}
    keys = sorted(key for key in keys if key.startswith("model."))
    trials: dict[str, list[tuple[float, Point]]] = collections.defaultdict(list)
    for point in points:
        if isinstance(point.config, Config):
            trials[point.config.model.name].append((_value(sweep / point.name, metric), point))
    lines = []
    for model, tried in trials.items():
        value, best = min(tried, key=lambda trial: trial[0])
        missing = sum(value == math.inf for value, _ in tried)
        if missing:
            lines.append(f"tuned: {model}: {missing} of {len(tried)} trials have no {metric}")
            continue
        tree: Any = OmegaConf.create(dict(best.tree))
        chosen = OmegaConf.create({"trials": len(tried)})
        for key in keys:
            OmegaConf.update(chosen, key.removeprefix("model."), OmegaConf.select(tree, key))
        file = sweep / "tuned" / f"{model}.yaml"
        file.parent.mkdir(exist_ok=True)
        words = {"trials": len(tried), "model": model, "metric": metric, "value": value}
        head = _HEADER.format(**words, folder=best.name)
        write_atomic(file, head + OmegaConf.to_yaml(chosen))
        lines.append(f"tuned: {file}: {metric} {value:.4g}, best of {len(tried)} ({best.name})")
    return "\n".join(lines)


def _value(folder: Path, metric: str) -> float:
    """Read the metric of a point; infinity where it was not measured."""
    path = folder / "results.json"
    benches = load(path)["benches"].values() if path.exists() else ()
    values = (bench["metrics"].get(metric, {}).get("value") for bench in benches)
    return next((float(value) for value in values if value is not None), math.inf)
