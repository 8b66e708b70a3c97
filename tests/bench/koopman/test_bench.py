"""bench=koopman as a user calls it, and what it refuses."""

from __future__ import annotations

import pytest

from commands import TINY, Command, refuses

WORDS = "bench=koopman bench.koopman.states=640 bench.koopman.batch=8 bench.koopman.seq=16"


def test_it_judges_the_worst_layer_at_its_best_observables(command: Command) -> None:
    outcome = command(WORDS, TINY, "model.blocks=2")
    (results,) = outcome.results
    bench = results["benches"]["koopman"]
    assert bench["error"] is None
    rows, value = bench["details"]["rows"], {k: m["value"] for k, m in bench["metrics"].items()}
    least = [min((r for r in rows if r["layer"] == n), key=lambda r: r["iterated"]) for n in (0, 1)]
    worst = max(least, key=lambda row: row["iterated"])
    assert value["koopman_iterated_error"] == worst["iterated"]
    assert value["koopman_iterated_error_leapfrog"] == worst["leapfrog"]
    assert value["koopman_leapfrog_ratio"] == max(r["iterated"] / r["leapfrog"] for r in least)
    verdicts = [gate["passed"] for gate in bench["gates"]]
    assert verdicts == [value[gate["name"]] < 1 for gate in bench["gates"]]
    assert outcome.code == (0 if all(verdicts) else 1)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("bench.koopman.dt=0.3", ["bench.koopman.dt=0.3", "2", "bench.koopman.dt=0.2"]),
        ("bench.koopman.observables=[force]", ["bench.koopman.observables", "linear"]),
        ("model=stage1", ["model=stage1", "model=stage2"]),
        ("bench.koopman.seq=100000", ["bench.koopman.seq=100000"]),
    ],
)
def test_what_it_refuses(word: str, parts: list[str], command: Command) -> None:
    refuses(command(WORDS, TINY, word), *parts)
