"""Hostile values of every key: an exit code and a message, never a traceback, nor a wrong pass.

PHASEBENCH_FUZZ=2000 tries as many cases; docs/reliability.md has the last count.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from commands import Command
from keys import leaves
from phasebench.config import BENCH_SCHEMAS, Config

KEYS = [
    *"model data train scale bench launcher experiment sweep model@bench.ppl.baseline".split(),
    *"model@bench.ppl.reference hydra/launcher hydra/sweeper hydra.run.dir hydra.sweep.dir".split(),
    *leaves(Config),
    *(key for name, cls in BENCH_SCHEMAS.items() for key in leaves(cls, f"bench.{name}.")),
]
NUMBERS = [*"nan inf -inf -1 0 1 1e300 1e-300 0x10 1_0 2e9".split(), "9" * 400, "9" * 5000]
TEXTS = [*"'' null true a ~nosuchuser/x ../../x /dev/null/x é %s =1".split(), "a b"]
SYNTAX = "[] [1,null] {} {a:1} [[1]] ${x} ${oc.env:HOME} \\ ' [ a, ???".split()
VALUES = st.one_of(st.sampled_from(NUMBERS + TEXTS + SYNTAX), st.text(max_size=8), st.integers())
CASES = int(os.environ.get("PHASEBENCH_FUZZ", "5"))


@settings(
    deadline=None,
    max_examples=CASES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a smaller example takes minutes to find
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(key=st.sampled_from(KEYS), value=VALUES, prefix=st.sampled_from(["", "", "+", "++", "~"]))
@pytest.mark.timeout(0)
def test_no_override_is_a_traceback_or_a_pass(
    command: Command, key: str, value: str | int, prefix: str
) -> None:
    benches = f"bench=[{','.join(BENCH_SCHEMAS)}]"
    word = f"{prefix}{key}={value}"
    outcome = command(["-m", "dry_run=true", "device=cpu", "data=synthetic", benches, word])
    assert outcome.code in (0, 2), word
    told = outcome.out + outcome.err
    assert "Traceback" not in told, word
    assert "this is a bug" not in told, word
    assert "PASS" not in outcome.out, word
    assert not outcome.results, word
