"""The README's size, flags and figures: the figures are those of the results that are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from paths import ROOT
from phasebench.config.validation import keys_at

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "outputs" / "reference" / "h200"
ROWS = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|[^|]*\|([^|]*)\| (\w+) \|$", TEXT, re.MULTILINE)
WANTED = {
    "training": {"ppl_ratio", "reference_ratio"},
    "budget": {f"ratio_{at}" for at in ("equal_tokens", "equal_flops", "equal_time")}
    | {"ratio_at_convergence"},
    "energy": {"force_share", "learned_exchange", "nonlinearity", "beyond_linear", "max_drift"}
    | {"first_order_change_pct", "discretisation_change_pct"},
    "budget_stage2": {"max_drift"},
    "long2": {"secular_change"},
    "vram": {"vram_symplectic_gb", "vram_reduction_pct"},
    "grad": {"gradient_error"},
}


def kept(run: str) -> dict[str, Any]:
    return json.loads((REFERENCE / run / "results.json").read_text())


def test_it_fits_its_size() -> None:
    assert len(TEXT.splitlines()) <= 120
    assert max(len(line) for line in TEXT.splitlines()) <= 125


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


def test_the_table_has_every_figure_that_matters() -> None:
    assert {run: {key for key, *_, of in ROWS if of == run} for run in WANTED} == WANTED


def test_figures_and_verdicts_are_those_of_the_reference_runs() -> None:
    for key, shown, verdict, run in ROWS:
        results = kept(run)
        benches = results["benches"].values()
        metrics = {name: m["value"] for bench in benches for name, m in bench["metrics"].items()}
        value = (metrics | results)[key]
        assert shown == ("**-**" if value is None else f"**{value:.4g}**"), (key, run)
        gates = {gate["name"]: gate["passed"] for bench in benches for gate in bench["gates"]}
        assert ("FAIL" in verdict) == (gates.get(key) is False), (key, run)
        if run == "vram":
            assert all(condition["met"] for condition in results["conditions"])


def test_every_gate_that_failed_stands_in_the_table() -> None:
    shown = {(run, key) for key, _, verdict, run in ROWS if "FAIL" in verdict}
    for run in WANTED:
        for bench in kept(run)["benches"].values():
            failed = {gate["name"] for gate in bench["gates"] if gate["passed"] is False}
            ends = {name for name in failed if name.endswith("_high")}  # beside their ratio
            assert {(run, name) for name in failed - ends} <= shown


def test_the_reference_runs_keep_their_configuration_and_command() -> None:
    for results in (ROOT / "outputs" / "reference").rglob("results.json"):
        folder, wanted = results.parent, {"config.yaml", "overrides.yaml", "log.txt"}
        if (folder.parent / "sweep.json").exists():  # a point: its results hold its configuration
            assert json.loads(results.read_text())["config"], folder
            folder, wanted = folder.parent, {"command.txt", "log.txt", "report.html"}
        assert wanted <= {file.name for file in folder.iterdir()}, folder


def test_ci_runs_the_test_command() -> None:
    script = Path(ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -m 1 '([^']+)'", script)
    assert pattern
    assert sum(bool(re.search(pattern[1], line)) for line in TEXT.splitlines()) == 1
