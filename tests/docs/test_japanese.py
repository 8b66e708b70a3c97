"""The Japanese quick reference: its commands run (tests/docs/test_docs.py composes all of them)."""

from __future__ import annotations

import json
import re

import pytest

from commands import TINY, TINY_PPL, TINY_VRAM, Command
from paths import ROOT
from phasebench.config.validation import keys_at
from phasebench.results.file import schema

PAGE = (ROOT / "docs" / "ja" / "quick-reference.md").read_text(encoding="utf-8")
TINY_OF = {
    "bench=ppl bench.ppl.batch=2 bench.ppl.seq=512 bench.ppl.max_batches=10": [*TINY, TINY_PPL],
    "bench=vram bench.vram.batch=1 bench.vram.seq=1024": [
        *TINY, TINY_VRAM, "bench.vram.seq=64 bench.vram.arms=[adjoint_exact,backprop]"
    ],
}  # fmt: skip


@pytest.mark.parametrize("words", TINY_OF)
def test_commands_run_at_tiny_sizes(words: str, command: Command) -> None:
    assert f"\npython runner.py {words}" in PAGE
    outcome = command(words, *TINY_OF[words])
    (results,) = outcome.results
    assert results["status"] == "ok", outcome.err
    assert outcome.code in (0, 1)


def test_it_has_every_key_and_flag_of_the_specification() -> None:
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    known = list(schema()["properties"])
    wanted = known[known.index("benchmark_name") : known.index("stage3_ppl")]
    assert list(shown) == [*wanted, "all_pass"]
    flags = re.findall(r"^\| `--[\w-]+` \| `([\w.]+)=\S*` \|$", PAGE, re.MULTILINE)
    assert len(flags) == 11
    for key in flags:
        group, _, name = key.rpartition(".")
        assert name in (keys_at(group) or []), key
