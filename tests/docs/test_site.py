"""The documentation's site builds without a warning, and its generated pages say what there is."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config

import phasebench
from paths import ROOT
from phasebench.config import BENCH_SCHEMAS
from phasebench.config.validation import field_types


def test_the_site(tmp_path: Path) -> None:
    """Strict: a link that leads nowhere, or a page that is not in the navigation, fails."""
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))

    def text(page: str) -> str:
        return (tmp_path / page / "index.html").read_text()

    for page in ROOT.glob("docs/**/*.md"):
        assert "<!-- generated" not in text(str(page.relative_to(ROOT / "docs").with_suffix("")))
    picture = "outputs/reference/h200/energy/interaction.png"  # not below docs/
    assert (tmp_path / picture).read_bytes() == (ROOT / picture).read_bytes()
    assert f'src="../{picture}"' in text("energy")
    assert "Potential" in text("src/phasebench/dynamics/perceptron.py")  # README links to it
    described = set(re.findall(r"<td><code>([\w.]+)</code></td>", text("configuration")))
    for bench, schema in BENCH_SCHEMAS.items():
        assert {f"bench.{bench}.{key}" for key in field_types(schema)} <= described
    assert {"seed", "track", "model.ode.dt", "data.path", "train.lr"} <= described
    assert "monotone_layers" in text("benches")
    assert "experiment=speed_training" in text("presets")
    names = re.findall(r'id="phasebench[\w.]*\.(\w+)"', text("api"))
    assert {"HamiltonianFlow", "load", "forward"} <= set(names)
    constants = {"GRADIENTS", "INTEGRATORS", "report", "run"}  # docs/library.md has these
    assert set(phasebench.__all__) - constants <= set(names)
    assert all(name in text("library") for name in phasebench.__all__)
    assert "@software{phasebench" in re.sub("<[^>]+>", "", text("citing"))
