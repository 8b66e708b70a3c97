"""What a training shows while it runs: a bar or lines on the console, TensorBoard scalars.

Also its clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from phasebench.config import ConfigError

LINE_EVERY_S = 10.0  # of output that goes to no terminal
WIDE = 100  # columns that a bar beside its text needs


@dataclass(frozen=True)
class StepReport:
    """Where a training stands.

    Attributes:
        total: optimizer steps of the budget.
        seconds_left: at the pace so far.
        step: optimizer steps done.
        loss: of the last step's batch, in nats a token.
        lr: learning rate of the last step.
        tokens_per_s: since the last report.
        grad_norm: before clipping; None: not finite, so that the fp16 scaler skipped the step.
    """

    total: int
    seconds_left: float
    step: int
    loss: float
    lr: float
    tokens_per_s: float
    grad_norm: float | None


class Observer(Protocol):
    """Is told how a training goes; its owner closes it, also after an error."""

    def on_step(self, report: StepReport) -> None: ...

    def on_validation(self, step: int, perplexity: float) -> None: ...

    def close(self) -> None: ...


class ConsoleObserver:
    """Shows loss, rate and time left: beside a bar on a terminal, else in lines.

    A narrow terminal has the text without the bar. Lines, for logs, pipes and batch jobs, come
    every ten seconds at most, and once at the end.
    """

    def __init__(
        self, label: str, console: Console, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label, self.console, self.clock = label, console, clock
        self.next_at, self.pending = clock(), ""  # the first step is shown at once
        self.validation: list[str] = []
        self.bar: Progress | None = None
        if console.is_terminal:
            text = TextColumn("{task.description} {task.fields[text]}", markup=False)
            columns = (BarColumn(20), text) if console.width >= WIDE else (text,)
            self.bar = Progress(*columns, console=console)
            self.task = self.bar.add_task(label, total=None, text="starting")
            self.bar.start()

    def on_step(self, report: StepReport) -> None:
        facts = [
            f"{report.step}/{report.total}",
            f"loss {report.loss:.3f}",
            f"{report.tokens_per_s:,.0f} tokens/s",
            f"{timedelta(seconds=round(report.seconds_left))} left",
            *self.validation,
        ]
        if self.bar:
            text, done, total = " ".join(facts), report.step, report.total
            self.bar.update(self.task, completed=done, total=total, text=text, refresh=True)
            return
        self.pending = f"{self.label}: step {', '.join(facts)}"
        if self.clock() >= self.next_at:
            self._print()

    def on_validation(self, step: int, perplexity: float) -> None:
        self.validation = [f"valid ppl {perplexity:.5g}"]

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
        self._print()

    def _print(self) -> None:
        if self.pending:
            self.console.print(self.pending, markup=False, highlight=False, soft_wrap=True)
        self.pending, self.next_at = "", self.clock() + LINE_EVERY_S


def summary_writer() -> type:
    """Import TensorBoard's writer. Raises `ConfigError` where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        fix = "pip install tensorboard, or train.tensorboard=false"
        problem = f"cannot be imported ({error})"
        raise ConfigError("train.tensorboard", True, problem, fix) from error
    return SummaryWriter


class TensorBoardObserver:
    """Writes scalars for TensorBoard in `folder`. Raises what `summary_writer` raises."""

    def __init__(self, folder: Path) -> None:
        self.writer = summary_writer()(str(folder))

    def on_step(self, report: StepReport) -> None:
        for name in ("loss", "lr", "tokens_per_s", "grad_norm"):
            if (value := getattr(report, name)) is not None:
                self.writer.add_scalar(f"train/{name}", value, report.step)

    def on_validation(self, step: int, perplexity: float) -> None:
        self.writer.add_scalar("validation/perplexity", perplexity, step)

    def close(self) -> None:
        self.writer.close()


class Clock:
    """Measures the seconds of a sitting, and tokens per second while it is not paused."""

    def __init__(self) -> None:
        self.start = self.lap_start = time.perf_counter()
        self.tokens = 0  # since the last lap

    def elapsed(self) -> float:
        """Return the seconds since the start, pauses included."""
        return time.perf_counter() - self.start

    def lap(self) -> float:
        """Return the tokens per second since the last lap."""
        now = time.perf_counter()
        rate = self.tokens / (now - self.lap_start)
        self.lap_start, self.tokens = now, 0
        return rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what happens inside out of the tokens per second."""
        begin = time.perf_counter()
        yield
        self.lap_start += time.perf_counter() - begin
