"""Effects of made-up trainings whose effects are known, and which trainings there are."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from phasebench.bench.parts.design import ALL, Cell, assigned, cells, effects
from phasebench.config.stage3_benches import PARTS

THREE = ("memory", "margin", "entropic")
TRUE = {"memory": -0.02, "mera": 0.01, "margin": -0.005, "entropic": 0.0}


def made(trainings: list[Cell], noise: float = 0.0, seed: int = 0) -> list[float]:
    """Additive effects, and margin does 0.008 more with entropic on than off."""
    random = np.random.default_rng(seed)
    return [
        5.0
        + sum(effect for part, effect in TRUE.items() if part in cell)
        + 0.008 * (("margin" in cell) - 0.5) * (("entropic" in cell) - 0.5)
        + noise * random.standard_normal()
        for cell in trainings
    ]


def test_all_combinations_but_mera_without_memory() -> None:
    assert len(cells(THREE)) == 8
    four = cells(PARTS)
    assert len(four) == len(set(four)) == 12
    assert not [cell for cell in four if "mera" in cell and "memory" not in cell]
    assert (four[0], four[-1]) == (frozenset(), frozenset(PARTS))
    assert len(cells(["mera", "margin"])) == 4  # memory is then always on


@pytest.mark.parametrize("parts", [THREE, PARTS])
def test_known_effects_without_noise_are_found(parts: tuple[str, ...]) -> None:
    trainings = cells(parts) * 2
    found = {effect.part: effect for effect in effects(trainings, made(trainings), parts)}
    for part in parts:
        assert found[part].log == pytest.approx(TRUE[part], abs=1e-12)
        assert found[part].half == pytest.approx(0.0, abs=1e-12)
    assert found["margin x entropic"].log == pytest.approx(0.008)
    assert found["memory x margin"].log == pytest.approx(0.0, abs=1e-12)
    assert ("memory x mera" in found) is False
    assert found[ALL].log == pytest.approx(sum(TRUE[part] for part in parts))
    assert {effect.df for effect in found.values()} == {len(trainings) - len(found)}


def test_intervals_hold_what_they_say() -> None:
    trainings, held = cells(PARTS) * 2, Counter[str]()
    for seed in range(400):
        for effect in effects(trainings, made(trainings, 0.01, seed), PARTS):
            wanted = TRUE.get(effect.part, sum(TRUE.values()))
            assert effect.half is not None
            held[effect.part] += abs(effect.log - wanted) <= effect.half
    for part in (*PARTS, ALL):
        assert 0.92 <= held[part] / 400 <= 0.98


def test_an_orthogonal_design_gives_the_difference_of_means() -> None:
    trainings = cells(THREE) * 2
    y = np.random.default_rng(1).standard_normal(16).tolist()
    on = [y[i] for i, cell in enumerate(trainings) if "memory" in cell]
    off = [y[i] for i, cell in enumerate(trainings) if "memory" not in cell]
    memory = effects(trainings, y, THREE)[1]
    assert memory.log == pytest.approx(np.mean(on) - np.mean(off))
    assert memory.ends(math.exp)[0] == pytest.approx(math.exp(memory.log - (memory.half or 0)))


def test_too_few_trainings_have_no_interval_or_no_effects() -> None:
    two = cells(["memory", "margin"])
    assert {e.half for e in effects(two, [1.0, 2.0, 3.0, 5.0], ["memory", "margin"])} == {None}
    with pytest.raises(ValueError, match="cannot tell"):
        effects(two[:2], [1.0, 2.0], ["memory", "margin"])


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_seeds_are_balanced_over_every_part(count: int) -> None:
    parts = (*THREE, "other")
    trainings = cells(parts)
    own = assigned(trainings, range(count), parts)
    assert set(Counter(own).values()) == {16 // count}
    if count < 16:
        for seed in range(count):
            mine = [cell for cell, each in zip(trainings, own, strict=True) if each == seed]
            for part in parts:
                assert sum(part in cell for cell in mine) == len(mine) / 2
