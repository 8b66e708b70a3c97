from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import made
from phasebench.report.summary import render
from phasebench.report.text import number
from phasebench.results.file import ResultsFile
from phasebench.results.gate import BenchResult, Gate, Metric, entry

GATES = {
    "ppl": [
        Gate("ppl_ratio", True, 0.98123456, "<= 1.02"),
        Gate("above_source_floor", True, 12.0, "> -20.7 nats"),
    ],
    "energy": [
        Gate("max_drift", False, 4.1e-3, "< 5e-05"),
        Gate("monotonic_violation", True, 0.1, "< 0.9"),
    ],
    "vram": [
        Gate("vram_symplectic_gb", True, 0.94, "< 7.5 GB", kind="predicted"),
        Gate("vram_reduction_pct", None, None, ">= 70 %", "out of memory"),
    ],
}
METRICS = {
    "ppl_ratio": Metric(0.98, "1"),
    "stage2_ppl": Metric(112.4321, "perplexity per token"),
    "vram_symplectic_gb": Metric(0.94, "GB", "predicted"),
    "vram_full_backprop_gb": Metric(13.9, "GB", "predicted"),
}


@pytest.fixture
def file(tmp_path: Path) -> ResultsFile:
    file = ResultsFile(
        tmp_path / "results.json",
        device="cpu",
        config={"benchmark_name": "x", "seed": 0, "bench": {name: {} for name in GATES}},
        overrides=[],
        environment={},
    )
    conditions = [
        {"name": "model.dim", "seed": 512, "used": 64, "met": False},
        {"name": "model.blocks", "seed": 6, "used": 6, "met": True},
    ]
    file.set_data(None, conditions)
    return file


def finish(file: ResultsFile, *names: str, notice: str = "") -> None:
    for name in names:
        file.finish(
            name,
            BenchResult(METRICS, GATES[name], {}, [notice] if notice else []),
            1.0,
        )


def show(results: dict[str, Any], width: int = 120, **options: Any) -> str:
    stream = io.StringIO()
    render(results, Console(file=stream, width=width), **options)
    return stream.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [50, 60, 120])
def test_every_gate_is_shown_and_no_line_is_wider(file: ResultsFile, width: int) -> None:
    finish(file, *GATES)
    text = show(file.close(), width, path="somewhere/" * 20 + "results.json")
    assert max(map(cell_len, text.splitlines())) <= width
    for word in (w for gates in GATES.values() for gate in gates for w in gate.name.split("_")):
        assert word in text  # a whole word, on one line
    table = text[: text.index("model.dim")]
    assert (len(re.findall("PASS", table)), len(re.findall("FAIL", table))) == (4, 1)
    for value in (
        "0.9812",
        "0.0041",
        "12",
        "0.1",
        "0.94 GB",
        "(predicted)",
        "<= 1.02",
        "< 5e-05",
        "measured",
    ):
        assert value in table


def test_a_row_tells_quantity_value_target_and_result(file: ResultsFile) -> None:
    finish(file, *GATES)
    rows = [words(line) for line in show(file.close()).splitlines()]
    assert "ppl ratio 0.9812 <= 1.02 PASS" in rows
    assert "max drift 0.0041 < 5e-05 FAIL" in rows
    assert "vram symplectic gb 0.94 GB (predicted) < 7.5 GB PASS" in rows
    assert "vram reduction pct - >= 70 % not measured" in rows
    assert "ppl: stage2_ppl 112.4" in rows
    assert "vram: vram_full_backprop_gb 13.9 (predicted)" in rows
    assert (
        "scale: 1 of 2 conditions of the specification not met: model.dim 64 (specified 512)"
        in rows
    )
    assert "vram: not measured: vram_reduction_pct: out of memory" in rows
    assert rows[-1] == "INCOMPLETE: vram vram_reduction_pct not measured; energy max_drift failed"


def test_verdicts(file: ResultsFile) -> None:
    def last(*names: str) -> str:
        results = file.as_dict()
        return words(
            show(
                results | {"benches": {name: results["benches"][name] for name in names}}
            ).splitlines()[-1]
        )

    finish(file, "ppl", "energy")
    assert last("ppl") == "PASS: all 2 gates passed"
    assert last("ppl", "energy") == "FAIL: energy max_drift failed"
    assert last("vram") == "INCOMPLETE: vram not measured; no gate failed"
    file.finish("vram", BenchResult(gates=GATES["vram"][:1]), 1.0)
    assert last("ppl", "vram") == "PASS: all 3 gates passed (1 predicted)"


def test_an_error_is_shown_without_its_traceback(file: ResultsFile) -> None:
    finish(file, "ppl")
    file.fail("energy", RuntimeError("NaN in layer 3"), 1.0, "Traceback (most recent call last)")
    text = show(file.close())
    assert "energy: RuntimeError: NaN in layer 3" in text
    assert "Traceback" not in text
    assert re.search(r"^energy +failed *$", text, re.MULTILINE)
    assert re.search(r"^vram +not run *$", text, re.MULTILINE)


def test_text_of_users_is_neither_markup_nor_terminal_codes(file: ResultsFile) -> None:
    finish(file, "ppl", notice="[bold]loud[/] \x1b[31mred [/nothing] \ud800")
    text = show(file.close())
    assert "[bold]loud[/]" in text
    assert "[/nothing]" in text
    assert "\x1b" not in text
    text.encode("utf-8")


def test_all_conditions_met_is_one_line(file: ResultsFile) -> None:
    found = file.close()
    found["conditions"] = found["conditions"][1:]
    assert "scale: all 1 conditions of the specification met" in show(found)


anything = st.text(max_size=30)


@settings(max_examples=40, deadline=None)
@given(anything, anything, anything, st.integers(50, 130))
def test_no_text_makes_a_line_wider(name: str, target: str, notice: str, width: int) -> None:
    gate = {
        "name": name,
        "passed": True,
        "value": -1.2345678e-300,
        "target": target,
        "kind": "predicted",
    }
    bench = entry("ok") | {
        "gates": [gate],
        "notices": [notice],
        "metrics": {name: {"unit": target}},
    }
    results = {"benches": {"extra": bench}, "conditions": []}
    text = show(results, width)
    assert max(map(cell_len, text.split("\n"))) <= width


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (33278, "33278"),
        (0.98123456, "0.9812"),
        (4.1e-5, "4.1e-05"),
        ("a", "a"),
    ],
)
def test_number(value: Any, text: str) -> None:
    assert number(value) == text


def test_reading_results_needs_no_torch() -> None:
    code = "import sys, phasebench.report.summary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_of_many_is_its_verdict_and_what_was_not_measured() -> None:
    found = made.content(passed={"energy.max_drift": False, "vram.vram_symplectic_gb": None})
    found["benches"]["energy"]["notices"] = ["a notice"]
    stream = io.StringIO()
    render(found, Console(file=stream, width=200), "here", brief=True)
    lines = stream.getvalue().splitlines()
    reason, place, verdict = lines
    assert reason == "vram: not measured: vram_symplectic_gb: it was left out"
    assert place == "results: here"
    assert verdict == "INCOMPLETE: vram vram_symplectic_gb not measured; energy max_drift failed"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_numbers_of_a_bench_s_table_are_never_broken(width: int) -> None:
    columns = [
        "method",
        "integrator",
        "forces",
        "steps",
        "W x",
        "err state",
        "err W",
        "recon",
        "kB",
    ]
    row = ["adjoint_exact", "blanes_moan4", "fp32", 1000, 1.0, 4.1e-08, 1.3e-07, 0.0, 100708]
    found = made.content()
    found["benches"]["energy"]["details"]["table"] = {"columns": columns, "rows": [row]}
    stream = io.StringIO()
    render(found, Console(file=stream, width=width))
    words, left_out = stream.getvalue().split(), {60: 3, 80: 0, 120: 0}[width]
    numbers = ["fp32", "1000", "1", "4.1e-08", "1.3e-07", "0", "100708"]
    assert set(numbers[: len(numbers) - left_out]) <= set(words)
    assert {"adjoint_exact", "blanes_moan4"} <= set(words)
    more = f"{left_out} of 9 columns do not fit: see benches.energy.details.table"
    assert (more in " ".join(words)) is (left_out > 0)
