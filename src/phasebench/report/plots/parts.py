"""Draw what each part of Stage 3 does to perplexity, time and memory, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phasebench.report.collect import Point
from phasebench.report.plots.style import Picture, figure, label, look, picture


def part_effects(points: Sequence[Point]) -> Iterator[Picture]:
    """Draw a picture a run of bench=parts: a panel a quantity, a row an effect, zero as a line."""
    runs = [rows for point in points if (rows := point.details("parts").get("effects"))]
    for number, rows in enumerate(runs, 1):
        quantities = list(dict.fromkeys(row["of"] for row in rows))
        names = list(dict.fromkeys(row["part"] for row in rows))
        height = 1.2 + 0.22 * len(names)
        made, panels = figure(1, len(quantities), height=height, sharey=True)
        for i, (panel, quantity) in enumerate(zip(panels, quantities, strict=True)):
            panel.axvline(0.0, color="0.3", lw=0.8, zorder=1)
            for row in rows:
                if row["of"] == quantity and row["effect_pct"] is not None:
                    place, ends = names.index(row["part"]), (row["low"], row["high"])
                    if None not in ends:
                        panel.plot(ends, (place, place), color=look(i)["color"])
                    panel.plot(row["effect_pct"], place, **look(i))
            panel.set_xlabel(f"% of the {label(quantity)}")
        panels[0].set_yticks(range(len(names)), [label(name) for name in names])
        panels[0].invert_yaxis()
        caption = "What each part does, alone and in pairs, with 95 % intervals. Good is left of 0."
        yield picture("parts" if len(runs) == 1 else f"parts_{number}", caption, made)
