from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

import made
from phasebench.config import ConfigError
from phasebench.report.compare.__main__ import main
from phasebench.report.compare.show import show
from phasebench.report.compare.verdict import Comparison, Limit, Outcome, compare


def side(
    folder: Path,
    values: Sequence[float],
    config: Mapping[str, Any] | None = None,
    key: str = "ppl.ppl_ratio",
) -> Path:
    """Repeats of one point that differ in one metric and their seed."""
    for i, value in enumerate(values):
        made.write(
            folder / f"{len(list(folder.glob('*')))}", made.content(config, {key: value}, seed=i)
        )
    return folder


def judge(base: Path, new: Path, *limits: str, **options: Any) -> Outcome:
    return compare(base, new, [Limit.parse(limit) for limit in limits], **options)


def one(found: Outcome, metric: str) -> Comparison:
    (comparison,) = (c for c in found.comparisons if c.metric.partition(".")[2] == metric)
    return comparison


def printed(found: Outcome, width: int = 100, **options: Any) -> str:
    stream = io.StringIO()
    show(found, Console(file=stream, width=width), **options)
    return stream.getvalue()


def test_the_same_results_are_fine(tmp_path: Path) -> None:
    path = made.write(tmp_path, made.content())
    found = judge(path, path, "ppl_ratio:+0%", "vram_symplectic_gb:+0%", "candidate_ppl:+0%")
    assert found.exit_code == 0
    assert found.new == found.gone == []
    assert one(found, "ppl_ratio").difference == 0


@pytest.mark.parametrize(("value", "code"), [(0.91, 0), (0.93, 1), (0.5, 0)])
def test_a_single_run_a_side_is_judged_by_the_limit_alone(
    tmp_path: Path, value: float, code: int
) -> None:
    base, new = side(tmp_path / "base", [0.9]), side(tmp_path / "new", [value])
    found = judge(base, new, "ppl_ratio:+2%")
    row = one(found, "ppl_ratio")
    assert (found.exit_code, row.p) == (code, None)
    assert row.note == "no test: a single run in BASE and NEW"
    assert row.percent == pytest.approx(100 * (value / 0.9 - 1))


def test_a_difference_within_the_spread_of_repeats_is_no_regression(tmp_path: Path) -> None:
    base = side(tmp_path / "base", [0.80, 0.90, 1.00])
    noisy, clear = (
        side(tmp_path / "noisy", [0.84, 0.94, 1.04]),
        side(tmp_path / "clear", [1.30, 1.40, 1.50]),
    )
    found = judge(base, noisy, "ppl_ratio:+2%")
    assert (found.exit_code, one(found, "ppl_ratio").result) == (0, "within spread")
    found = judge(base, clear, "ppl_ratio:+2%")
    assert (found.exit_code, one(found, "ppl_ratio").result) == (1, "regression")
    assert one(found, "ppl_ratio").p == pytest.approx(0.0036, abs=2e-4)
    assert judge(base, clear, "ppl_ratio:+2%", alpha=0.001).exit_code == 0
    assert judge(base, clear, "ppl_ratio:-2%").exit_code == 0  # NEW is not below


def test_repeats_that_do_not_vary_are_judged_by_the_limit_alone(tmp_path: Path) -> None:
    base, new = side(tmp_path / "base", [0.9, 0.9]), side(tmp_path / "new", [1.0, 1.0])
    row = one(judge(base, new, "ppl_ratio:+2%"), "ppl_ratio")
    assert (row.result, row.note) == ("regression", "no test: the repeats do not vary")


def test_points_are_matched_by_configuration(tmp_path: Path) -> None:
    for name, dts in (("base", (0.1, 0.2)), ("new", (0.2, 0.4))):
        for dt in dts:
            made.write(tmp_path / name / str(dt), made.content({"bench.energy.dt": dt}))
    found = judge(tmp_path / "base", tmp_path / "new", "max_drift:+0%")
    assert (found.gone, found.new) == (["energy dt=0.1"], ["energy dt=0.4"])
    assert one(found, "max_drift").point == "energy dt=0.2"
    assert found.exit_code == 0
    assert judge(tmp_path / "base", tmp_path / "new", fail_gone=True).exit_code == 1
    text = printed(found)
    assert "gone (1): energy dt=0.1" in text
    assert "new (1): energy dt=0.4" in text


@pytest.mark.parametrize(
    ("key", "value", "matches"),
    [
        ("output", "elsewhere", True),
        ("cache_dir", "elsewhere", True),
        ("device", "cuda:1", True),
        ("scale.name", "x", True),
        ("data.path", "elsewhere", True),
        ("train.tensorboard", True, True),
        ("bench.vram.timeout_s", 9.0, True),
        ("model.dim", 64, False),
        ("bench.energy.dt", 0.3, True),
    ],
)
def test_what_tells_points_apart(tmp_path: Path, key: str, value: Any, matches: bool) -> None:
    base, new = (
        made.write(tmp_path / "base", made.content()),
        made.write(tmp_path / "new", made.content({key: value})),
    )
    if matches:
        assert one(judge(base, new), "ppl_ratio").difference == 0
    else:
        with pytest.raises(
            ConfigError, match=f"no point in common; bench ppl differs in {key}: 512 -> 64"
        ):
            judge(base, new)
        assert one(judge(base, new, ignore=["model"]), "ppl_ratio").difference == 0


def test_benches_are_matched_apart(tmp_path: Path) -> None:
    base = made.write(tmp_path / "base", made.content())
    new = made.write(tmp_path / "new", made.content({"train.lr": 0.5}, benches=["vram"]))
    found = judge(base, new, "vram_symplectic_gb:+1%")
    assert (found.exit_code, len(found.gone)) == (0, 2)
    new = made.write(tmp_path / "none", made.content(benches=["energy"]))
    base = made.write(tmp_path / "only", made.content(benches=["vram"]))
    with pytest.raises(ConfigError, match="BASE has bench vram, NEW has not"):
        judge(base, new)


def test_another_text_or_gpu_is_refused_unless_allowed(tmp_path: Path) -> None:
    base = made.write(tmp_path / "base", made.content())
    other = made.content()
    other["data"]["fingerprint"] = "f" * 64
    other["environment"]["gpu"]["name"] = "NVIDIA H200"
    new = made.write(tmp_path / "new", other)
    with pytest.raises(
        ConfigError,
        match="different data: BASE has the text 4f44762d94c1; NEW has the text ffffffffffff",
    ):
        judge(base, new)
    with pytest.raises(
        ConfigError, match="different device: BASE has NVIDIA H100 80GB HBM3; NEW has NVIDIA H200"
    ):
        judge(base, new, allow=["data"])
    found = judge(base, new, allow=["data", "device"])
    assert [note.endswith("(allowed)") for note in found.notes] == [True, True]
    both = tmp_path / "both"
    made.write(both / "0", made.content())
    made.write(both / "1", other)
    with pytest.raises(ConfigError, match="different data"):
        judge(both, both)  # repeats on two devices are no repeats


def test_memory_needs_no_text(tmp_path: Path) -> None:
    other = made.content(benches=["vram"])
    other["data"] = None
    base, new = made.write(tmp_path / "base", made.content()), made.write(tmp_path / "new", other)
    assert judge(base, new, "vram_symplectic_gb:+0%").exit_code == 0


def test_a_number_that_is_lost_is_a_regression_and_one_that_is_won_is_not(tmp_path: Path) -> None:
    known = made.write(tmp_path / "known", made.content())
    lost = made.content(
        metrics={"vram.vram_symplectic_gb": None}, passed={"vram.vram_symplectic_gb": None}
    )
    unknown = made.write(tmp_path / "unknown", lost)
    found = judge(known, unknown, "vram_symplectic_gb:+5%")
    assert found.exit_code == 1
    assert one(found, "vram_symplectic_gb").note == "BASE has 1, NEW none: it was left out"
    with pytest.raises(ConfigError, match="nothing to judge: BASE has none: it was left out"):
        judge(unknown, known, "vram_symplectic_gb:+5%")
    assert judge(unknown, known, "vram_full_backprop_gb:+5%").exit_code == 0


def test_a_bench_that_failed_loses_its_numbers(tmp_path: Path) -> None:
    found = made.content()
    error = {"type": "NotFinite", "message": "NaN", "traceback": None}
    found["benches"]["energy"] |= {"status": "failed", "metrics": {}, "gates": [], "error": error}
    found |= {
        "max_drift": None,
        "mean_drift": None,
        "mean_energy": None,
        "monotonic_violation": None,
        "status": "failed",
    }
    base, new = (
        made.write(tmp_path / "base", made.content()),
        made.write(tmp_path / "new", made.consistent(found)),
    )
    row = one(judge(base, new, "max_drift:+5%"), "max_drift")
    assert (row.result, row.note) == ("regression", "BASE has 1, NEW none: NotFinite: NaN")


def test_predictions_are_not_compared_with_measurements(tmp_path: Path) -> None:
    other = made.content()
    other["benches"]["vram"]["metrics"]["vram_symplectic_gb"]["kind"] = "predicted"
    base, new = made.write(tmp_path / "base", made.content()), made.write(tmp_path / "new", other)
    found = judge(base, new, "vram_symplectic_gb:+5%")
    assert found.exit_code == 2
    assert "measured in BASE, predicted in NEW" in one(found, "vram_symplectic_gb").note
    assert printed(found).splitlines()[-1].startswith("INVALID")


def test_a_lower_bound_is_no_value(tmp_path: Path) -> None:
    other = made.content()
    other["benches"]["vram"]["metrics"]["vram_symplectic_gb"]["unit"] = (
        "GB, at least: out of memory"
    )
    base, new = made.write(tmp_path / "base", made.content()), made.write(tmp_path / "new", other)
    found = judge(base, new, "vram_symplectic_gb:+5%")
    assert found.exit_code == 1
    assert "out of memory" in one(found, "vram_symplectic_gb").note


def test_a_percentage_of_zero_is_not_judged(tmp_path: Path) -> None:
    base = side(tmp_path / "base", [0.0], key="energy.mean_exchange")
    new = side(tmp_path / "new", [0.1], key="energy.mean_exchange")
    assert judge(base, new, "mean_exchange:+5%").exit_code == 2
    assert judge(base, new, "mean_exchange:+0.05").exit_code == 1


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("ppl_ratoi:+2%", "did you mean 'ppl_ratio'?"),
        ("monotonic_violation:+2%", "nothing to judge"),
        ("energy.ppl_ratio:+2%", "no point has energy.ppl_ratio"),
    ],
)
def test_a_limit_on_nothing_is_refused(tmp_path: Path, limit: str, words: str) -> None:
    path = made.write(tmp_path, made.content())
    with pytest.raises(ConfigError) as caught:
        judge(path, path, limit)
    assert words in str(caught.value)


def test_broken_sides_are_refused_with_file_reason_and_fix(tmp_path: Path) -> None:
    good = made.write(tmp_path / "good" / "0", made.content()).parent.parent
    bad = tmp_path / "bad"
    made.write(bad / "0", made.content())
    (bad / "1").mkdir()
    (bad / "1" / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"NEW=.*1/results.json: not valid JSON.*\n  fix: "
    ) as caught:
        judge(good, bad)
    assert caught.value.key == "NEW"
    found = judge(good, bad, allow=["broken"])
    assert "left out" in found.notes[0]
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(ConfigError, match=r"name a results\.json"):
            judge(place, good)


def test_what_is_printed(tmp_path: Path) -> None:
    base, new = (
        side(tmp_path / "base", [0.80, 0.90, 1.00]),
        side(tmp_path / "new", [1.30, 1.40, 1.50]),
    )
    found = judge(base, new, "ppl_ratio:+2%")
    for width in (40, 60, 100):
        assert max(map(cell_len, printed(found, width).splitlines())) <= width
    text = " ".join(printed(found, 120).split())
    assert "ppl ppl ratio regression +55.6 % 1.4 ± 0.1 (3) 0.9 ± 0.1 (3) 0.003602" in text
    assert (
        "tested: 1, at p < 0.05; chance alone makes about 0.05 of them look like a change" in text
    )
    assert text.endswith("REGRESSION: 3 shared points: 1 regression")
    assert "mean drift" not in text
    assert "mean drift" in printed(found, 120, everything=True)
    assert "max drift" in printed(judge(base, new), 120)  # without a limit: the main metrics


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, new = str(side(tmp_path / "base", [0.9])), str(side(tmp_path / "new", [1.0]))
    assert main([base, new]) == 0
    assert main([base, new, "--fail", "ppl_ratio:+20%"]) == 0
    assert main([base, new, "--fail", "ppl_ratio:+2%"]) == 1
    capsys.readouterr()
    for arguments in (
        ["--fail", "ppl_ratio:2"],
        ["--allow", "anything"],
        ["--alpha", "7"],
        ["--fail", "x:+1"],
    ):
        assert main([base, new, *arguments]) == 2
        message = capsys.readouterr()
        assert message.out == ""
        assert message.err.startswith("phasebench.report.compare: ")


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, new = str(side(tmp_path / "base", [0.9])), str(side(tmp_path / "new", [1.0]))
    assert main([base, new, "--fail", "ppl_ratio:+2%", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (entry,) = (entry for entry in found["comparisons"] if entry["metric"] == "ppl.ppl_ratio")
    assert entry["base"]["values"] == [0.9]
    assert entry["new"]["mean"] == 1.0
    assert (entry["result"], entry["limits"], entry["p"]) == ("regression", ["ppl_ratio:+2%"], None)
    assert entry["unit"] == "model / baseline"
    assert found["exit_code"] == 1
