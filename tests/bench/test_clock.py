from __future__ import annotations

import torch

from phasebench.bench.clock import Timed, interleaved

CPU = torch.device("cpu")


def called(**options: int) -> tuple[list[str], dict[str, Timed]]:
    calls: list[str] = []
    things = {name: lambda name=name: calls.append(name) for name in "abc"}
    return calls, interleaved(
        things, device=CPU, **({"repeats": 4, "warmup": 2, "seed": 0} | options)
    )


def test_every_round_has_every_arm_and_the_warm_up_comes_first() -> None:
    calls, timed = called()
    assert calls[:6] == list("abcabc")
    rounds = [calls[i : i + 3] for i in range(6, 18, 3)]
    assert all(sorted(r) == list("abc") for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1  # the order changes
    assert all(len(t.seconds) == 4 and min(t.seconds) >= 0 for t in timed.values())


def test_the_order_is_the_seed_s() -> None:
    assert called()[0] == called()[0]
    assert any(called()[0] != called(seed=seed)[0] for seed in range(1, 5))


def test_without_a_gpu_there_is_no_peak() -> None:
    assert called()[1]["a"].peak_bytes is None


def test_the_median_is_a_sample() -> None:
    assert Timed([3.0, 1.0, 2.0, 9.0, 0.5], None).median_s == 2.0
