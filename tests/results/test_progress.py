from __future__ import annotations

import io
import itertools

import pytest
import torch
from rich.console import Console

from phasebench.bench.clock import interleaved
from phasebench.dynamics.energy import energies
from phasebench.results.progress import Display, Work, track
from problems import oscillator


def test_a_log_has_a_line_every_ten_seconds_at_most() -> None:
    now, out = [0.0], io.StringIO()
    console = Console(file=out, width=60)
    with Display(console, clock=lambda: now[0]), Work("bench 1 of 2: grad", None):
        for _ in track(range(35), "rows", 35):
            now[0] += 1.0
    assert out.getvalue().splitlines() == [
        f"bench 1 of 2: grad; rows {n}/35 0:00:{35 - n:02} left" for n in (10, 20, 30)
    ]


@pytest.mark.parametrize("width", [120, 80, 60])
def test_a_terminal_shows_run_and_work_and_forgets_them(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width)
    with Display(console) as display, Work("bench 2 of 3: speed", 3), Work("calls", 8) as calls:
        calls.tick(2)
        display.bar.refresh()
    text = out.getvalue()
    assert "bench 2 of 3: speed" in text
    assert "calls 2/8 0:00:00 left" in text
    assert ("━" in text) is (width >= 100)
    assert not display.bar.tasks


def test_without_a_display_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("ab", "letters", 2)) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def logged(work: object) -> list[str]:
    """What a log shows if each look at the clock finds eleven seconds gone."""
    out = io.StringIO()
    clock = itertools.count(step=11.0).__next__
    with Display(Console(file=out, width=200), clock=clock):
        work()  # type: ignore[operator]
    return [line.rpartition(" 0:")[0] or line for line in out.getvalue().splitlines()]


def test_every_step_of_a_flow_and_every_timed_call_is_counted() -> None:
    q = torch.ones(1, 2, 1)
    steps = logged(lambda: energies(oscillator(1.0), q, q, steps=20, dt=0.1))
    assert [line.split()[4] for line in steps] == [f"{n}/21" for n in range(1, 22)]
    things = {"a": list, "b": list}
    calls = logged(
        lambda: interleaved(things, repeats=2, warmup=1, seed=0, device=torch.device("cpu"))
    )
    assert [line.split()[2] for line in calls] == [f"{n}/6" for n in range(1, 7)]
