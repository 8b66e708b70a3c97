"""A picture of peak memory over integrator steps and over sequence length, one line a gradient method."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NAME = "memory.png"
GB = 1e9
# Okabe & Ito, Color Universal Design (2008), without the yellow, which is too faint on white
_COLOURS = ("#D55E00", "#E69F00", "#009E73", "#56B4E9", "#CC79A7", "#0072B2", "#000000")
_MARKERS = ("s", "D", "^", "v", "P", "o", "X")
_TITLES = {"steps": "over integrator steps", "seq": "over sequence length"}


def draw(results: Mapping[str, Any], folder: Path) -> Path | None:
    """Write memory.png into the folder, of a results.json's content; None where its run predicted no curve."""
    details = (results.get("benches") or {}).get("vram", {}).get("details") or {}
    curves = details.get("curves")
    if not curves:
        return None
    path = folder / NAME
    path.write_bytes(
        _png(curves, _measured(details.get("arms") or {}), _subtitle(results, details))
    )
    return path


def _measured(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The measured peak of each arm that has one, in GB."""
    return {
        name: max(p["peak"] for p in arm["passes"]) / GB
        for name, arm in arms.items()
        if arm.get("passes")
    }


def _subtitle(results: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    bench = ((results.get("config") or {}).get("bench") or {}).get("vram") or {}
    sizes = ", ".join(f"{key} {bench[key]:,}" for key in ("batch", "vocab") if key in bench)
    gpu = (details.get("predicted_for") or {}).get("name", "a GPU")
    return f"forward + backward, {sizes}, {bench.get('precision', '')}; lines: predicted for {gpu}; crosses: measured"


def _png(
    curves: Mapping[str, Mapping[str, Any]], measured: Mapping[str, float], subtitle: str
) -> bytes:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "font.family": "DejaVu Sans", "text.parse_math": False}):
        figure = Figure(figsize=(4.4 * len(curves), 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        panels: Sequence[Any] = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
        for panel, (axis, curve) in zip(panels, curves.items(), strict=True):
            _panel(panel, axis, curve, measured)
        panels[0].set_ylabel("peak allocated memory (GB = 1e9 bytes)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle(subtitle, fontsize=8)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    return stream.getvalue()


def _panel(panel: Any, axis: str, curve: Mapping[str, Any], measured: Mapping[str, float]) -> None:
    ticks: set[float] = set()
    for i, (name, points) in enumerate(curve["points"].items()):
        colour, (x, y) = _COLOURS[i % len(_COLOURS)], zip(*points, strict=True)
        style = {
            "color": colour,
            "marker": _MARKERS[i % len(_MARKERS)],
            "markersize": 4,
            "linewidth": 1.3,
        }
        panel.plot(
            x,
            [size / GB for size in y],
            label=name,
            linestyle="-" if i < len(_COLOURS) else ":",
            **style,
        )
        if name in measured:
            panel.plot(
                [curve["own"]],
                [measured[name]],
                "x",
                color="black",
                markersize=8,
                markeredgewidth=1.5,
                zorder=3,
            )
        ticks |= set(x)
    panel.set(xscale="log", yscale="log", xlabel=curve["unit"], title=_TITLES.get(axis, axis))
    panel.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
    panel.set_xticks([], minor=True)
    low, high = panel.get_ylim()
    marks = [m * 10**e for e in range(-4, 5) for m in (1, 2, 5) if low <= m * 10**e <= high]
    panel.set_yticks(marks, [f"{mark:g}" for mark in marks])
    panel.set_yticks([], minor=True)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
