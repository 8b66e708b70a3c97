"""The README says what the tool does: its commands compose, its flags, links and figures are real."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from paths import ROOT
from phasebench.config.validation import keys_at, to_config
from phasebench.run.hydra_app import _register

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition(" #")[0].strip()
    for line in TEXT.splitlines()
    if line.startswith("python runner.py")
]
REFERENCE = ROOT / "outputs" / "reference" / "h100"


def test_it_fits_its_size() -> None:
    assert len(TEXT.splitlines()) <= 120
    assert max(len(line) for line in TEXT.splitlines()) <= 125


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command: str) -> None:
    words = [w for w in shlex.split(command)[2:] if not w.startswith("-") and w != "job"]
    points = [
        w.partition(",")[0] if "[" not in w else w for w in words
    ]  # of a sweep, its first point
    assert to_config(composed(*points)).bench


def composed(*overrides: str) -> dict[str, Any]:
    _register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        tree: Any = OmegaConf.to_container(
            compose("config", overrides=list(overrides)), resolve=True
        )
    return tree


def test_the_install_commands_are_ours() -> None:
    first, second = (line for line in TEXT.splitlines() if line.startswith("pip install"))
    assert first.endswith("&& python runner.py bench=all")
    assert "pytest" in second
    assert all("-c constraints.txt" in line for line in (first, second))


def test_the_flags_have_the_keys_that_replace_them() -> None:
    rows = re.findall(r"^\| (`--.*) \| (`.*) \|$", TEXT, re.MULTILINE)
    keys = [key.partition("=")[0] for _, right in rows for key in re.findall(r"`([^`]+)`", right)]
    assert len(keys) == 11
    for key in keys:
        group, _, name = key.rpartition(".")
        assert name in (keys_at(group) or []), key


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert len(links) >= 6
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_figures_are_those_of_the_reference_runs() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| \*\*([^*]+)\*\* \|.*\| (\w+) \|$", TEXT, re.MULTILINE)
    wanted = {
        "training": {"ppl_ratio", "stage2_ppl", "stage1_ppl", "reference_ppl", "max_drift"},
        "long": {"secular_change"},
        "spec": {"ppl_ratio", "stage2_ppl"},
        "vram": {"vram_symplectic_gb", "vram_reduction_pct"},
    }
    assert {run: {key for key, _, of in rows if of == run} for run in wanted} == wanted
    for key, shown, run in rows:
        results = json.loads((REFERENCE / run / "results.json").read_text())
        metrics = {
            name: m["value"]
            for bench in results["benches"].values()
            for name, m in bench["metrics"].items()
        }
        assert f"{(metrics | results)[key]:.4g}" == shown, (key, run)
        assert results["all_pass"] is True
        if run in ("spec", "vram"):
            assert all(condition["met"] for condition in results["conditions"])


def test_the_trained_models_met_the_gates_that_the_recipe_sets() -> None:
    """As strict as when they were run: a gate that is loosened shows, here or in the recipe."""
    wanted = {
        "training": {
            "ppl_ratio": "<= 0.9",
            "ppl_ratio_high": "<= 0.95",
            "candidate_ppl": "<= 90",
            "reference_ratio": "<= 1",
            "leak": "0, bitwise",
            "max_drift": "< 5e-05",
            "monotone_layers": "0 of 18",
        },
        "long": {"max_drift": "< 5e-05", "secular_change": "< 5e-05", "monotone_layers": "0 of 12"},
    }
    for run, targets in wanted.items():
        results = json.loads((REFERENCE / run / "results.json").read_text())
        gates = {
            gate["name"]: gate for bench in results["benches"].values() for gate in bench["gates"]
        }
        assert {name: gates[name]["target"] for name in targets} == targets
        assert all(gate["passed"] for gate in gates.values())
    ppl, energy, long = (
        composed(f"experiment={experiment}", "data.path=here")["bench"][bench]
        for experiment, bench in (
            ("wikitext2_word", "ppl"),
            ("wikitext2_word", "energy"),
            ("wikitext2_word_long", "energy"),
        )
    )
    assert (ppl["target"], ppl["upper_target"], ppl["reference_target"], ppl["max_ppl"]) == (
        0.9,
        0.95,
        1.0,
        90.0,
    )
    assert ppl["leak_test"] is True
    assert energy["target"] == long["target"] == long["secular_target"] == 5e-5


def test_the_reference_runs_keep_their_configuration_and_command() -> None:
    for results in (ROOT / "outputs" / "reference").rglob("results.json"):
        folder, wanted = results.parent, {"config.yaml", "overrides.yaml", "log.txt"}
        if (
            folder.parent / "sweep.json"
        ).exists():  # a point, whose results hold its resolved configuration
            assert json.loads(results.read_text())["config"], folder
            folder, wanted = folder.parent, {"command.txt", "log.txt", "report.html"}
        assert wanted <= {file.name for file in folder.iterdir()}, folder


def test_ci_runs_the_test_command() -> None:
    script = Path(ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -m 1 '([^']+)'", script)
    assert pattern
    found = [line for line in TEXT.splitlines() if re.search(pattern[1], line)]
    assert len(found) == 1
