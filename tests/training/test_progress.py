from __future__ import annotations

import dataclasses
import io
import sys
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from phasebench.config import ConfigError
from phasebench.results.progress import Display
from phasebench.training.progress import (
    Clock,
    ConsoleObserver,
    StepReport,
    TensorBoardObserver,
)


def report(step: int) -> StepReport:
    return StepReport(100, 61.0, step, 2.5, 1e-3, 1234.0, 0.7)


def test_lines_come_every_ten_seconds_at_most_and_at_the_end() -> None:
    now, out = [0.0], io.StringIO()
    with Display(Console(file=out, width=200), clock=lambda: now[0]):
        lines = ConsoleObserver("stage2")
        for step in range(1, 36):
            now[0] = float(step)
            lines.on_step(report(step))
            if step == 20:
                lines.on_validation(20, 12.3)
        lines.close()
    facts = "loss 2.500 1,234 tokens/s 0:01:01 left"
    late = f"{facts} valid ppl 12.3"
    assert out.getvalue().splitlines() == [
        f"stage2 10/100 {facts}",
        f"stage2 20/100 {facts}",
        f"stage2 30/100 {late}",
        f"stage2 35/100 {late}",
    ]


def test_a_terminal_of_80_columns_shows_all_of_it() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    with Display(console) as display, closing(ConsoleObserver("stage1")) as observer:
        observer.on_validation(10, 33.25)
        observer.on_step(report(50))
        display.bar.refresh()
        shown = out.getvalue()
    text = "stage1 50/100 loss 2.500 1,234 tokens/s 0:01:01 left valid ppl 33.25"
    assert text in shown
    assert out.getvalue().count(text) > shown.count(text)  # the last is left there


def test_tensorboard_scalars(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with closing(TensorBoardObserver(tmp_path)) as observer:
        observer.on_step(report(3))
        observer.on_step(dataclasses.replace(report(4), grad_norm=None))
        observer.on_validation(4, 9.5)
    events = accumulators.EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(3, 2.5), (4, 2.5)]
    assert [e.step for e in events.Scalars("train/grad_norm")] == [3]
    assert [(e.step, e.value) for e in events.Scalars("validation/perplexity")] == [(4, 9.5)]


def test_tensorboard_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"train\.tensorboard=True.*\n.*pip install tensorboard"):
        TensorBoardObserver(tmp_path)


def test_clock_leaves_pauses_out_of_the_pace_but_not_out_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("phasebench.training.progress.time.perf_counter", lambda: now[0])
    clock = Clock()
    clock.tokens += 600
    now[0] += 2.0
    with clock.paused():
        now[0] += 5.0
    now[0] += 1.0
    assert clock.lap() == 200.0
    assert clock.elapsed() == 8.0
    now[0] += 1.0
    clock.tokens += 10
    assert (clock.lap(), clock.elapsed()) == (10.0, 9.0)
