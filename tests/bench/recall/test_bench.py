"""bench=recall: what it reports of made-up accuracies, and a run at tiny sizes."""

from __future__ import annotations

from typing import Any

import pytest

from commands import TINY, Command, refuses
from phasebench.bench.recall import bench as recall
from phasebench.config import RecallConfig

WORDS = (
    "bench=recall bench.recall.steps=2 bench.recall.factors=[1,4] bench.recall.questions=8 "
    "bench.recall.train_seq=20 bench.recall.batch=2 bench.recall.arms=[rope,memory,mera]"
)
ALL = {"rope": (1.0, 0.4), "no_positions": (0.7, 0.3), "memory": (1.0, 0.98), "mera": (0.99, 0.97)}


def rows(**changes: tuple[float, float]) -> list[dict[str, Any]]:
    """Two seeds each: at the factors 1 and 4, as given and 0.02 higher."""
    return [
        {
            "task": "needle",
            "arm": arm,
            "seed": seed,
            "parameters": 90 if arm == "mera" else 100,
            "accuracy": {"1": at_1, "4": at_4 + 0.02 * seed},
        }
        for arm, (at_1, at_4) in (ALL | changes).items()
        for seed in (0, 1)
    ]


def judged(**changes: tuple[float, float]) -> dict[str, bool | None]:
    config = RecallConfig(factors=[1, 4], tasks=["needle"])
    metrics = recall.metrics_of(config, rows(**changes))
    return {gate.name: gate.passed for gate in recall.gates_of(config, metrics)}


def test_recall_is_the_least_accuracy_of_the_mean_over_seeds() -> None:
    config = RecallConfig(factors=[1, 4], tasks=["needle"])
    metrics = recall.metrics_of(config, rows())
    assert metrics["mera_recall"].value == pytest.approx(0.98)
    assert metrics["mera_recall_attention"].value == pytest.approx(0.41)
    assert metrics["koopman_memory_recall_at_1"].value == 1
    assert metrics["mera_recall_difference"].value == pytest.approx(-0.01)
    assert metrics["mera_parameter_ratio"].value == 0.9
    assert all(judged().values())


def test_each_gate_can_fail() -> None:
    assert judged(memory=(1.0, 0.9))["koopman_memory_recall"] is False
    assert judged(mera=(1.0, 0.5))["mera_recall"] is False
    assert judged(mera=(1.0, 0.94))["mera_recall_difference"] is False
    assert judged(rope=(1.0, 0.95))["mera_recall_attention_at_4"] is False


def test_a_control_that_has_not_learned_the_task_shows_nothing() -> None:
    assert judged(rope=(0.3, 0.1))["mera_recall_attention_at_4"] is None


def test_a_run_at_tiny_sizes_is_reported_and_cached(command: Command) -> None:
    cost = "bench.recall.cost_lengths=[16,32]"
    first, again = (command(WORDS, cost, TINY) for _ in range(2))
    (results,) = first.results
    bench = results["benches"]["recall"]
    assert bench["error"] is None
    assert first.code == 2  # of 8 questions nothing is concluded
    passed = {gate["name"]: gate["passed"] for gate in bench["gates"]}
    assert passed["mera_recall"] is None
    assert passed["mera_parameter_ratio"] is True
    value = {name: metric["value"] for name, metric in bench["metrics"].items()}
    assert value["mera_recall_no_positions"] is None
    assert value["mera_cost_exponent"] is not None
    assert len(bench["details"]["rows"]) == 3
    assert again.out.count("reusing trained weights") == 3
    assert again.results[0]["benches"]["recall"]["details"]["rows"] == bench["details"]["rows"]


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("bench.recall.tasks=[many]", ["bench.recall.train_seq=16", "bench.recall.train_seq=18"]),
        ("bench.recall.cost_lengths=[64]", ["bench.recall.cost_lengths", "two lengths"]),
    ],
)
def test_what_it_refuses(word: str, parts: list[str], command: Command) -> None:
    refuses(command(WORDS, TINY, "bench.recall.train_seq=16", word), *parts)
