"""Every file in conf/ composes, builds, and begins with a command that uses it."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from paths import ROOT
from phasebench.bench.parts.reach import sparsest
from phasebench.config import BENCHES, DATASETS, MODELS, Config, ModelConfig, to_config
from phasebench.data import steps_of
from phasebench.models import build_model
from phasebench.results.conditions import CONDITIONS, check
from phasebench.run import gpus
from phasebench.run import hydra_app as run
from variants import MADE, OF_A_FOLDER

CONF = ROOT / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = [
    (file.parent.relative_to(CONF).as_posix(), file.stem) for file in FILES if file.parent != CONF
]
COMMAND = re.compile(r"# python runner\.py (.+)")
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b")  # FILE, FOLDER: where the user puts a path


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    run.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@functools.cache
def typed(*overrides: str) -> Config:
    return built(compose("config", list(overrides)))


def built(tree: DictConfig) -> Config:
    values = OmegaConf.masked_copy(tree, [str(key) for key in tree if key != "hydra"])
    return to_config(OmegaConf.to_container(values, resolve=True))  # type: ignore[arg-type]


def value(config: Config, dotted: str) -> Any:
    found: Any = config
    for part in dotted.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


def models(config: Config) -> list[ModelConfig]:
    ppl = config.bench.get("ppl")
    others = [ppl.baseline, ppl.reference] if ppl else []
    return [config.model, *(model for model in others if model)]


def command(file: Path) -> str:
    """What follows `python runner.py` in a file's first line, or the one after its package."""
    first, second, *_ = file.read_text().splitlines()
    found = COMMAND.fullmatch(second if first.startswith("# @package ") else first)
    assert found, f"{file.relative_to(ROOT)} does not begin with the command that uses it"
    return found.group(1)


def points(words: Sequence[str]) -> list[list[str]]:
    """The overrides of jobs of a command: one, or with -m so many that each value is in one."""
    multirun = [word for word in words if word in ("-m", "--multirun")]
    overrides = OverridesParser.create().parse_overrides(
        [word for word in words if word not in multirun]
    )
    swept = [o for o in overrides if o.is_sweep_override() or o.key_or_group == "sweep"]
    assert bool(swept) == bool(multirun), (
        "a list of values needs -m, and -m a list of values or a preset"
    )
    choices = [
        [f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in overrides
    ]
    most = max(map(len, choices), default=1)
    return [[values[i % len(values)] for values in choices] for i in range(most)]


def test_points_of_a_sweep_have_each_value() -> None:
    assert points(["-m", "a=1,2,5", "b=x", "c=3,4"]) == [
        ["a=1", "b=x", "c=3"],
        ["a=2", "b=x", "c=4"],
        ["a=5", "b=x", "c=3"],
    ]


def test_groups_offer_what_the_code_knows() -> None:
    offered = {group: {name for g, name in OPTIONS if g == group} for group, _ in OPTIONS}
    assert offered["model"] == set(MODELS)
    assert offered["data"] == set(DATASETS)
    assert offered["bench"] == {*BENCHES, "all"}
    assert offered["scale"] == {"auto", "laptop", "spec"}
    assert "train" in offered


def require_plugin(group: str, name: str) -> None:
    """Skip a launcher whose package is not installed here."""
    if group == "launcher":
        plugin = f"hydra_plugins.hydra_{name.partition('_')[0]}_launcher"
        pytest.importorskip(plugin, reason=f"{plugin} is not installed here")


@pytest.mark.parametrize("scale", ["laptop", "spec"])
@pytest.mark.parametrize("name", BENCHES)
def test_a_benchmark_takes_its_sizes_from_the_scale(name: str, scale: str) -> None:
    config = typed(f"scale={scale}", f"bench={name}")
    assert list(config.bench) == [name]
    sizes = config.scale["bench"]["ppl" if name in ("budget", "parts") else name]
    assert sizes
    assert {key: getattr(config.bench[name], key) for key in sizes} == sizes


@pytest.mark.parametrize("name", MADE)
def test_every_model_runs_at_laptop_size(name: str) -> None:
    config = typed("scale=laptop", f"model={name}")
    model = build_model(config.model, config.data.vocab_size).eval()
    with torch.no_grad():
        logits = model(torch.randint(0, config.data.vocab_size, (1, 12)))
    assert config.model.name == name
    assert logits.shape == (1, 12, config.data.vocab_size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("scale", ["laptop", "spec"])
def test_the_compared_models_are_of_one_size(scale: str) -> None:
    """Within 5 %, or the candidate is the smaller one."""
    candidate, baseline = models(typed(f"scale={scale}", "bench=ppl"))
    with torch.device("meta"):
        ours, theirs = (
            build_model(model, 50).parameter_counts()["blocks"] for model in (candidate, baseline)
        )
    assert (candidate.name, baseline.name) == ("stage2", "stage1")
    assert ours <= 1.05 * theirs
    assert (candidate.dim, candidate.blocks, candidate.dropout) == (
        baseline.dim,
        baseline.blocks,
        baseline.dropout,
    )


@pytest.mark.parametrize("name", ["wikitext2_word", "wikitext2_bpe"])
def test_a_recipe_s_models_are_of_one_size_and_one_recipe(name: str) -> None:
    """Both stages within 1 %, the reference the larger one; dropout and rate as tuned for each."""
    config = typed(f"experiment={name}", "data.path=here")
    with torch.device("meta"):
        two, one, gpt = (
            build_model(model, 50).parameter_counts()["blocks"] for model in models(config)
        )
    assert two == pytest.approx(one, rel=0.01)
    assert two < gpt
    rates = [(model.dropout.input, model.dropout.output) for model in models(config)]
    assert rates == [(0.2, 0.3)] * 3
    assert {(model.dropout.embedding, model.dropout.block) for model in models(config)} == {
        (0.1, 0.15)
    }
    assert [model.lr for model in models(config)] == [None, None, None]
    assert [model.weight_decay for model in models(config)] == [None, None, None]
    ode = config.model.ode
    assert ode.steps * ode.dt == pytest.approx(2.0)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CONF).as_posix())
def test_every_file_begins_with_a_command_that_uses_it_and_builds(
    file: Path, tmp_path: Path
) -> None:
    place = tmp_path / "text"
    place.write_text("some words\n")
    words = [PLACEHOLDER.sub(str(place), word) for word in shlex.split(command(file))]
    group = file.parent.relative_to(CONF).as_posix()
    require_plugin(group, file.stem)
    for overrides in points(words):
        tree = compose("config", overrides, return_hydra_config=True)
        choice = "" if file.parent == CONF else tree.hydra.runtime.choices[group]
        assert file.parent == CONF or file.stem in ([choice] if isinstance(choice, str) else choice)
        config = built(tree)
        with torch.device("meta"):
            made = [model for model in models(config) if model.name not in OF_A_FOLDER]
            assert all(build_model(m, 50).parameter_counts()["blocks"] > 0 for m in made)


@pytest.mark.parametrize(
    "words", [("experiment=stage3", "bench=parts"), ("+sweep=parts", "experiment=wikitext2_word")]
)
def test_validations_of_selections_are_often_enough(words: tuple[str, ...]) -> None:
    train = typed(*words, "data.path=x").train
    assert train.epochs
    steps = steps_of(train.epochs, 2_088_628, batch=train.batch, seq=train.seq)
    assert train.validate_every <= sparsest(steps)


def test_scale_spec_is_what_the_conditions_say() -> None:
    text = {"name": "wikitext2", "vocab_size": 50257}
    found = check(typed("scale=spec", "data=wikitext2", "bench=all"), text)
    assert len(found) == sum(map(len, CONDITIONS.values()))
    # two steps of Blanes & Moan's, whose forces cost what ten leapfrog steps' do
    assert {condition.name for condition in found if not condition.met} == {"model.ode.steps"}


def test_scale_laptop_is_not() -> None:
    text = {"name": "synthetic", "vocab_size": 200}
    assert [c for c in check(typed("scale=laptop", "bench=all"), text) if not c.met]


# precedence


@pytest.mark.parametrize("scale", ["scale=spec", "scale=laptop", "scale=auto"])
def test_the_command_line_wins_over_the_scale(scale: str) -> None:
    """Whether it comes before or after; none of the values is a scale's."""
    wanted = {
        "bench.vram.seq": 7,
        "bench.ppl.precision": "bf16",
        "bench.ppl.baseline.hidden": 8,
        "bench.energy.batch": 3,
        "train.steps": 3,
        "model.dim": 24,
        "model.dropout.block": 0.125,
        "data.vocab_size": 999,
        "data.synthetic.rows": 77,
    }
    defaults = typed(scale)
    assert [key for key in wanted if value(defaults, key) == wanted[key]] == []
    words = [f"{key}={v}" for key, v in wanted.items()]
    for overrides in ([scale, *words], [*words, scale]):
        config = typed(*overrides)
        assert {key: value(config, key) for key in wanted} == wanted


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (
            "model=stage2 model.ode.steps=3 train=default train.weight_decay=0.5 data=text "
            "data.path=here bench=[vram,energy] bench.vram.arms=[adjoint] bench.energy.steps=9",
            {
                "model.ode.steps": 3,
                "train.weight_decay": 0.5,
                "data.path": "here",
                "bench.vram.arms": ["adjoint"],
                "bench.energy.steps": 9,
            },
        ),
        (
            "model=stage1 model.hidden=10 bench=ppl bench.ppl.baseline=null",
            {"model.hidden": 10, "bench.ppl.baseline": None},
        ),
        (
            "bench=ppl model@bench.ppl.baseline=stage2 bench.ppl.baseline.ode.dt=0.4 "
            "scale=laptop scale.model.dim=32",
            {"bench.ppl.baseline.ode.dt": 0.4, "model.dim": 32, "bench.ppl.baseline.dim": 32},
        ),
    ],
)
def test_the_command_line_wins_over_an_option(words: str, wanted: dict[str, Any]) -> None:
    config = typed("device=cpu", *words.split())
    assert {key: value(config, key) for key in wanted} == wanted


def test_an_experiment_wins_over_groups_and_the_command_line_over_it(tmp_path: Path) -> None:
    study = tmp_path / "experiment" / "study.yaml"
    study.parent.mkdir()
    study.write_text(
        "# @package _global_\n"
        "defaults:\n  - override /scale: spec\n  - override /model: stage1\n"
        "  - override /bench: energy\n  - _self_\n"
        "seed: 6\ntrain: {steps: 41, warmup: 5}\nbench: {energy: {dt: 0.25}}\n"
    )
    words = (f"hydra.searchpath=[file://{tmp_path}]", "experiment=study")
    config = typed(*words)
    assert (config.scale["name"], config.model.name, list(config.bench)) == (
        "spec",
        "stage1",
        ["energy"],
    )
    assert (config.seed, config.train.steps, config.train.warmup, config.bench["energy"].dt) == (
        6,
        41,
        5,
        0.25,
    )
    config = typed(
        *words, "seed=7", "train.steps=3", "bench.energy.dt=0.5", "model=stage2", "scale=laptop"
    )
    assert (config.seed, config.train.steps, config.train.warmup, config.bench["energy"].dt) == (
        7,
        3,
        5,
        0.5,
    )
    assert (config.scale["name"], config.model.name, config.model.dim) == ("laptop", "stage2", 64)


# scale=auto


@pytest.mark.parametrize(
    ("gpu", "device", "wanted"),
    [
        (True, "auto", "spec"),
        (False, "auto", "laptop"),
        (True, "cpu", "laptop"),
        (False, "cuda", "spec"),
        (True, "cuda:1", "spec"),
    ],
)
def test_auto_scale_follows_the_device(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, device: str, wanted: str
) -> None:
    monkeypatch.setattr(gpus, "gpu_names", lambda: {"A"} if gpu else set())
    typed.cache_clear()  # of machines with another GPU
    found, explicit = typed(f"device={device}"), typed(f"device={device}", f"scale={wanted}")
    assert found.scale["name"] == wanted
    for part in ("model", "data", "train", "bench"):
        assert getattr(found, part) == getattr(explicit, part), part
