from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import made
from phasebench.report.axes import Axis, concerns, settings, swept
from phasebench.report.collect import Point, collect
from phasebench.report.read import derived, read


def points(tmp_path: Path, *contents: dict) -> list[Point]:
    for i, found in enumerate(contents):
        made.write(tmp_path / str(i), found)
    return collect([tmp_path]).points


def keys(axes: list[Axis]) -> list[str]:
    return [axis.key for axis in axes]


def test_what_differs_is_swept(tmp_path: Path) -> None:
    found = [made.content({"model.ode.dt": dt}, {"energy.max_drift": dt}) for dt in (0.1, 0.2, 0.4)]
    (axis,) = swept(points(tmp_path, *found))
    assert (axis.key, axis.values, axis.numeric) == ("model.ode.dt", (0.1, 0.2, 0.4), True)


def test_keys_that_move_together_are_one_axis_named_as_on_the_command_line(tmp_path: Path) -> None:
    contents = [
        made.content(
            {"scale.name": name, "model.dim": dim, "scale.model.dim": dim},
            overrides=[f"scale={name}"],
        )
        for name, dim in (("seed", 512), ("laptop", 64))
    ]
    (axis,) = swept(points(tmp_path, *contents))
    assert axis.key == "scale.name"
    contents = [found | {"overrides": []} for found in contents]
    (axis,) = swept(points(tmp_path / "b", *contents))
    assert axis.key == "model.dim"  # scale only hands its values on


def test_paths_of_the_run_are_no_axis_but_the_device_is(tmp_path: Path) -> None:
    contents = [made.content({"cache_dir": f"c{i}", "output": f"o{i}"}) for i in range(2)]
    contents[1]["environment"]["gpu"]["name"] = "NVIDIA H200"
    (axis,) = swept(points(tmp_path, *contents))
    assert (axis.key, axis.numeric) == ("on device", False)
    assert axis.values == ("NVIDIA H100 80GB HBM3", "NVIDIA H200")


def test_a_null_is_a_value_and_a_missing_key_is_none(tmp_path: Path) -> None:
    contents = [
        made.content({"bench.energy.integrator": None}),
        made.content({"bench.energy.integrator": "yoshida4"}),
        made.content(benches=["vram"]),
    ]
    axes = {axis.key: axis.values for axis in swept(points(tmp_path, *contents))}
    assert axes == {"bench.energy.integrator": ("null", "yoshida4", None)}


def test_a_seed_comes_last(tmp_path: Path) -> None:
    contents = [
        made.content({"model.ode.dt": dt}, seed=seed) for dt in (0.1, 0.2) for seed in (0, 1)
    ]
    assert keys(swept(points(tmp_path, *contents))) == ["model.ode.dt", "seed"]


def test_a_point_without_results_has_what_its_overrides_say() -> None:
    overrides = (
        "model.ode.dt=0.2",
        "+x=true",
        "bench=energy",
        "hydra.job.name=a",
        "a.b='c'",
        "n=" + "9" * 500,
        "z=[1,2]",
    )
    found = settings(Point("0", None, overrides, "killed"))
    expected = {
        "model.ode.dt": 0.2,
        "x": True,
        "bench": "energy",
        "a.b": "c",
        "n": "9" * 500,
        "z": "[1,2]",
    }
    assert found == expected
    assert isinstance(found["x"], bool)


def test_what_a_bench_depends_on() -> None:
    assert concerns("bench.energy.dt", "energy")
    assert not concerns("bench.energy.dt", "ppl")
    assert concerns("model.ode.steps", "vram")
    assert not concerns("data.name", "vram")
    assert concerns("train.lr", "energy")


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"weights": {"origin": "cache"}}, None),
        ({"weights": {"origin": "trained"}}, "trained its weights"),
        (
            {
                "candidate": {
                    "weights": {"origin": "cache"},
                    "seeds": [{"weights": {"origin": "trained"}}],
                }
            },
            "trained its weights",
        ),
        ({"weights": {"origin": "cache"}, "seeds": [0, 1]}, "or may have"),
        ({"weights": {"origin": "cache"}, "seeds": [0]}, None),
    ],
)
def test_a_duration_with_a_training_in_it_is_none(details: dict, words: str | None) -> None:
    entry = {"status": "ok", "duration_s": 3.0, "metrics": {}, "details": details}
    metric = dict(derived("vram", entry, {}))["duration_s"]
    assert (metric.value is None) == (words is not None)
    assert words is None or words in str(metric.reason)


def test_every_arm_and_precision_is_kept_apart() -> None:
    places = itertools.product(("ode stack", "training"), ("adjoint_exact", "autograd"), "ab")
    rows = [
        {"what": what, "arm": arm, "precision": precision, "median_ms": float(i)}
        for i, (what, arm, precision) in enumerate(places)
    ]
    entry = {"status": "ok", "duration_s": None, "metrics": {}, "details": {"rows": rows}}
    times = {key: metric.value for key, metric in derived("speed", entry, {})}
    assert list(times.values()) == list(range(8))
    assert times["ode_stack_adjoint_exact_b_ms"] == 1.0
    assert times["training_autograd_a_ms"] == 6.0


def test_a_run_is_read(tmp_path: Path) -> None:
    found = made.content()
    found["benches"]["ppl"]["details"]["candidate"]["weights"]["origin"] = "trained"
    run = read(made.write(tmp_path, found))
    assert (run.verdict, run.device) == (0, "NVIDIA H100 80GB HBM3")
    assert run.benches["energy"].metrics["evaluations_per_time"].value == 101 / (100 * 0.1)
    assert (
        run.benches["ppl"].metrics["duration_s"].value is None
    )  # the weights were trained in that run
    assert len(run.weights) == 2
