"""docs/sweeps.md: commands compose, keys, presets and statuses are those of the code."""

from __future__ import annotations

import re
import shlex
from typing import get_args

from paths import ROOT
from phasebench.config.validation import keys_at
from phasebench.run.sweep.state import Status

SWEEPS = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")


def test_commands_name_keys_and_options_that_exist() -> None:
    found = [
        line.partition(" #")[0].strip()
        for line in SWEEPS.splitlines()
        if line.startswith("python runner.py")
    ]
    assert len(found) >= 3
    for command in found:
        for word in (word for word in shlex.split(command)[2:] if "=" in word):
            key, _, value = word.lstrip("+").partition("=")
            group, _, name = key.rpartition(".")
            if (ROOT / "conf" / key).is_dir():
                names = value.strip("[]").split(",")
                assert [
                    n for n in names if not (ROOT / "conf" / key / f"{n}.yaml").exists()
                ] == [], command
            else:
                assert name in (keys_at(group) or []), command


def test_the_presets_and_launchers_of_conf_are_there() -> None:
    for group in ("sweep", "launcher"):
        names = [file.stem for file in (ROOT / "conf" / group).glob("*.yaml")]
        assert len(names) >= 4
        assert [
            name
            for name in names
            if not re.search(rf"^\| `(launcher=)?{name}\b", SWEEPS, re.MULTILINE)
        ] == []


def test_the_statuses_are_those_of_the_code() -> None:
    table = SWEEPS.partition("| status |")[2].partition("\n\n")[0]
    first_cells = " ".join(re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE))
    assert set(re.findall("`([^`]+)`", first_cells)) == set(get_args(Status))
