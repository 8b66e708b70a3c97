from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import made
from phasebench.report.axes import Study
from phasebench.report.collect import Collection, Point, collect
from phasebench.report.csv_markdown_latex import (
    csv_text,
    latex,
    latex_text,
    markdown,
    markdown_text,
)
from phasebench.report.table import Cell, Column, table
from phasebench.report.terminal import show
from phasebench.report.text import clean
from phasebench.results.gate import Gate

HOSTILE = [
    "<script>alert(1)</script>",
    "\"quoted\" & 'single'",
    "a|b`c`*d*_e_",
    "50% $x^2$ \\input{x} {~#&}",
    "[1]* leading",
    "*",
    "\x1b[31mred\n\r\nlines\t",
    "\ud800 \u202e \u4e2d\u6587 \U0001f600",
    "=1+1",
    "--",
    "- a",
    " ",
    "\\",
    "\0",
]


@pytest.fixture
def swept_table(tmp_path: Path) -> list[Column]:
    made.sweep(tmp_path, [0.1, 0.2], ["leapfrog", "yoshida4"])
    made.write(
        tmp_path / "4", made.content({"bench.energy.dt": 0.4}, passed={"energy.max_drift": False})
    )
    points = collect([tmp_path]).points
    points.append(Point("5", None, ("bench.energy.dt=0.8",), "oom", "CUDA out of memory"))
    return table(Study(points))


def hostile_table() -> list[Column]:
    gate = Gate("x", False, 1.5e-7, "< 1")
    texts = [Cell(text) for text in HOSTILE]
    values = [Cell(text if i % 2 else 1.5e-7, gate=gate) for i, text in enumerate(HOSTILE)]
    return [
        Column("point", "point", texts, role="point"),
        Column("a.b", HOSTILE[0], texts, role="axis"),
        Column("m.x", HOSTILE[3], values, HOSTILE[5]),
        Column("status", "status", [Cell("fail")] * len(HOSTILE), role="status"),
        Column("reason", "reason", texts, role="status"),
    ]


def printed(content: list[Column], width: int) -> str:
    stream = io.StringIO()
    show(content, Console(file=stream, width=width))
    return stream.getvalue()


def test_a_cell_a_point_and_a_column_a_swept_key(swept_table: list[Column]) -> None:
    headings = [column.heading for column in swept_table]
    assert (headings[:2], headings[-3:]) == (["point", "status"], ["dt", "integrator", "reason"])
    assert [cell.value for cell in swept_table[-3].cells] == [0.1, 0.2, 0.1, 0.2, 0.4, 0.8]
    (drift,) = (column for column in swept_table if column.key == "energy.max_drift")
    assert drift.unit == "E_ref"
    assert drift.cells[0].verdict == "pass"
    assert drift.cells[4].verdict == "FAIL"
    assert (drift.cells[5].value, drift.cells[5].reason) == (None, "CUDA out of memory")
    assert drift.best == pytest.approx(1e-6)
    ends = [swept_table[i].cells[5].value for i in (1, -1)]
    assert ends == ["oom", "CUDA out of memory"]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_the_terminal_shows_every_value_and_no_line_is_wider(
    swept_table: list[Column], width: int
) -> None:
    text = printed(swept_table, width)
    assert max(map(cell_len, text.splitlines())) <= width
    words = text.split()
    for column in swept_table:
        for cell in column.cells:
            assert set(cell.text.split()) <= set(words)
    assert "5: CUDA out of memory" in " ".join(words)


def test_a_wide_terminal_gets_one_table(swept_table: list[Column]) -> None:
    assert printed(swept_table, 400).count("status") == 1
    assert printed(swept_table, 60).count("status") > 1


def test_many_points_are_cut(swept_table: list[Column]) -> None:
    text = printed([replace(column, cells=[*column.cells] * 20) for column in swept_table], 80)
    assert "70 more points" in text


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.integers(30, 120))
def test_no_text_makes_a_line_wider(name: str, reason: str, width: int) -> None:
    columns = [
        Column("point", name, [Cell(name)], role="point"),
        Column("a", name, [Cell(reason)], reason),
        Column("reason", "reason", [Cell(reason)], role="status"),
    ]
    text = printed(columns, width)
    assert max(map(cell_len, text.split("\n"))) <= width
    assert "\x1b" not in text


def test_csv_is_exact(tmp_path: Path) -> None:
    made.sweep(tmp_path, [0.1, 0.3], ["leapfrog"])
    points = collect([tmp_path]).points
    rows = list(csv.DictReader(io.StringIO(csv_text(table(Study(points), everything=True)))))
    assert [float(row["bench.energy.dt"]) for row in rows] == [0.1, 0.3]
    for row, point in zip(rows, points, strict=True):
        assert point.run is not None
        for bench, entry in point.run.benches.items():
            for key, metric in entry.metrics.items():
                text = row[f"{bench}.{key}"]
                value = {"true": True, "false": False, "": None}.get(text, text)
                assert (float(value) if isinstance(value, str) else value) == metric.value
    assert rows[0]["energy.max_drift.passed"] == "true"
    assert "vram.autograd_predicted_gb" in rows[0]["predicted"].split(";")
    assert "energy.max_drift" not in rows[0]["predicted"].split(";")


def test_csv_holds_any_text() -> None:
    content = hostile_table()
    head, *rows = list(csv.reader(io.StringIO(csv_text(content), newline="")))
    assert head[0] == "point"
    assert [row[0].removeprefix("'") for row in rows] == [clean(text) for text in HOSTILE]
    assert {len(row) for row in rows} == {len(head)}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+1", "@SUM(A1)", "\x1b[0m=1"])
def test_kind_12_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    columns = [Column("a", "a", [Cell(text), Cell(-2)])]
    columns.append(Column(text, "b", [Cell(-1.5), Cell(None)]))
    written = csv_text(columns)
    head, first, second = csv.reader(io.StringIO(written, newline=""))
    assert head[1] == first[0] == f"'{clean(text)}"
    assert (first[1], second[0]) == ("-1.5", "-2")  # numbers are no text


def test_kind_12_escape_codes_are_stripped() -> None:
    codes = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://x\x1b\\link \x1bM\x9b31m\a"
    columns = [Column("a", "a", [Cell(codes)]), Column("reason", "reason", [Cell(None)])]
    for text in (clean(codes), printed(columns, 60)):
        assert "\x1b" not in text
        assert "[31m" not in text
        assert "title" not in text
        assert " ".join(text.split()[-3:-1]) == "red link"


def test_a_lower_bound_and_a_prediction_are_marked() -> None:
    cell = Cell(31.25, predicted=True, at_least=True)
    column = Column("vram.x", "x", [cell], "GB")
    assert cell.text == "≥ 31.25 (predicted)"
    row = next(csv.DictReader(io.StringIO(csv_text([column]))))
    assert (row["predicted"], row["at_least"]) == ("vram.x", "vram.x")
    assert r"$\geq$ $31.25$ (predicted)" in latex_text({"x": [column]})


def test_markdown_has_a_cell_for_every_column() -> None:
    content = hostile_table()
    lines = markdown_text({"x": content}).splitlines()
    assert len(lines) == 2 + len(HOSTILE)
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(content) + 1
        assert "<" not in line
    assert "1.5e-07 **FAIL**" in lines[2]


@given(st.text(max_size=30))
def test_escapes_leave_no_markup(text: str) -> None:
    assert not re.search(r"(?<!\\)(\\\\)*[|`*_<>]", re.sub(r"&(amp|lt|gt);", "", markdown(text)))
    shown = latex(text)
    assert shown.isascii()
    assert not re.search(r"(?<!\\)[#$%&_]", shown)
    bare = shown.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")


def test_latex_is_booktabs(swept_table: list[Column]) -> None:
    text = latex_text({"sweep": swept_table})
    benches = ("ppl", "energy", "vram")
    for command in (r"\begin{tabular}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
        assert text.count(command) == len(benches)
    assert r"$1 \times 10^{-5}$" in text
    assert r"$8.991 \times 10^{-6}$$^\dagger$" in text  # its gate failed
    assert r"$\mathbf{60.1}$" in text  # the best
    assert r"\label{tab:sweep-energy}" in text
    assert text.count(r"\caption{Bench ") == len(benches)
    for block in text.split(r"\begin{tabular}")[1:]:
        sides = re.match(r"\{([lr]+)\}", block)
        assert sides is not None
        rows = [line for line in block.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(sides[1])}


def test_latex_compiles(swept_table: list[Column], tmp_path: Path) -> None:
    compiler = shutil.which("pdflatex") or shutil.which("tectonic")
    if compiler is None:
        pytest.skip(
            "neither pdflatex nor tectonic is installed; test_latex_is_booktabs checks the form"
        )
    (tmp_path / "table.tex").write_text(
        latex_text({"sweep": swept_table, HOSTILE[0]: hostile_table()}), encoding="utf-8"
    )
    head = r"\documentclass{article}\usepackage{booktabs}\usepackage[T1]{fontenc}\begin{document}"
    (tmp_path / "paper.tex").write_text(head + r"\input{table.tex}\end{document}", encoding="utf-8")
    options = (
        ["-interaction=nonstopmode", "-halt-on-error"] if compiler.endswith("pdflatex") else []
    )
    done = subprocess.run(
        [compiler, *options, "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=120,
    )
    if b"booktabs.sty' not found" in done.stdout:
        pytest.skip("this TeX has no booktabs")
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


def test_nothing_measured_is_a_table_too() -> None:
    points = Collection([Point("0", None, (), "killed", "exit code -9")]).points
    content = table(Study(points))
    assert [column.key for column in content] == ["point", "status", "reason"]
    for text in (
        printed(content, 40),
        csv_text(content),
        markdown_text({"x": content}),
        latex_text({"x": content}),
    ):
        assert "killed" in text
