from __future__ import annotations

import dataclasses
import io
import sys
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from phasebench.config import ConfigError
from phasebench.training.progress import (
    Clock,
    Observers,
    ProgressBar,
    ProgressLines,
    StepReport,
    TensorBoardObserver,
    console_observer,
)


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.validations: list[tuple[int, float]] = []
        self.closed = False

    def on_step(self, report: StepReport) -> None:
        self.reports.append(report)

    def on_validation(self, step: int, perplexity: float) -> None:
        self.validations.append((step, perplexity))

    def close(self) -> None:
        self.closed = True


def report(step: int) -> StepReport:
    return StepReport(step, 100, 2.5, 1e-3, 0.7, 1234.0, 61.0)


def test_lines_come_at_intervals_and_at_the_end() -> None:
    now, out = [0.0], io.StringIO()
    lines = ProgressLines("stage2", Console(file=out, width=200), clock=lambda: now[0])
    for step in range(1, 46):
        now[0] = float(step)
        lines.on_step(report(step))
        if step == 20:
            lines.on_validation(20, 12.3)
    lines.close()
    lines.close()
    assert [line.split(",")[0] for line in out.getvalue().splitlines()] == [
        "stage2: step 1/100",
        "stage2: step 16/100",
        "stage2: step 31/100",
        "stage2: step 45/100",
    ]
    assert "loss 2.500, 1,234 tokens/s, 1:01 left" in out.getvalue()
    assert out.getvalue().count("valid ppl 12.3") == 2


def test_bar_on_a_terminal() -> None:
    out = io.StringIO()
    bar = console_observer("stage1", Console(file=out, force_terminal=True, width=160))
    assert isinstance(bar, ProgressBar)
    with closing(bar):
        bar.on_validation(10, 33.25)
        bar.on_step(report(50))
    assert "stage1" in out.getvalue()
    assert "loss 2.500, 1,234 tokens/s, 1:01 left, valid ppl 33.25" in out.getvalue()


def test_a_narrow_terminal_shows_all_of_it() -> None:
    out = io.StringIO()
    with closing(
        console_observer("stage2", Console(file=out, force_terminal=True, width=60))
    ) as bar:
        bar.on_validation(10, 2.9681)
        bar.on_step(report(50))
    assert "stage2 50/100 loss 2.500 1234 tok/s 1:01 ppl 2.9681" in out.getvalue()


def test_lines_where_there_is_no_terminal() -> None:
    assert isinstance(console_observer("stage1", Console(file=io.StringIO())), ProgressLines)


def test_several_observers_in_one() -> None:
    seen = [Recorder(), Recorder()]
    both = Observers(*seen)
    both.on_step(report(1))
    both.on_validation(1, 2.0)
    both.close()
    for recorder in seen:
        assert (recorder.reports, recorder.validations, recorder.closed) == (
            [report(1)],
            [(1, 2.0)],
            True,
        )


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
    assert clock.take() == 8.0
    now[0] += 1.0
    clock.tokens += 10
    assert (clock.lap(), clock.take()) == (10.0, 1.0)
