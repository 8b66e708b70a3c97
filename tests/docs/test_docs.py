"""README and docs name what there is: commands compose, links, files, keys and presets exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import Any, get_args

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from paths import ROOT
from phasebench.config.validation import keys_at, to_config
from phasebench.run.hydra_app import register
from phasebench.run.overrides import prepare
from phasebench.run.sweep.state import Status

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path.name != "CHANGELOG.md"  # it names what is gone, too
}
LINES = [line.strip() for text in PAGES.values() for line in text.splitlines()]
PLACES = (ROOT, ROOT / "src" / "phasebench", ROOT / "tests")
GROUPS = ("bench", "data", "model", "scale", "train")


def commands(start: str) -> list[str]:
    found = {line.partition(" #")[0].strip() for line in LINES if line.startswith(start)}
    assert found
    return sorted(found)


def composed(*overrides: str) -> dict[str, Any]:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        tree: Any = OmegaConf.to_container(
            compose("config", overrides=prepare(overrides)), resolve=True
        )
    return tree


@pytest.mark.parametrize("command", commands("python runner.py"))
def test_commands_compose(command: str) -> None:
    """Of a sweep, its first point."""
    words = [word for word in shlex.split(command)[2:] if not word.startswith("-")]
    points = [word if "[" in word else word.partition(",")[0] for word in words if "=" in word]
    assert to_config(composed(*points)).bench


@pytest.mark.parametrize(
    "name", ["phasebench.report", "phasebench.report.compare", "phasebench.run.merge"]
)
def test_options_of_the_other_commands_exist(name: str) -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", name, "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in commands(f"python -m {name} "):
        options = [word for word in shlex.split(command)[3:] if word.startswith("--")]
        assert [option for option in options if option not in help_text] == [], command


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if "://" in link:
            continue
        file, _, heading = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else []
        anchors = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
        assert not heading or heading in anchors, link


@pytest.mark.parametrize("page", PAGES)
def test_files_in_backticks_exist(page: str) -> None:
    spans = re.findall(r"`((?:[\w.]+/)+(?:[\w.]+\.(?:py|json|toml|yaml|svg))?)`", PAGES[page])
    missing = [
        span
        for span in spans
        if not span.startswith(("outputs/", "../", "tensorboard/", "wandb/"))
        and not any((place / span).exists() for place in PLACES)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_keys_in_backticks_exist(page: str) -> None:
    """Such as `bench.energy.dt` and `model.ode.steps=5`."""
    keys = re.findall(rf"`\+?((?:{'|'.join(GROUPS)})\.[a-z_.\d]+)[`=]", PAGES[page])
    unknown = []
    for key in keys:
        group, _, name = key.rpartition(".")
        if name not in (keys_at(group) or []):
            unknown.append(key)
    assert unknown == []


@pytest.mark.parametrize("group", ["sweep", "launcher"])
def test_the_presets_of_conf_are_in_docs_sweeps(group: str) -> None:
    names = [file.stem for file in (ROOT / "conf" / group).glob("*.yaml")]
    assert len(names) >= 4
    rows = re.findall(r"^\| `(?:launcher=)?(\w+)", PAGES["docs/sweeps.md"], re.MULTILINE)
    assert [name for name in names if name not in rows] == []


def test_the_statuses_are_those_of_the_code() -> None:
    table = PAGES["docs/sweeps.md"].partition("| status |")[2].partition("\n\n")[0]
    first_cells = " ".join(re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE))
    assert set(re.findall("`([^`]+)`", first_cells)) == set(get_args(Status))
