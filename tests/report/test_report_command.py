from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import pytest

import made
from phasebench import report
from phasebench.config import ConfigError
from phasebench.report.__main__ import main
from phasebench.report.compare.__main__ import main as compare

FILES = {"report.html", "table.csv", "table.md", "table.tex"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", *arguments]
    environment = os.environ | {"COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


def names(written: Sequence[Path], folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in written}


def test_write_makes_the_whole_report(tmp_path: Path) -> None:
    made.sweep(tmp_path, [0.1, 0.2], ["leapfrog"])
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "results.json").write_text("{", encoding="utf-8")
    written = report.write(tmp_path)
    assert names(written, tmp_path) >= FILES | {
        "plots/drift_over_bench_energy_dt.png",
        "plots/pareto.pdf",
    }
    assert all(path.stat().st_size > 0 for path in written)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{tmp_path / '7' / 'results.json'}</code>: not valid JSON" in page
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(".phasebench")] == []


def test_write_takes_the_results_that_it_is_given(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    paths = [made.write(runs / str(i), made.content(seed=i, benches=["vram"])) for i in range(3)]
    report.write(tmp_path / "here", results=paths[:2])
    lines = (tmp_path / "here" / "table.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3


def test_kind_14_a_report_of_unusable_files_only_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text("3", encoding="utf-8")
    assert names(report.write(str(tmp_path)), tmp_path) == FILES
    assert main([str(tmp_path)]) == 2
    assert "cannot be used" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    made.write(tmp_path / "a", made.content())
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        report.write(tmp_path / "file")
    assert main([str(tmp_path / "a"), "--output", str(tmp_path / "file")]) == 2


def test_the_command_needs_neither_torch_nor_hydra(tmp_path: Path) -> None:
    made.sweep(tmp_path, [0.1, 0.2], ["leapfrog"])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "results.json").write_text("{}", encoding="utf-8")
    code = f"""
import sys
from phasebench.report.__main__ import main
code = main([{str(tmp_path)!r}])
print([m for m in ("torch", "hydra", "omegaconf") if m in sys.modules])
sys.exit(code)
"""
    done = run("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be used" in done.stdout
    assert "no schema_version" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "[]"
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert (tmp_path / "table.tex").exists()


def test_the_kept_runs_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    kept = made.ROOT / "outputs/reference"
    if not any(kept.rglob("results.json")):
        pytest.skip("no results are kept")
    assert main([str(kept), "--print"]) == 0
    assert "cannot be used" not in capsys.readouterr().out


def test_print_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made.write(tmp_path, made.content())
    assert main([str(tmp_path), "--print"]) == 0
    assert list(tmp_path.iterdir()) == [path]
    assert "max drift" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{}/none"], "there is no such file or folder"),
        (["{}/empty"], "no results.json below"),
        (["{}/empty", "{}/empty"], "several places, and no folder for the report"),
    ],
)
def test_what_cannot_be_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "fix: " in message


def test_several_places_one_report(tmp_path: Path) -> None:
    made.write(tmp_path / "a", made.content(seed=1, benches=["vram"]))
    made.write(tmp_path / "b", made.content(seed=2, benches=["vram"]))
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "c")]) == 0
    assert len((tmp_path / "c" / "table.csv").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("module", ["phasebench.report", "phasebench.report.compare"])
def test_help_has_examples_and_loads_little(module: str) -> None:
    done = run("-m", module, "--help")
    assert done.returncode == 0
    assert f"{module.removeprefix('phasebench.').replace('report.', '')} outputs/" in done.stdout
    assert "exit code" in done.stdout
    heavy = "torch hydra omegaconf matplotlib numpy pandas scipy jinja2"
    code = (
        f"import sys, {module}.__main__; print([m for m in {heavy.split()!r} if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def many(folder: Path, seeds: int) -> Path:
    """A sweep of 5 step sizes, 5 numbers of steps, and as many seeds."""
    found = made.content(benches=["ppl", "energy"])
    for bench in found["benches"].values():
        bench["details"] = {}
    for i in range(25 * seeds):
        found["config"]["bench"]["energy"]["dt"] = 0.02 * (1 + i % 5)
        found["config"]["model"]["ode"]["steps"] = 2 * (1 + i // 5 % 5)
        found["config"]["seed"] = found["seed"] = i // 25
        made.write(folder / str(i), made.consistent(found))
    return folder


def calls(work: Callable[[], object]) -> int:
    """How many Python functions are called, which says how work grows, on a busy machine too."""
    counted = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counted
        counted += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return counted


def grows(
    command: Callable[[Sequence[str]], int], tmp_path: Path, line: Callable[[Path], list[str]]
) -> float:
    """Calls for twice as many results, over calls for as many."""
    once, twice = (line(many(tmp_path / str(seeds), seeds)) for seeds in (1, 2))
    return calls(lambda: command(twice)) / calls(lambda: command(once))


def test_a_report_takes_work_in_proportion_to_its_results(tmp_path: Path) -> None:
    assert grows(main, tmp_path, lambda folder: [str(folder), "--print"]) < 2.2


def test_a_comparison_takes_work_in_proportion_to_its_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ["--fail", "max_drift:+2%", "--fail", "ppl_ratio:+2%", "--json"]
    assert grows(compare, tmp_path, lambda folder: [str(folder), str(folder), *limits]) < 2.2
    capsys.readouterr()
    assert compare([str(tmp_path / "2"), str(tmp_path / "2"), *limits]) == 0
    shown = json.loads(capsys.readouterr().out)
    judged = [entry for entry in shown["comparisons"] if entry["metric"] == "energy.max_drift"]
    assert len(judged) == 25
    assert {len(entry["base"]["values"]) for entry in judged} == {2}
