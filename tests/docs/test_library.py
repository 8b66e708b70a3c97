"""The examples of docs/library.md, run from the built wheel outside the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import phasebench
from paths import ROOT

PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
POTENTIAL, _, RUN, _ = EXAMPLES
TINY = (
    "device=cpu data=synthetic data.synthetic.rows=80 scale=laptop model.dim=4 model.blocks=1 "
    "model.heads=2 train.steps=2 train.seq=16 train.batch=2 train.warmup=1 bench=energy "
    "bench.energy.batch=1 bench.energy.seq=16 bench.energy.steps=8"
)
MAIN = "from phasebench.run.cli import main\nsys.exit(main())\n"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside an unpacked wheel (`site`), in which the examples of the page have run."""
    home = tmp_path_factory.mktemp("outside")
    sources = home / "sources"
    shutil.copytree(ROOT / "src", sources / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    output = subprocess.run(
        [sys.executable, "-c", build, str(home)], cwd=sources, capture_output=True, text=True
    )
    assert output.returncode == 0, output.stderr
    (wheel,) = home.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(home / "site")
    (home / "mypkg.py").write_text(POTENTIAL)
    for number, text in enumerate(EXAMPLES):
        (home / f"example{number}.py").write_text(text)
    return home


def python(home: Path, *arguments: str) -> str:
    """Run the interpreter in `home`, with the unpacked wheel and nothing of the checkout."""
    env = os.environ | {"PYTHONPATH": f"{home / 'site'}:{home}", "HF_HUB_OFFLINE": "1"}
    env |= {"JUPYTER_RUNTIME_DIR": str(home), "IPYTHONDIR": str(home), "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=home, env=env, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: a gate failed
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_potentials_and_modules_of_one_s_own_run_from_the_wheel(outside: Path) -> None:
    own = re.search(r"^python runner.py .*? (model\.ode\.potential.*)$", PAGE, re.MULTILINE)
    assert own
    script = (
        "import runpy, sys, phasebench\n"
        "assert 'torch' not in sys.modules and 'hydra' not in sys.modules\n"
        "for number in range(2): runpy.run_path(f'example{number}.py')\n"
        "print(phasebench.__file__)\n"
    )
    out = python(outside, "-c", script + MAIN, *TINY.split(), *own[1].split())
    assert str(outside / "site" / "phasebench") in out
    assert "model.ode.potential is one's own" in out


def test_a_notebook_s_run_is_loaded_and_generates(outside: Path) -> None:
    lacks = [name for name in ("nbclient", "ipykernel") if find_spec(name) is None]
    shown = python(outside, "example2.py") if lacks else notebook(outside, RUN)
    assert "ppl ratio" in shown
    assert re.search(r"^ok [\d.]+ model / baseline$", shown, re.MULTILINE)
    assert lacks or shown.count("tokens/s") == 2  # the last of each training, nothing on the way
    assert (outside / "outputs" / "first" / "report.html").exists()
    command = re.search(r"^phasebench (generate .*)$", PAGE, re.MULTILINE)
    assert command
    script = "import runpy, sys\nrunpy.run_path('example3.py')\nprint('---')\n"
    shown, text = python(outside, "-c", script + MAIN, *command[1].split()).split("---")
    assert "stage2 2" in shown
    assert len(text.split()) == 20
    if lacks:
        pytest.skip(f"the run was no notebook's: {', '.join(lacks)} not installed")


def notebook(home: Path, source: str) -> str:
    """Return what a notebook of one cell shows."""
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    page = {"nbformat": 4, "nbformat_minor": 4, "metadata": kernel}
    page["cells"] = [cell | {"source": source}]
    (home / "page.ipynb").write_text(json.dumps(page))
    script = (
        "import nbformat, nbclient\n"
        "page = nbformat.read('page.ipynb', 4)\n"
        "nbclient.NotebookClient(page, timeout=250).execute()\n"
        "nbformat.write(page, 'page.ipynb')\n"
    )
    python(home, "-W", "ignore", "-c", script)
    outputs = json.loads((home / "page.ipynb").read_text())["cells"][0]["outputs"]
    return "\n".join("".join(o.get("text") or o["data"].get("text/plain", "")) for o in outputs)


def test_every_public_name_has_a_docstring() -> None:
    for name in phasebench.__all__:
        public = getattr(phasebench, name)
        assert isinstance(public, dict) or len(public.__doc__) > 20, name
        assert name in PAGE
    stub = (ROOT / "src" / "phasebench" / "__init__.pyi").read_text()
    named = set(re.findall(r"as (\w+)$|^def (\w+)", stub, re.MULTILINE))
    assert {one or other for one, other in named} == set(phasebench.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Hamiltonain'"):
        phasebench.Hamiltonain  # type: ignore[attr-defined]  # noqa: B018
