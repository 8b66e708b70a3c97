"""Draw peak memory over integrator steps and over sequence length, one line a gradient method."""

from __future__ import annotations

from pathlib import Path

from phasebench.results.jsonfile import Json

NAME = "memory.png"
_TITLES = {"steps": "over integrator steps", "seq": "over sequence length"}


def draw(results: Json, folder: Path) -> Path | None:
    """Write memory.png, of a results.json's content; None where its run predicted no curve."""
    details = results["benches"].get("vram", {}).get("details", {})
    curves = details.get("curves")
    if not curves:
        return None
    # matplotlib, which runs without curves do not wait for
    from phasebench.report.plots.curves import draw_lines, lines
    from phasebench.report.plots.style import WIDTH, figure, legend, picture, styled

    with styled():
        made, panels = figure(1, len(curves), height=4.2, sharey=True)
        made.set_figwidth(0.8 * WIDTH * len(curves))
        for panel, (axis, curve) in zip(panels, curves.items(), strict=True):
            values = [
                (arm, "", True, x, size / 1e9, False)
                for arm, points in curve["points"].items()
                for x, size in points
            ]
            draw_lines(panel, lines(values))
            for arm in curve["points"]:
                if passes := details["arms"].get(arm, {}).get("passes"):
                    peak = max(one["peak"] for one in passes) / 1e9
                    panel.plot(curve["own"], peak, "kx", ms=8, zorder=3, label="measured")
            panel.set(yscale="log", title=_TITLES.get(axis, axis), xlabel=curve["unit"])
        panels[0].set_ylabel("peak allocated memory (GB = 1e9 bytes)")
        legend(made, panels, columns=4)
        config = results["config"]["bench"]["vram"]
        sizes = f"batch {config['batch']:,}, vocab {config['vocab']:,}, {config['precision']}"
        gpu = details["predicted_for"]["name"]
        caption = f"Forward + backward, {sizes}; predicted for {gpu}"
        path = folder / NAME
        path.write_bytes(picture("memory", caption, made).files["png"])
    return path
