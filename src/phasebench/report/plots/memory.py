"""Draw peak memory over integrator steps and over sequence length, one line a gradient method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "memory.png"
GB = 1e9
_TITLES = {"steps": "over integrator steps", "seq": "over sequence length"}


def draw(results: Mapping[str, Any], folder: Path) -> Path | None:
    """Write memory.png, of a results.json's content; None where its run predicted no curve."""
    details = (results.get("benches") or {}).get("vram", {}).get("details") or {}
    curves = details.get("curves")
    if not curves:
        return None
    from matplotlib import rc_context  # which runs without curves do not wait for

    from phasebench.report.plots.style import RC, WIDTH, figure, legend, look, picture, x_scale

    bench = ((results.get("config") or {}).get("bench") or {}).get("vram") or {}
    sizes = ", ".join(f"{key} {bench[key]:,}" for key in ("batch", "vocab") if key in bench)
    gpu = (details.get("predicted_for") or {}).get("name", "a GPU")
    caption = (
        f"Forward + backward, {sizes}, {bench.get('precision', '')}; lines: predicted for {gpu}"
    )
    with rc_context(RC):
        made, panels = figure(len(curves), height=4.2, share_x=False)
        made.set_figwidth(0.8 * WIDTH * len(curves))
        for panel, (axis, curve) in zip(panels, curves.items(), strict=True):
            for i, (arm, points) in enumerate(curve["points"].items()):
                x, y = zip(*points, strict=True)
                panel.plot(x, [size / GB for size in y], label=arm, **look(i))
                passes = (details.get("arms") or {}).get(arm, {}).get("passes")
                if passes:
                    peak = max(one["peak"] for one in passes) / GB
                    style = {"color": "black", "ms": 8, "mew": 1.5, "zorder": 3, "ls": "none"}
                    panel.plot(curve["own"], peak, marker="x", label="measured", **style)
            x_scale(panel, (x for points in curve["points"].values() for x, _ in points))
            panel.set(yscale="log", title=_TITLES.get(axis, axis), xlabel=curve["unit"])
        panels[0].set_ylabel("peak allocated memory (GB = 1e9 bytes)")
        legend(made, panels[0], columns=4)
        path = folder / NAME
        path.write_bytes(picture("memory", caption, made).files["png"])
    return path
