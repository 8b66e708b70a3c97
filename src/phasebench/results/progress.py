"""Where a run stands: lines at the foot of a terminal, or lines of a log, ten seconds apart.

A run opens a `Display`. Whatever takes long counts its units by `Work` or `track`, wherever it is
called from. Without a display, as where the package is used as a library, nothing is shown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 10.0  # of output that goes to no terminal
SHOWN_EVERY_S = 0.1  # of units that take microseconds
WIDE = 100  # columns that a bar beside its text needs

Item = TypeVar("Item")


class Display:
    """Shows what a run does, while it is open.

    A terminal has a line for the run and one for each piece of work in hand, with the time since
    its start, which goes on while nothing else changes. A log has all of them in one line.

    Args:
        console: where to.
        live: whether nobody else writes to the terminal; else it is taken as a log.
        clock: seconds.
    """

    def __init__(
        self,
        console: Console,
        *,
        live: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.clock, self.live = console, clock, live and console.is_terminal
        # a notebook would keep every line
        self.every_s = math.inf if console.is_jupyter else LINE_EVERY_S
        self.next_at = clock() + self.every_s
        text = TextColumn("{task.description}", markup=False)
        columns = (BarColumn(20), text) if console.width >= WIDE else (text,)
        self.bar = Progress(
            TimeElapsedColumn(), *columns, console=console, transient=True, refresh_per_second=2
        )

    def __enter__(self) -> Display:
        _open.append(self)
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        _open.remove(self)
        if self.live:
            self.bar.stop()

    def changed(self) -> None:
        """Write a line of a log, if the last one is long enough ago."""
        if not self.live and self.clock() >= self.next_at:
            self.say("; ".join(filter(None, (task.description for task in self.bar.tasks))))

    def say(self, text: str) -> None:
        """Write a line above those that change."""
        self.write(text)
        self.next_at = self.clock() + self.every_s

    def write(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


_open = [Display(Console(quiet=True), live=False)]


class Work:
    """A piece of work of `total` units, shown until it is closed."""

    def __init__(self, label: str, total: int | None) -> None:
        self.label, self.total, self.done = label, total, 0
        self.display = _open[-1]
        self.began = self.next_at = self.display.clock()
        self.task = self.display.bar.add_task(label, total=total)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self.task in self.display.bar.task_ids:
            self.display.bar.remove_task(self.task)

    def tick(self, units: int = 1) -> None:
        """Count units as done, and show the time left at the pace so far."""
        self.done += units
        now = self.display.clock()
        if now >= self.next_at:
            self.next_at, total = now + SHOWN_EVERY_S, self.total or self.done
            left = (now - self.began) / self.done * max(0, total - self.done)
            self.show(f"{self.done:,}/{total:,}", f"{timedelta(seconds=round(left))} left")

    def show(self, *facts: str) -> None:
        """Show facts beside the label."""
        text = " ".join(filter(None, [self.label, *facts]))
        self.display.bar.update(self.task, description=text, completed=self.done, total=self.total)
        self.display.changed()


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Yield the items, and count each as done when the next one is asked for."""
    with Work(label, total) as work:
        for item in items:
            yield item
            work.tick()
