from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import made
from paths import ROOT
from phasebench.report.axes import Study
from phasebench.report.collect import Collection, Point, collect
from phasebench.report.plots import (
    budget,
    interaction,
    parts,
    pictures,
    quantities,
    traces,
    training,
)
from phasebench.report.plots.pareto import pareto
from phasebench.report.plots.quantities import QUANTITIES, over_axes
from phasebench.report.plots.style import (
    SHOWN,
    Picture,
    evenly,
    figure,
    label,
    look,
    picture,
    styled,
)
from phasebench.report.read import histories
from phasebench.results.stats import NOISE

Drawn = dict[str, Figure]
ARMS = ("autograd", "backprop", "checkpoint", "adjoint")


def drawn(folder: Path) -> tuple[dict[str, Picture], Collection]:
    collection = collect([folder])
    return {found.name: found for found in pictures(collection)}, collection


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """The figures behind the pictures of quantities, traces and trainings, by name."""
    kept: Drawn = {}

    def keep(name: str, caption: str, made: Figure) -> Picture:
        kept[name] = made
        return Picture(name, caption, {})

    for module in (budget, interaction, parts, quantities, traces, training):
        monkeypatch.setattr(module, "picture", keep)
    return kept


def test_all_kinds_of_pictures(tmp_path: Path) -> None:
    made.sweep(tmp_path, [0.1, 0.2], ["leapfrog"], seeds=[0, 1])
    found, collection = drawn(tmp_path)
    expected = {
        "drift_over_bench_energy_dt",
        "energy_duration_over_bench_energy_dt",
        "pareto",
        "energy_traces",
        "training",
    }
    assert set(found) == expected
    assert collection.notes == []
    for one in found.values():
        assert one.files["png"].startswith(b"\x89PNG")
        assert one.files["pdf"].startswith(b"%PDF")
        assert one.caption.endswith(".")
    with styled():
        again = next(pareto(Study(collection.points)))
    assert again == found["pareto"]  # nothing in its files depends on when it is made


def test_every_quantity_over_an_axis_that_concerns_it(tmp_path: Path, figures: Drawn) -> None:
    for steps in (5, 10):
        speed = {
            "status": "ok",
            "metrics": {},
            "gates": [],
            "notices": [],
            "error": None,
            "duration_s": 1.0,
            "details": {
                "rows": [
                    *(
                        {
                            "what": "ode stack",
                            "arm": arm,
                            "precision": "bf16",
                            "median_ms": 3.5 * steps,
                        }
                        for arm in ("adjoint", "backprop")
                    ),
                    {
                        "what": "training",
                        "arm": "autograd",
                        "precision": "bf16",
                        "median_ms": None,
                        "reason": "out of memory",
                    },
                ]
            },
        }
        found = made.content({"model.ode.steps": steps})
        found["benches"]["speed"] = speed
        made.write(tmp_path / str(steps), made.consistent(found))
    points = collect([tmp_path]).points
    list(over_axes(Study(points)))
    names = {
        "perplexity",
        "ppl_ratio",
        "drift",
        "memory",
        "time",
        "vram_duration",
        "ppl_duration",
        "energy_duration",
    }
    assert set(figures) == {f"{name}_over_model_ode_steps" for name in names}
    for one in figures.values():
        (panel,) = one.axes
        assert panel.get_xlabel() == "model.ode.steps"
        assert panel.get_ylabel() in {quantity.title for quantity in QUANTITIES}
    assert legend(figures["time_over_model_ode_steps"]) == ["adjoint_bf16", "backprop_bf16"]
    shown = legend(figures["memory_over_model_ode_steps"])
    assert set(shown) == {"autograd", "backprop", "checkpoint", "adjoint"}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


def test_the_order_stands_in_the_legend_and_the_floor_is_left_out(
    tmp_path: Path, figures: Drawn
) -> None:
    made.sweep(tmp_path, [0.02, 0.1, 0.2, 0.4], ["leapfrog", "yoshida4"])
    points = collect([tmp_path]).points
    (caption,) = (p.caption for p in over_axes(Study(points)) if p.name.startswith("drift"))
    drift = figures["drift_over_bench_energy_dt"]
    assert drift.axes[0].get_xscale() == drift.axes[0].get_yscale() == "log"
    # 1e-3 x 0.02^2 lies below the floor of rounding, as do 1e-2 x 0.02^4 and 0.1^4
    assert 1e-3 * 0.02**2 < NOISE["fp32"] < 1e-2 * 0.2**4
    assert legend(drift) == [
        "gate: max drift < 5e-05",
        "leapfrog, order 2.00 ± 0.00 (3 points)",
        "yoshida4, order 4.00 (2 points)",
    ]
    assert f"{NOISE['fp32']:g}" in caption


def test_no_order_over_what_has_none(tmp_path: Path, figures: Drawn) -> None:
    for dim in (64, 128, 256):
        made.write(
            tmp_path / str(dim), made.content({"model.dim": dim}, {"energy.max_drift": dim * 1e-7})
        )
    points = collect([tmp_path]).points
    list(over_axes(Study(points)))
    assert legend(figures["drift_over_model_dim"]) == ["gate: max drift < 5e-05"]


def predicted(found: dict, unit: str = "GB") -> dict:
    for entry in found["benches"]["vram"]["metrics"].values():
        entry["kind"] = "predicted"
        entry["unit"] = unit
    return found


def test_predictions_and_measurements_are_different_lines(tmp_path: Path, figures: Drawn) -> None:
    for i, steps in enumerate((5, 10, 20, 40)):
        found = made.content({"model.ode.steps": steps})
        made.write(tmp_path / str(i), predicted(found) if steps > 10 else found)
    points = collect([tmp_path]).points
    (caption,) = (p.caption for p in over_axes(Study(points)) if p.name.startswith("memory"))
    memory = figures["memory_over_model_ode_steps"]
    containers: list[Any] = list(memory.axes[0].containers)
    colours = {line.get_label(): line[0].get_color() for line in containers}
    assert set(legend(memory)) == {f"{arm}{kind}" for arm in ARMS for kind in ("", ", predicted")}
    assert colours["adjoint"] == colours["adjoint, predicted"]
    assert "Dashed: predicted, not measured." in caption


def test_a_lower_bound_is_said(tmp_path: Path, figures: Drawn) -> None:
    for steps in (5, 10):
        found = predicted(made.content({"model.ode.steps": steps}), "GB, at least: out of memory")
        made.write(tmp_path / str(steps), found)
    points = collect([tmp_path]).points
    (caption,) = (p.caption for p in over_axes(Study(points)) if p.name.startswith("memory"))
    assert "a lower bound" in caption


def test_points_that_ran_beside_others_show_no_time_and_no_measured_memory(
    tmp_path: Path, figures: Drawn
) -> None:
    for steps in (5, 10, 20):
        found = made.content({"model.ode.steps": steps})
        found["point"] = {
            "name": str(steps),
            "identity": {},
            "side_by_side": 1 if steps == 20 else 2,
        }
        made.write(tmp_path / str(steps), found)
    _, collection = drawn(tmp_path)
    assert "memory_over_model_ode_steps" not in figures  # one undisturbed point is no line
    assert "vram_duration_over_model_ode_steps" not in figures
    assert "perplexity_over_model_ode_steps" in figures
    assert (
        "2 points ran beside others of their sweep: plots of time leave them out"
        in collection.notes
    )


def test_predictions_made_beside_others_are_as_good(tmp_path: Path, figures: Drawn) -> None:
    for steps in (5, 10):
        found = predicted(made.content({"model.ode.steps": steps}), "GB")
        found["point"] = {"name": str(steps), "identity": {}, "side_by_side": 2}
        made.write(tmp_path / str(steps), found)
    drawn(tmp_path)
    assert set(legend(figures["memory_over_model_ode_steps"])) == {
        f"{arm}, predicted" for arm in ARMS
    }


def test_points_on_another_text_are_lines_of_their_own(tmp_path: Path, figures: Drawn) -> None:
    for steps in (5, 10):
        for text in ("a", "b"):
            found = made.content(
                {"model.ode.steps": steps}, {"ppl.ppl_ratio": 0.9 if text == "a" else 0.8}
            )
            found["data"]["fingerprint"] = text * 64
            made.write(tmp_path / f"{steps}{text}", found)
    drawn(tmp_path)
    shown = legend(figures["ppl_ratio_over_model_ode_steps"])
    assert shown == ["gate: ppl ratio <= 1.02", "a" * 12, "b" * 12]


def test_many_settings_are_cut_but_every_arm_stays(tmp_path: Path, figures: Drawn) -> None:
    for steps in (5, 10):
        for hidden in range(100, 1100, 100):
            peaks = {f"vram.{arm}_peak_gb": 1.0 + hidden for arm in ARMS}
            found = made.content({"model.ode.steps": steps, "model.hidden": hidden}, peaks)
            made.write(tmp_path / f"{steps}-{hidden}", found)
    points = collect([tmp_path]).points
    (caption,) = (
        p.caption for p in over_axes(Study(points)) if p.name == "memory_over_model_ode_steps"
    )
    shown = legend(figures["memory_over_model_ode_steps"])
    assert sorted(shown) == sorted(
        f"{arm}, hidden {hidden}" for arm in ARMS for hidden in (100, 900)
    )  # the first and the last folder
    assert "8 of 40 lines are shown" in caption


def test_series_that_cannot_be_drawn_are_said(tmp_path: Path) -> None:
    broken = made.content()
    broken["benches"]["energy"]["details"]["layers"] = [{"max_drift_at_step": "flat"}]
    broken["benches"]["ppl"]["details"]["candidate"]["weights"]["steps"] = [{"step": "first"}]
    made.write(tmp_path, broken)
    found, collection = drawn(tmp_path)
    assert found == {}
    assert "edited by hand?" in collection.broken[0].reason


def test_hostile_names_break_no_picture(tmp_path: Path) -> None:
    names = ["$x^{", "_hidden", "\U0001f600\u4e2d" * 30 + "a\nb\ud800", ""]
    for i, name in enumerate(names):
        for steps in (5, 10):
            made.write(
                tmp_path / f"{i}-{steps}",
                made.content({"model.name": name, "model.ode.steps": steps}),
            )
    found, collection = drawn(tmp_path)
    assert "drift_over_model_ode_steps" in found
    assert collection.notes == []


@pytest.mark.parametrize("layers", [[], "flat", [[]], {}, [{"max_drift_at_step": []}]])
def test_strange_layers_are_said(tmp_path: Path, layers: object) -> None:
    strange = made.content(benches=["energy"])
    strange["benches"]["energy"]["details"]["layers"] = layers
    made.write(tmp_path, strange)
    found, collection = drawn(tmp_path)
    assert found == {}
    assert "benches.energy.details.layers" in collection.broken[0].reason


def test_thinned_series_of_several_seeds(tmp_path: Path, figures: Drawn) -> None:
    content = made.content(benches=["energy"])
    details = content["benches"]["energy"]["details"]
    details["every"] = 50
    details["layers"] = [
        {"seed": seed, "max_drift_at_step": [1e-6, 2e-6], "drift_of_batch_mean": [0.0, 1e-7, 2e-7]}
        for seed in (0, 0, 1)
    ]
    made.write(tmp_path, content)
    collection = collect([tmp_path])
    captions = [found.caption for found in traces.energy_traces(Study(collection.points))]
    assert [caption.endswith("the first one's.") for caption in captions] == [True]
    drift, mean = (panel.lines for panel in figures["energy_traces"].axes)
    # the first seed's layers; dt is 0.1; and the gate
    assert [np.asarray(line.get_xdata()).tolist() for line in drift] == [[5, 10], [5, 10], [0, 1]]
    assert np.asarray(mean[0].get_xdata()).tolist() == [0, 5, 10]


def test_one_point_has_its_traces_only(tmp_path: Path) -> None:
    made.write(tmp_path, made.content())
    assert set(drawn(tmp_path)[0]) == {"energy_traces", "training"}


def test_no_point_no_picture() -> None:
    assert pictures(Collection([Point("0", None, ("a=1",), "killed")])) == []


@pytest.mark.parametrize("count", range(1, 6))
def test_a_choice_has_the_first_and_the_last_and_nothing_twice(count: int) -> None:
    for items in (range(n) for n in range(1, 9)):
        chosen = evenly(items, count)
        assert len(set(chosen)) == len(chosen) == min(count, len(items))
        assert chosen[0] == 0
        assert count == 1 or chosen[-1] == items[-1]


@pytest.mark.parametrize(
    "values", [(1.2e-7, 1.45e-7), (1e-7, 9e-7), (1e-9, 1e-3), (20.0, 30.0), (5.0, 5.0)]
)
def test_no_two_ticks_have_the_same_label(values: tuple[float, float]) -> None:
    one, (panel, *_) = figure(height=3.6)
    panel.plot([0, 1], values)
    panel.set_yscale("log")
    one.draw_without_rendering()
    low, high = panel.get_ylim()
    ticks = [*panel.yaxis.get_major_ticks(), *panel.yaxis.get_minor_ticks()]
    labels = [tick.label1.get_text() for tick in ticks if low <= tick.get_loc() <= high]
    told = [label for label in labels if label]
    assert len(told) == len(set(told)) >= 2


def test_labels() -> None:
    assert label("a" * 100) == "a" * 43 + "…"
    assert label("a\nb\u4e2d") == "a?b?"


def test_no_two_lines_look_alike_even_in_grey() -> None:
    shown = [look(i) for i in range(SHOWN)]
    assert len({found["color"] for found in shown}) == SHOWN
    assert len({found["marker"] for found in shown}) == SHOWN


def test_a_picture_is_of_paper_width() -> None:
    with styled():
        made_figure, panels = figure(height=3.6)
        panels[0].plot([0, 1], [0, 1])
        found = picture("x", "A line.", made_figure)
    assert int.from_bytes(found.files["png"][16:20], "big") == round(5.5 * 160)


def test_a_series_that_no_setting_changes_is_one_line(tmp_path: Path, figures: Drawn) -> None:
    for steps in (5, 10):
        for dt in (0.1, 0.2):
            found = made.content(
                {"model.ode.steps": steps, "model.ode.dt": dt},
                {"ppl.candidate_ppl": 60.0 + steps + dt},
            )
            found["stage2_ppl"] = 60.0 + steps + dt
            made.write(tmp_path / f"{steps}-{dt}", found)
    drawn(tmp_path)
    expected = ["candidate, steps 5", "candidate, steps 10", "baseline"]
    assert sorted(legend(figures["perplexity_over_model_ode_dt"])) == sorted(expected)


def test_in_float64_the_order_is_fitted_far_below_the_rounding_of_float32(
    tmp_path: Path, figures: Drawn
) -> None:
    for i, path in enumerate(made.sweep(tmp_path, [0.02, 0.1, 0.2, 0.4], ["leapfrog", "yoshida4"])):
        found = json.loads(path.read_text())
        found["config"]["bench"]["energy"]["precision"] = "fp64"
        made.write(tmp_path / str(i), made.consistent(found))
    points = collect([tmp_path]).points
    (caption,) = (p.caption for p in over_axes(Study(points)) if p.name.startswith("drift"))
    shown = legend(figures["drift_over_bench_energy_dt"])
    assert shown[2] == "yoshida4, order 4.00 ± 0.00 (4 points)"
    assert "rounding to float64" in caption


def test_a_picture_is_small(tmp_path: Path) -> None:
    made.sweep(tmp_path, [0.02, 0.1, 0.2, 0.4], ["leapfrog", "yoshida4", "suzuki4", "blanes_moan4"])
    found, _ = drawn(tmp_path)
    assert max(len(picture.files["png"]) for picture in found.values()) < 130_000


def compared() -> dict:
    """A run that compared two integrators of known order, in both precisions."""
    found = made.content(benches=["energy"])
    found["benches"]["energy"]["details"]["compare"] = [
        {
            "integrator": name,
            "dt": dt,
            "steps": round(10 / dt),
            "precision": precision,
            "seconds": None,
            "seed": 0,
            "max_drift": max(dt**order * 1e-4, floor),
            "force_evaluations": round(10 / dt) * cost,
        }
        for precision, floor in (("fp32", 1e-6), ("fp64", 0.0))
        for name, order, cost in (("leapfrog", 2, 1), ("yoshida4", 4, 3))
        for dt in (0.1, 0.2, 0.5)
    ]
    return found


def test_the_integrators_that_a_run_compared(tmp_path: Path, figures: Drawn) -> None:
    made.write(tmp_path, compared())
    found, collection = drawn(tmp_path)
    assert collection.notes == []
    assert "rounding to float64" in found["integrators_over_bench_energy_dt"].caption
    assert legend(figures["integrators_over_bench_energy_dt"]) == [
        "gate: max drift < 5e-05",
        "leapfrog, order 2.00 ± 0.00 (3 points)",
        "yoshida4, order 4.00 ± 0.00 (3 points)",
    ]
    # yoshida4 at dt 0.5 takes 6 evaluations for 6.25e-6, leapfrog at 0.2 takes 5 for 4e-6
    assert found["integrators_front"].caption.startswith("Pareto front: the 5 of 6 points")
    assert found["integrators_front"].caption.endswith("seed 0, with states and forces in float64.")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_drift", "much"),
        ("max_drift", [1]),
        ("dt", -0.1),
        ("steps", 0),
        ("force_evaluations", -1),
        ("precision", "fp8"),
    ],
)
def test_a_comparison_that_cannot_be_drawn_is_said(tmp_path: Path, key: str, value: object) -> None:
    content = compared()
    for row in content["benches"]["energy"]["details"]["compare"]:
        row[key] = value
    made.write(tmp_path, content)
    found, collection = drawn(tmp_path)
    assert found == {}
    assert re.search(rf"details.compare\[\d+\].{key}: ", collection.broken[0].reason)


def test_eight_integrators_are_all_drawn_and_a_flow_without_drift_is_counted(
    tmp_path: Path, figures: Drawn
) -> None:
    content = compared()
    rows = content["benches"]["energy"]["details"]["compare"]
    names = [f"integrator{i}" for i in range(8)]
    content["benches"]["energy"]["details"]["compare"] = [
        row | {"integrator": n} for n in names for row in rows[-3:]
    ]
    content["benches"]["energy"]["details"]["compare"][0]["max_drift"] = None
    content["benches"]["energy"]["details"]["compare"][1]["max_drift"] = 1e300
    made.write(tmp_path, content)
    caption = drawn(tmp_path)[0]["integrators_over_bench_energy_dt"].caption
    _, *shown = legend(figures["integrators_over_bench_energy_dt"])
    assert [text.partition(",")[0] for text in shown] == names
    assert "2 flows whose drift is zero or not finite" in caption


def history(name: str, drift: float | None) -> dict:
    return {
        "file": f"{name}.safetensors",
        "origin": "cache",
        "steps": [
            {"step": step, "loss": 10.0 if step == 1 else 5.0 - step / 100} for step in (1, 50, 100)
        ],
        "validations": [
            {"step": step, "nats_per_token": 5.0, "max_drift": drift and [drift, drift / 2]}
            for step in (50, 100)
        ],
    }


def trained(**of_roles: list[dict]) -> dict:
    """A run whose models have the histories of several seeds."""
    found = made.content(benches=["ppl"])
    for role, weights in of_roles.items():
        own = found["benches"]["ppl"]["details"][role]
        own["seeds"] = [{"seed": i, "ppl": 80.0, "weights": one} for i, one in enumerate(weights)]
        own["weights"] = weights[0]
    return found


def test_trainings_of_several_seeds_are_one_colour_and_their_drift_is_drawn(
    tmp_path: Path, figures: Drawn
) -> None:
    ours, theirs = (
        [history(f"{name}-{i}", drift) for i in range(3)]
        for name, drift in (("stage2", 1e-6), ("stage1", None))
    )
    made.write(tmp_path, trained(candidate=ours, baseline=theirs))
    list(training.training_curves(Study(collect([tmp_path]).points)))
    losses, drifts = (figures[name].axes[0] for name in ("training", "training_drift"))
    assert legend(figures["training"]) == ["stage1, 3 seeds", "stage2, 3 seeds"]
    assert len(losses.lines) == 12
    assert len({line.get_color() for line in losses.lines}) == 2
    assert losses.get_ylim()[1] < 6  # the loss of the first step, 10, is left out
    assert legend(figures["training_drift"]) == ["stage2, 3 seeds"]
    assert [np.asarray(line.get_ydata()).tolist() for line in drifts.lines] == [[1e-6, 1e-6]] * 3
    assert (
        drifts.lines[0].get_color() == losses.lines[-1].get_color()
    )  # a model looks alike in both


def test_a_drift_that_is_not_finite_hides_nothing_else(tmp_path: Path, figures: Drawn) -> None:
    ours = [history(f"stage2-{i}", 1e-6) for i in range(2)]
    ours[0]["validations"][0]["max_drift"] = [None, 1e-6]
    made.write(tmp_path, trained(candidate=ours))
    collection = collect([tmp_path])
    list(training.training_curves(Study(collection.points)))
    assert [
        np.asarray(line.get_xdata()).tolist() for line in figures["training_drift"].axes[0].lines
    ] == [
        [100],
        [50, 100],
    ]
    assert collection.notes == []


def test_a_training_that_diverged_leaves_the_others(tmp_path: Path, figures: Drawn) -> None:
    ours = [history(f"stage2-{i}", None) for i in range(3)]
    for step in ours[1]["steps"]:
        step["loss"] = None  # not finite
    made.write(tmp_path, trained(candidate=ours))
    list(training.training_curves(Study(collect([tmp_path]).points)))
    losses = [line.get_ydata() for line in figures["training"].axes[0].lines]
    finite = [y for y in losses if np.isfinite(np.array(y, dtype=float)).all()]
    # two seeds with losses and validations, the baseline's one, and validations of the third
    assert (len(losses), len(finite)) == (3 * 2 + 2, 3 * 2 + 1)


def test_a_short_training_beside_a_long_one_is_not_cut_off(tmp_path: Path, figures: Drawn) -> None:
    long, short = history("stage2-0", None), history("stage1-0", None)
    for i, step in enumerate((1, 2500, 5000)):
        long["steps"][i]["step"] = step
    for one in short["steps"]:
        one["loss"] = 9.0
    made.write(tmp_path, trained(candidate=[long], baseline=[short]))
    list(training.training_curves(Study(collect([tmp_path]).points)))
    assert figures["training"].axes[0].get_ylim()[1] > 9


def test_weights_that_another_bench_uses_too_are_one_set(tmp_path: Path) -> None:
    found = trained(candidate=[history(f"stage2-{i}", None) for i in range(3)])
    found["benches"]["energy"] = made.content(benches=["energy"])["benches"]["energy"]
    found["benches"]["energy"]["details"]["weights"] = history("stage2-1", None)
    sets = histories(found["benches"])
    assert [one["file"] for one in sets[0]] == [f"stage2-{i}.safetensors" for i in range(3)]
    assert not any(own[0]["file"].startswith("stage2-1") for own in sets)


REFERENCE = ROOT / "outputs/reference/h200"


def test_budgets_are_drawn_in_tokens_flops_and_seconds(figures: Drawn) -> None:
    drawn(REFERENCE / "budget")
    tokens, flops, seconds = figures["budget"].axes
    for panel in (tokens, flops, seconds):
        assert [line.get_label() for line in panel.lines] == ["stage2", "stage1", "gpt"]
        assert all(len(line.get_xdata()) == 4 for line in panel.lines)
    ours, theirs = (line.get_ydata()[-1] for line in tokens.lines[:2])
    results = json.loads((REFERENCE / "budget/results.json").read_text())
    metrics = results["benches"]["budget"]["metrics"]
    assert ours / theirs == pytest.approx(metrics["ratio_equal_tokens"]["value"])
    per_token = flops.lines[0].get_xdata() / tokens.lines[0].get_xdata()
    assert per_token == pytest.approx(metrics["candidate_training_flops_per_token"]["value"])


def test_effects_of_parts_are_drawn_with_their_intervals(tmp_path: Path, figures: Drawn) -> None:
    found = made.content()
    effects = [
        {"part": part, "of": of, "effect_pct": -2.0, "low": low, "high": high, "df": 4}
        for of in ("perplexity", "time of a step")
        for part, low, high in (("all", -3.0, -1.0), ("margin", None, None))
    ]
    own = {"metrics": {}, "gates": [], "notices": [], "error": None, "duration_s": 1.0}
    details = {"cells": [], "effects": effects}
    found["benches"]["parts"] = {"status": "ok", **own, "details": details}
    made.write(tmp_path / "one", made.consistent(found))
    list(parts.part_effects(collect([tmp_path]).points))
    perplexity, seconds = figures["parts"].axes
    assert [panel.get_xlabel() for panel in (perplexity, seconds)] == [
        "% of the perplexity",
        "% of the time of a step",
    ]
    assert [tick.get_text() for tick in perplexity.get_yticklabels()] == ["all", "margin"]
    zero, interval, mean, alone = perplexity.lines
    assert list(zero.get_xdata()) == [0.0, 0.0]
    assert list(interval.get_xdata()) == [-3.0, -1.0]
    assert (list(mean.get_ydata()), list(alone.get_ydata())) == ([0], [1])


def test_drifts_are_drawn_over_what_the_force_does(figures: Drawn) -> None:
    drawn(REFERENCE / "energy")
    panel = figures["interaction"].axes[0]
    markers, across, along = panel.lines
    metrics = json.loads((REFERENCE / "energy/results.json").read_text())["benches"]["energy"]
    assert len(markers.get_xdata()) == 18
    assert max(markers.get_ydata()) == metrics["metrics"]["max_drift"]["value"]
    assert min(markers.get_xdata()) == metrics["metrics"]["learned_exchange"]["value"]
    assert (across.get_ydata()[0], along.get_xdata()[0]) == (5e-5, 0.1)
