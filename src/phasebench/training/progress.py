"""What a training shows while it runs: facts on the console, TensorBoard scalars.

Also its clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from phasebench.config import ConfigError
from phasebench.results.progress import Work


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
    """Shows loss, rate and time left while a training goes on, and leaves the last of it."""

    def __init__(self, label: str) -> None:
        self.work, self.facts = Work(label, None), [""]
        self.validation: list[str] = []

    def on_step(self, report: StepReport) -> None:
        self.work.done, self.work.total = report.step, report.total
        self.facts = [
            f"{report.step}/{report.total}",
            f"loss {report.loss:.3f}",
            f"{report.tokens_per_s:,.0f} tokens/s",
            f"{timedelta(seconds=round(report.seconds_left))} left",
            *self.validation,
        ]
        self.work.show(*self.facts)

    def on_validation(self, step: int, perplexity: float) -> None:
        self.validation = [f"valid ppl {perplexity:.5g}"]

    def close(self) -> None:
        self.work.close()
        if self.work.done:
            self.work.display.say(" ".join([self.work.label, *self.facts]))


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
