"""What a training shows while it runs: a bar or lines on the console, TensorBoard scalars; and its clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from phasebench.config import ConfigError


@dataclass(frozen=True)
class StepReport:
    """Where a training stands."""

    step: int  # optimizer steps done
    total: int  # in the budget
    loss: float  # nats a token, of the last step's batch
    lr: float
    grad_norm: (
        float | None
    )  # before clipping; None: not finite, and the fp16 scaler skipped the step
    tokens_per_s: float
    seconds_left: float


@runtime_checkable
class Observer(Protocol):
    """Is told how a training goes. Its owner closes it, also after an error: ``with contextlib.closing(...)``."""

    def on_step(self, report: StepReport) -> None: ...

    def on_validation(self, step: int, perplexity: float) -> None: ...

    def close(self) -> None: ...


class Observers:
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def on_step(self, report: StepReport) -> None:
        for observer in self.observers:
            observer.on_step(report)

    def on_validation(self, step: int, perplexity: float) -> None:
        for observer in self.observers:
            observer.on_validation(step, perplexity)

    def close(self) -> None:
        for observer in self.observers:
            observer.close()


def console_observer(label: str, console: Console | None = None) -> Observer:
    """A live bar on a terminal, lines elsewhere; on standard error unless a console is given."""
    console = console or Console(stderr=True)
    return ProgressBar(label, console) if console.is_terminal else ProgressLines(label, console)


WIDE = 100  # columns that a bar beside its text needs


class ProgressBar:
    """A bar with loss, tokens/s and time left; on a narrow terminal its text alone, in fewer words."""

    def __init__(self, label: str, console: Console) -> None:
        self.validation, self.wide = "", console.width >= WIDE
        text = TextColumn("{task.description} {task.fields[text]}", markup=False)
        columns = (BarColumn(20), text) if self.wide else (text,)
        self.bar = Progress(*columns, console=console)
        self.task = self.bar.add_task(label, total=None, text="starting")
        self.bar.start()

    def on_step(self, report: StepReport) -> None:
        text = describe(report) + self.validation
        if not self.wide:
            for word, short in (
                ("step ", ""),
                (",", ""),
                ("tokens/s", "tok/s"),
                (" left", ""),
                ("valid ppl", "ppl"),
            ):
                text = text.replace(word, short)
        self.bar.update(
            self.task, completed=report.step, total=report.total, text=text, refresh=True
        )

    def on_validation(self, step: int, perplexity: float) -> None:
        self.validation = f", valid ppl {perplexity:.5g}"

    def close(self) -> None:
        self.bar.stop()


class ProgressLines:
    """A line every few seconds, and one at the end: for logs, pipes and batch jobs."""

    def __init__(
        self,
        label: str,
        console: Console,
        *,
        every_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.console, self.every_s, self.clock = label, console, every_s, clock
        self.next_at = clock()  # the first step is shown at once
        self.pending: StepReport | None = None
        self.validation = ""

    def on_step(self, report: StepReport) -> None:
        self.pending = report
        if self.clock() >= self.next_at:
            self._print()

    def on_validation(self, step: int, perplexity: float) -> None:
        self.validation = f", valid ppl {perplexity:.5g}"

    def close(self) -> None:
        self._print()

    def _print(self) -> None:
        if self.pending:
            text = f"{self.label}: {describe(self.pending)}{self.validation}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self.pending = None
        self.next_at = self.clock() + self.every_s


def summary_writer() -> type:
    """TensorBoard's writer. Raises `ConfigError` where the package tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "train.tensorboard",
            True,
            f"cannot be imported ({error})",
            "pip install tensorboard, or train.tensorboard=false",
        ) from error
    return SummaryWriter


class TensorBoardObserver:
    """Scalars for TensorBoard, in `folder`. Raises what `summary_writer` raises."""

    def __init__(self, folder: Path) -> None:
        self.writer = summary_writer()(str(folder))

    def on_step(self, report: StepReport) -> None:
        self.writer.add_scalar("train/loss", report.loss, report.step)
        self.writer.add_scalar("train/lr", report.lr, report.step)
        self.writer.add_scalar("train/tokens_per_s", report.tokens_per_s, report.step)
        if report.grad_norm is not None:
            self.writer.add_scalar("train/grad_norm", report.grad_norm, report.step)

    def on_validation(self, step: int, perplexity: float) -> None:
        self.writer.add_scalar("validation/perplexity", perplexity, step)

    def close(self) -> None:
        self.writer.close()


def describe(report: StepReport) -> str:
    """One line about a step.

    >>> describe(StepReport(20, 100, 3.14159, 1e-3, 0.5, 12345.6, 125.0))
    'step 20/100, loss 3.142, 12,346 tokens/s, 2:05 left'
    """
    minutes, seconds = divmod(round(report.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"step {report.step}/{report.total}, loss {report.loss:.3f}, {report.tokens_per_s:,.0f} tokens/s, {left} left"


class Clock:
    """Seconds of a sitting, and tokens per second while it is not paused."""

    def __init__(self) -> None:
        self.start = self.taken = self.lap_start = time.perf_counter()
        self.tokens = 0  # since the last lap

    def elapsed(self) -> float:
        return time.perf_counter() - self.start

    def take(self) -> float:
        """Seconds since they were last taken."""
        before, self.taken = self.taken, time.perf_counter()
        return self.taken - before

    def lap(self) -> float:
        """Tokens per second since the last lap."""
        now = time.perf_counter()
        rate = self.tokens / (now - self.lap_start)
        self.lap_start, self.tokens = now, 0
        return rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.lap_start += time.perf_counter() - begin
