"""What the site has beside docs/*.md, made while mkdocs builds it.

README.md and its neighbours become pages, a linked file outside docs/ becomes a page or a copy, and
``<!-- generated: NAME ARGUMENT -->`` in a page becomes what NAME below returns. So links and pages
read the same on GitHub, and nothing is written twice.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from omegaconf import OmegaConf

import phasebench
from phasebench.config import BENCHES
from phasebench.config.help import rows
from phasebench.results.file import schema
from phasebench.results.gate import SPEC_KEYS
from phasebench.run.hydra_app import register

ROOT = Path(__file__).parents[1]
PAGES = {"README": "index", "CHANGELOG": "changelog"}  # others keep their name, in lower case
CODE = {".py": "python", ".yaml": "yaml", ".cff": "yaml"}  # shown as a page
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)((?:#[^)]*)?)\)")
GENERATED = re.compile(r"<!-- generated: (\w+) ?(\w*) -->")
RUNS = {"ppl": "training"}  # of outputs/reference/h200, whose results show a bench's keys


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page or a copy of each file outside docs/ that a page names."""
    pages = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    pages += sorted(ROOT.glob("*.md"))
    linked = {target for page in pages for target, _ in _links(page.read_text("utf-8"), page)}
    for path in sorted({*linked, *ROOT.glob("*.md")} - {Path(f.abs_src_path or "") for f in files}):
        uri = _uri(path)
        if path.suffix in CODE:
            title = path.relative_to(ROOT).as_posix()
            text = f"# {title}\n\n~~~~~~{CODE[path.suffix]}\n{path.read_text('utf-8')}\n~~~~~~\n"
            file = File.generated(config, uri, content=text, inclusion=InclusionLevel.NOT_IN_NAV)
        else:
            file = File.generated(config, uri, abs_src_path=str(path))
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to the pages of the site, and fill in what is generated."""
    if page.file.abs_src_path:
        here = Path(page.file.abs_src_path)
        for target, (link, anchor) in _links(markdown, here):
            to = posixpath.relpath(_uri(target), posixpath.dirname(page.file.src_uri))
            markdown = markdown.replace(f"]({link}{anchor})", f"]({to}{anchor})")
    return GENERATED.sub(lambda match: globals()[match[1]](*filter(None, [match[2]])), markdown)


def _links(markdown: str, page: Path) -> Iterator[tuple[Path, tuple[str, str]]]:
    for link, anchor in LINK.findall(markdown):
        if (path := (page.parent / link).resolve()).is_file():
            yield path, (link, anchor)


def _uri(path: Path) -> str:
    """Return a file's place in the site."""
    if path.is_relative_to(ROOT / "docs"):
        return path.relative_to(ROOT / "docs").as_posix()
    if path.suffix == ".md" and path.parent == ROOT:
        return f"{PAGES.get(path.stem, path.stem.lower())}.md"
    return path.relative_to(ROOT).as_posix() + (".md" if path.suffix in CODE else "")


def keys() -> str:
    """Describe every key: its values at both scales, its meaning and range."""
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        tree = compose("config", overrides=[f"bench=[{','.join(BENCHES)}]"])
    scales = []
    for scale in ("laptop", "spec"):
        tree.scale.name = scale
        values: Any = OmegaConf.to_container(tree, resolve=True)
        scales.append(rows(values))
    sections: dict[str, str] = {}
    for (key, laptop, about), (_, spec, _) in zip(*scales, strict=True):
        parts = key.split(".")
        group = "run" if len(parts) == 1 else ".".join(parts[: 1 + (parts[0] == "bench")])
        values = [f"`{json.dumps(value)}`".replace('"', "") for value in (laptop, spec)]
        shown = values[0] if laptop == spec else "{} laptop, {} spec".format(*values)
        head = f"\n## `{group}`\n\n| key | value | meaning, range |\n|---|---|---|\n"
        sections[group] = sections.get(group, head) + f"| `{key}` | {shown} | {_cell(about)} |\n"
    return "".join(sections.values())


def presets() -> str:
    """Show the header of each YAML file: its command, and what to expect of it."""
    text = ""
    for folder in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        text += f"\n## Group `{folder.name}`\n"
        for file in sorted(folder.glob("*.yaml")):
            text += f"\n**`{folder.name}={file.stem}`**\n\n{_header(file)}"
    return text


def bench(name: str) -> str:
    """Describe a bench: its command, and the keys and gates that the results of a kept run have."""
    run = RUNS.get(name, name)
    results = json.loads((ROOT / f"outputs/reference/h200/{run}/results.json").read_text("utf-8"))
    entry = results["benches"][name]
    units = {key: metric["unit"] for key, metric in entry["metrics"].items()}
    targets = {gate["name"]: gate["target"] for gate in entry["gates"]}
    arms = results["config"]["bench"][name].get("arms", ["candidate", "baseline", "reference"])
    table: dict[str, str] = {}
    for key, unit in units.items():
        rests = [key.removeprefix(f"{arm}_") for arm in arms if key.startswith(f"{arm}_")]
        rest = min(rests, key=len, default="")
        if sum(f"{arm}_{rest}" in units for arm in arms) > 1 and key not in targets:
            key = f"{'ARM' if name == 'vram' else 'MODEL'}_{rest}"
        table.setdefault(key, f"| `{key}` | {_cell(unit)} | {targets.get(key, '')} |\n")
    text = _header(ROOT / f"conf/bench/{name}.yaml") + "\n| key | unit | gate |\n|---|---|---|\n"
    text += "".join(table.values())
    known = schema()["properties"]
    top = [f"- `{key}`: {known[key]['description']}\n" for key in SPEC_KEYS.get(name, ())]
    return text + ("\nAt the top level of `results.json`:\n\n" + "".join(top) if top else "")


def citation() -> str:
    """Return a BibTeX entry made of CITATION.cff."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    authors = " and ".join(f"{{{author['name']}}}" for author in cff["authors"])
    fields = {"title": f"{{{cff['title']}}}: {cff['abstract']}", "author": authors}
    fields |= {"version": phasebench.__version__, "note": "commit ..."}
    lines = "".join(f"  {key} = {{{value}}},\n" for key, value in fields.items())
    return f"```bibtex\n@software{{phasebench,\n{lines}}}\n```"


def _header(file: Path) -> str:
    """Return the comment that a YAML file begins with: commands as code, then prose."""
    lines = file.read_text("utf-8").splitlines()
    comment = [line[2:] for line in lines[: next(i for i, x in enumerate(lines) if x[:1] != "#")]]
    comment = [line for line in comment if not line.startswith("@package")]
    commands = "\n".join(line for line in comment if line.startswith("python "))
    prose = "\n".join(line for line in comment if not line.startswith("python "))
    return f"```\n{commands}\n```\n{prose}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
