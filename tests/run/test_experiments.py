"""The recipes of conf/experiment, from the command to results.json, at a small size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from commands import SMALL
from paths import ROOT
from phasebench.results.file import schema
from phasebench.run import hydra_app as run

sys.path.insert(0, str(ROOT))
import runner

PPL = "bench.ppl.seeds=[0,1] bench.ppl.batch=32 bench.ppl.seq=16 bench.ppl.stride=8"
ENERGY = "bench.energy.seeds=[0,1] bench.energy.batch=8 bench.energy.seq=12 "
COMPARISON = (
    "bench.energy.steps=40 bench.energy.integrators=[leapfrog,rk4] bench.energy.dts=[0.2,0.4] "
    "bench.energy.precisions=[fp64]"
)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run an experiment at a small size in a folder of its own; returns exit code and results."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *words: str) -> tuple[int, dict[str, Any]]:
        before = set(tmp_path.rglob("results.json"))
        tokenizer = "bpe" if name.endswith("bpe") else "wordlevel"
        small = SMALL.format(tokenizer=tokenizer)
        long = name.endswith("long")
        small += "" if long or "bench=energy" in words else " " + PPL
        small += "" if "bench=ppl" in words else " " + ENERGY
        small += "" if long or "bench=ppl" in words else COMPARISON
        line = ["runner.py", f"experiment={name}", *small.split(), *words]
        monkeypatch.setattr(sys, "argv", line)
        monkeypatch.setattr(run, "_exit_codes", [])
        code = run.command(runner.job)
        (file,) = set(tmp_path.rglob("results.json")) - before
        results = json.loads(file.read_text())
        jsonschema.validate(results, schema())
        return code, results

    return call


def test_the_word_level_recipe_runs_end_to_end(recipe: Any) -> None:
    code, results = recipe("wikitext2_word")
    assert results["status"] == "ok", {
        name: bench["error"] for name, bench in results["benches"].items()
    }
    ppl, energy = results["benches"]["ppl"], results["benches"]["energy"]
    gates = {gate["name"]: gate["passed"] for gate in ppl["gates"]}
    assert set(gates) == {
        "ppl_ratio",
        "ppl_ratio_high",
        "candidate_ppl",
        "reference_ratio",
        "parameter_ratio",
        "reference_parameter_ratio",
        "above_source_floor",
        "leak",
    }
    assert None not in gates.values()
    assert gates["leak"] is gates["above_source_floor"] is True
    assert code == (0 if results["all_pass"] else 1)
    names = {role: ppl["details"][role]["name"] for role in ("candidate", "baseline", "reference")}
    assert names == {"candidate": "stage2", "baseline": "stage1", "reference": "gpt"}
    for role in names:
        weights = [row["weights"] for row in ppl["details"][role]["seeds"]]
        assert len({w["file"] for w in weights}) == 2
        assert all(w["average"].startswith("ema") for w in weights)
        assert all(w["steps"][-1]["step"] == w["validations"][-1]["step"] for w in weights)
        tracked = {"max_drift", "mean_drift"} <= set(weights[0]["validations"][-1])
        assert tracked is (role == "candidate")
    assert results["stage2_ppl"] == ppl["metrics"]["candidate_ppl"]["value"]
    assert energy["details"]["seeds"] == [0, 1]
    assert [fitted["integrator"] for fitted in energy["details"]["orders"]] == ["leapfrog", "rk4"]
    assert results["max_drift"] > 0

    again = recipe("wikitext2_word", "bench=ppl")[1]
    assert (
        again["benches"]["ppl"]["details"]["reference"]["seeds"][1]["weights"]["origin"] == "cache"
    )
    keys = ("stage2_ppl", "stage1_ppl", "ppl_ratio")
    assert {key: again[key] for key in keys} == {key: results[key] for key in keys}


def test_a_training_of_one_model_is_found_by_the_whole_recipe(recipe: Any) -> None:
    """Trainings one by one, then one run that measures all."""
    few = ["bench=ppl", "bench.ppl.seeds=[0]"]
    alone = ["bench.ppl.baseline=null", "bench.ppl.reference=null"]
    trained = [
        recipe("wikitext2_bpe", f"model={name}", *few, *alone)[1]
        for name in ("stage2", "stage1", "gpt")
    ]
    files = [r["benches"]["ppl"]["details"]["candidate"]["weights"]["file"] for r in trained]
    assert [r["benches"]["ppl"]["details"]["candidate"]["weights"]["origin"] for r in trained] == [
        "trained"
    ] * 3
    details = recipe("wikitext2_bpe", *few)[1]["benches"]["ppl"]["details"]
    weights = [details[role]["weights"] for role in ("candidate", "baseline", "reference")]
    assert [w["file"] for w in weights] == files
    assert {w["origin"] for w in weights} == {"cache"}


def test_the_seeds_are_the_seeds(recipe: Any) -> None:
    """What seed=1 alone trains is what seeds=[...,1] trains."""
    words = ["bench=ppl", "bench.ppl.reference=null", "bench.ppl.baseline=null"]
    _, alone = recipe("wikitext2_word", *words, "bench.ppl.seeds=null", "seed=1")
    _, both = recipe("wikitext2_word", *words, "bench.ppl.seeds=[0,1]")
    rows = both["benches"]["ppl"]["details"]["candidate"]["seeds"]
    assert rows[1]["weights"]["origin"] == "cache"
    assert rows[1]["ppl"] == alone["benches"]["ppl"]["metrics"]["candidate_ppl"]["value"]
    assert rows[0]["ppl"] != rows[1]["ppl"]


def test_a_model_of_its_own_learning_rate(recipe: Any) -> None:
    words = [
        "bench=ppl",
        "bench.ppl.reference=null",
        "bench.ppl.seeds=null",
        "bench.ppl.baseline.lr=1e-3",
    ]
    _, results = recipe("wikitext2_word", *words)
    assert list(results["benches"]) == [
        "ppl"
    ]  # the experiment's values for bench.energy are for runs that choose it
    rates = {
        role: max(
            step["lr"] for step in results["benches"]["ppl"]["details"][role]["weights"]["steps"]
        )
        for role in ("candidate", "baseline")
    }
    assert rates["candidate"] == pytest.approx(2 * rates["baseline"])


def test_a_model_of_its_own_weight_decay(recipe: Any) -> None:
    words = [
        "bench=ppl",
        "bench.ppl.baseline=null",
        "bench.ppl.reference=null",
        "bench.ppl.seeds=null",
    ]
    common, same, none = (
        recipe("wikitext2_word", *words, f"model.weight_decay={decay}")[1]["benches"]["ppl"][
            "details"
        ]["candidate"]["weights"]
        for decay in ("null", "0.4", "0")
    )
    assert (same["origin"], none["origin"]) == ("cache", "trained")
    assert common["file"] == same["file"] != none["file"]


def test_a_long_flow_alone(recipe: Any) -> None:
    """The long run, made shorter, with the weights of the first."""
    words = ["bench.energy.seeds=[0]", "bench.energy.steps=400"]
    _, results = recipe("wikitext2_word_long", *words)
    assert list(results["benches"]) == ["energy"]
    energy = results["benches"]["energy"]
    assert {gate["name"]: gate["passed"] for gate in energy["gates"]}["secular_change"]
    (layer,) = energy["details"]["layers"]
    assert layer["max_p"] < 100  # energy bounds it: V has a floor and a ceiling
    assert layer["max_drift"] < 1e-4


def test_gpt_refuses_a_longer_context_than_it_learned(
    recipe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = recipe("wikitext2_word", "bench.ppl.seq=32")
    assert code == 2
    assert "bench.ppl.reference.positions=16: bench.ppl.seq is 32" in capsys.readouterr().err


def test_stage_3_is_judged_against_both_stages(recipe: Any) -> None:
    code, results = recipe(
        "stage3",
        *"bench.koopman.states=480 bench.koopman.batch=8 bench.koopman.seq=12".split(),
        *"bench.koopman.seeds=[0] bench.koopman.dt=1 bench.recall.steps=1".split(),
        *"bench.recall.seeds=[0] bench.recall.factors=[1] bench.recall.tasks=[needle]".split(),
        *"bench.recall.questions=4 bench.recall.batch=2 bench.recall.cost_lengths=null".split(),
        "train.steps=2",
        "train.epochs=null",
        "bench.ppl.seeds=[0]",
        "bench.energy.seeds=[0]",
    )
    assert code == 2
    errors = {name: bench["error"] for name, bench in results["benches"].items()}
    assert errors == dict.fromkeys(("ppl", "energy", "recall", "koopman"))
    metrics = results["benches"]["ppl"]["metrics"]
    assert results["stage3_ppl"] == metrics["candidate_ppl"]["value"]
    assert results["stage3_ratio"] == metrics["ppl_ratio"]["value"]
    assert results["stage2_ppl"] == metrics["baseline_ppl"]["value"]
    assert results["stage1_ppl"] == metrics["reference_ppl"]["value"]
    assert results["stage3_leak"] == 0
    assert results["mera_effect_pct"] is None
    assert 1 < metrics["parameter_ratio"]["value"] < 1.05
