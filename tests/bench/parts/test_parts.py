"""The bench on made-up trainings, and at a tiny size from the command to the merged file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from commands import TINY, Command
from phasebench.bench.parts.bench import matched, switched
from phasebench.bench.parts.design import cells
from phasebench.bench.parts.judge import judge, trainings
from phasebench.config import ConfigError, ModelConfig, PartsConfig, to_config
from phasebench.models import build_model
from phasebench.results.jsonfile import plain
from phasebench.run.merge import main

TWO = ["margin", "entropic"]


def rows(config: PartsConfig, **changes: Any) -> list[dict[str, Any]]:
    """Margin lowers ln ppl by 0.05, entropic by 0.01 and the time of a step to 0.9."""
    made = []
    for number, cell in enumerate(cells(config.parts) * config.replicates):
        on = {part: part in cell for part in TWO}
        rest = {"number": number, "parts": sorted(cell), "seed": number, "tokens": 1000}
        rest |= {"leak": 0.0, "change": 0.1, "reason": None, "peak_gb": None}
        rest["selection"] = "excess" if on["entropic"] else "off"
        speed = 1.25 if on["entropic"] else 1.0
        rest["weights"] = {
            "validations": [
                {"step": step, "nats_per_token": 9 - math.log(speed * step)}
                for step in range(10, 1001, 10)
            ]
        }
        made.append(
            {
                "nats": 4 - 0.05 * on["margin"] - 0.01 * on["entropic"] + 1e-4 * (number % 3),
                "seconds": 0.1 * 0.9 ** on["entropic"],
                "ece": 0.01 + 0.02 * on["margin"],
                "brier": 0.2 - 0.05 * on["margin"],
                "auroc_gain": 0.002 * number,
                "temperature": 1.1,
                **rest,
                **changes,
            }
        )
    return made


def test_effects_become_metrics_and_gates() -> None:
    config = PartsConfig(parts=TWO, replicates=4)
    result = judge(config, rows(config))
    values = {name: metric.value for name, metric in result.metrics.items()}
    assert values["stage3_ratio"] == pytest.approx(math.exp(-0.06), rel=1e-3)
    assert values["dialectic_effect_pct"] == pytest.approx(100 * math.expm1(-0.05), rel=1e-2)
    low, high = (values[f"dialectic_effect_pct_{end}"] for end in ("low", "high"))
    assert low < values["dialectic_effect_pct"] < high < 0
    assert values["stage3_time_ratio"] == values["entropic_time_ratio"] == pytest.approx(0.9)
    assert (values["dialectic_ece"], values["control_ece"]) == pytest.approx((0.03, 0.01))
    assert not [name for name, m in result.metrics.items() if (m.value is None) != bool(m.reason)]
    assert (values["dialectic_brier"], values["control_brier"]) == pytest.approx((0.15, 0.2))
    assert values["stage3_vram_ratio"] is None
    assert "peak_gb was not measured" in str(result.metrics["stage3_vram_ratio"].reason)
    assert values["entropic_tokens_ratio"] == pytest.approx(0.8, rel=1e-4)
    assert values["entropic_tokens_ratio_low"] == pytest.approx(0.8, rel=1e-3)
    verdicts = {gate.name: gate.passed for gate in result.gates}
    assert verdicts == dict.fromkeys(verdicts, True) | {"dialectic_ece": False}
    assert list(verdicts)[4:] == [
        "dialectic_effect_pct_high",
        "entropic_tokens_ratio",
        "entropic_tokens_ratio_high",
        "dialectic_ece",
    ]
    assert {"part": "margin", "of": "perplexity"}.items() <= result.details["effects"][1].items()
    lost: dict[str, str] = {}
    plain(result.details, "", lost)
    assert not lost


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({"leak": 1e-9}, [True, True, True, False]),
        ({"nats": 4.0}, [False, True, True, True]),
        ({"tokens": 50}, [None] * 4),
        ({"change": 0.0}, [None] * 4),
    ],
)
def test_gates_fail_and_need_evidence(changes: dict[str, Any], verdicts: list[bool | None]) -> None:
    config = PartsConfig(parts=TWO, replicates=4)
    assert [gate.passed for gate in judge(config, rows(config, **changes)).gates[:4]] == verdicts


def test_too_few_missing_and_failed_trainings_are_not_judged() -> None:
    few = PartsConfig(parts=TWO)
    result = judge(few, rows(few))
    assert result.metrics["stage3_ratio"].value is not None
    assert {gate.reason for gate in result.gates} == {"trainings: 8, needed 16"}
    partly = judge(few, rows(few)[:5])
    assert partly.metrics["stage3_ratio"].reason == "5 of 8 trainings are there"
    assert {gate.passed for gate in partly.gates} == {None}
    diverged = [*rows(few)[:7], {**rows(few)[7], "nats": None, "reason": "training diverged"}]
    reason = judge(few, diverged).metrics["stage3_leak"].reason
    assert reason == "7 of 8 trainings are there; training 7: training diverged"
    one = PartsConfig(parts=TWO, replicates=1)
    metrics = judge(one, rows(one)).metrics
    assert metrics["stage3_ratio"].value is not None
    assert metrics["stage3_ratio_high"].reason == (
        "no degree of freedom is left: more bench.parts.replicates"
    )


def test_the_reversed_flow_is_judged_where_it_is_asked_for() -> None:
    config = PartsConfig(parts=TWO, replicates=4, reverse=True)
    result = judge(config, rows(config))
    assert result.metrics["dialectic_auroc_gain"].value == pytest.approx(0.015)
    assert result.gates[-1].name == "dialectic_ece"
    gates = {gate.name: gate.passed for gate in result.gates}
    assert gates["dialectic_auroc_gain"] is True
    less = judge(config, rows(config, auroc_gain=0.009)).gates
    assert next(gate for gate in less if gate.name == "dialectic_auroc_gain").passed is False
    never = judge(config, [rows(config)[0] | {"auroc_gain": None}, *rows(config)[1:]])
    reason = never.metrics["dialectic_auroc_gain"].reason
    assert reason == "a training is never right, or always"


def test_a_selection_that_may_be_no_faster_fails_by_its_interval() -> None:
    config = PartsConfig(parts=TWO, replicates=4)
    made = rows(config)
    for row in made[1::8]:  # some trainings with selection are much slower than the others
        for validation in row["weights"]["validations"]:
            validation["nats_per_token"] += math.log(1.5)
    gates = {gate.name: gate.passed for gate in judge(config, made).gates}
    assert gates["entropic_tokens_ratio"] is True
    assert gates["entropic_tokens_ratio_high"] is False


def test_a_run_of_random_tokens_gives_the_control() -> None:
    config = PartsConfig(parts=TWO)
    made = [row | {"selection": "random"} for row in rows(config)]
    result = judge(config, made)
    assert result.metrics["entropic_tokens_ratio_random"].value == pytest.approx(0.8, rel=1e-4)
    assert "entropic_tokens_ratio" not in result.metrics | {g.name: g for g in result.gates}


def test_sparse_validations_and_levels_never_had_are_said() -> None:
    config = PartsConfig(parts=["entropic"])
    made = rows(config)
    made[1]["weights"] = {"validations": [{"step": 1000, "nats_per_token": 1.0}]}
    reason = judge(config, made).metrics["entropic_tokens_ratio"].reason
    assert reason == "validations are too sparse: train.validate_every=20 at most"
    every = [*range(21, 1000, 21), 1000]
    rare = [{"step": step, "nats_per_token": 9 - math.log(step)} for step in every]
    made[1]["weights"] = {"validations": rare}
    reason = judge(config, made).metrics["entropic_tokens_ratio_high"].reason
    assert reason == "validations are too sparse: train.validate_every=20 at most"
    worse = [{"step": step, "nats_per_token": 9.0} for step in range(10, 1001, 10)]
    made[1]["weights"] = {"validations": worse}
    assert "never has" in str(judge(config, made).metrics["entropic_tokens_ratio"].reason)


def test_parts_are_switched_off_and_no_other_key_changes() -> None:
    config = to_config(
        {
            "bench": {"parts": {}},
            "train": {"dialectic": {"margin": 0.1}, "entropic": {"score": "excess", "keep": 0.4}},
        }
    )
    assert switched(config, frozenset()) == config
    off = switched(config, frozenset(TWO))
    assert (off.train.dialectic.margin, off.train.entropic.score) == (0.0, "off")
    train = dataclasses.replace(
        off.train, dialectic=config.train.dialectic, entropic=config.train.entropic
    )
    assert dataclasses.replace(off, train=train) == config
    control = switched(config, frozenset(["margin"]), 0.1).train
    assert (control.dialectic.margin, control.label_smoothing) == (0.0, 0.1)
    assert switched(config, frozenset(["entropic"]), 0.1).train.label_smoothing == 0.0
    assert trainings(PartsConfig()) == 24


def test_a_control_of_no_margin_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"bench.parts.parts=\['entropic'\] has none"):
        PartsConfig(parts=["entropic"], label_smoothing=0.1)


def test_every_cell_of_stage3_is_a_model_with_the_parameters_of_none() -> None:
    model = {"name": "stage3", "dim": 16, "blocks": 2, "heads": 2, "hidden": 256}
    model |= {"koopman": {"memory": "damped"}, "mera": {"mode": "beside", "heads": 2}}
    config = to_config({"bench": {"parts": {}}, "model": model})
    counts = []
    for cell in cells(["memory", "mera"]):
        own = switched(config, frozenset(["memory", "mera"]) - cell).model
        assert (own.koopman.memory != "off", own.mera.mode != "off") == (
            "memory" in cell,
            "mera" in cell,
        )
        if not cell:
            base = build_model(own, 2).parameter_counts()["blocks"]
        counts.append(build_model(matched(own, base), 2).parameter_counts()["blocks"])
    step = 16 * 2 * (16 + 2)  # parameters of 16 hidden units
    assert all(abs(count - counts[0]) <= step / 2 for count in counts)


def test_parameters_are_matched_by_the_hidden_width() -> None:
    base = ModelConfig(dim=16, blocks=2, heads=2, hidden=256)
    more = dataclasses.replace(base, hidden=320)
    counted = build_model(base, 2).parameter_counts()["blocks"]
    assert matched(more, counted) == base
    assert matched(base, counted + 30) == base


SIZES = "bench=parts model=stage2 bench.parts.parts=[margin,entropic] bench.parts.replicates=1 "
SIZES += "train.dialectic.margin=0.01 train.entropic.score=excess bench.parts.seq=16 "
SIZES += "bench.parts.batch=32 bench.parts.reverse=true"


def test_pieces_are_merged_to_what_one_run_measures(command: Command, tmp_path: Path) -> None:
    def call(name: str, cell: int, cache: str) -> dict[str, Any]:
        own = f"bench.parts.parts=[entropic] bench.parts.cells=[{cell}] cache_dir={cache}"
        outcome = command(TINY, SIZES, own, f"hydra.run.dir={tmp_path / name}")
        assert outcome.code == 2, outcome.err
        return outcome.results[-1]["benches"]["parts"]

    first = call("first", 0, "one")
    assert [row["parts"] for row in first["details"]["cells"]] == [[]]
    assert first["metrics"]["stage3_ratio"]["reason"] == "1 of 2 trainings are there"
    call("second", 1, "other")
    main([str(tmp_path / "first"), str(tmp_path / "second"), "--output", str(tmp_path / "merged")])
    whole = call("whole", 1, "one")  # the other one from the cache
    merged = json.loads((tmp_path / "merged/results.json").read_text())["benches"]["parts"]
    for name, metric in whole["metrics"].items():
        assert merged["metrics"][name] == metric or "time" in name
    assert whole["metrics"]["stage3_ratio"]["value"] is not None
    assert whole["metrics"]["stage3_leak"]["value"] == 0
    assert abs(whole["metrics"]["dialectic_auroc_gain"]["value"]) < 0.5
    plain, selected = whole["details"]["cells"]
    assert selected["flops"] < plain["flops"]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("train.dialectic.margin=0", "train.dialectic.margin=0"),
        ("train.entropic.score=off", "train.entropic.score=off"),
        ("bench.parts.parts=[memory]", "model=stage2: has no memory to switch"),
        ("bench.parts.cells=[4]", "bench.parts.cells=[4]: the last one is 3"),
        ("bench.parts.parts=[margin,margin]", "names a part twice"),
    ],
)
def test_refused(command: Command, words: str, key: str) -> None:
    outcome = command(TINY, SIZES, words)
    assert outcome.code == 2
    assert key in outcome.err
