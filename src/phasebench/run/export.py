"""``phasebench export RUN FOLDER``: trained weights as a folder in the layout of the hub."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from phasebench.config import ConfigError
from phasebench.report.text import VERDICTS
from phasebench.results.file import load as load_results
from phasebench.results.jsonfile import Json, write_atomic
from phasebench.run.errors import refuse

CARD = """\
---
library_name: phasebench
pipeline_tag: text-generation
---

# {name}, trained by phasebench

Weights with their configuration and tokenizer. No code comes with them: phasebench has the model.

```
model, tokenizer, config = phasebench.load("FOLDER")
```

Trained and measured by `python runner.py {command}` on {device}, on {data}.

{table}

{conditions}
"""


def export(arguments: Sequence[str]) -> int:
    """Write the folder; returns the exit code, 0 or 2."""
    about = "Write trained weights as config.json, model.safetensors, tokenizer.json and a card."
    parser = argparse.ArgumentParser(prog="phasebench export", description=about)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("folder", type=Path, help="what is written; must be new, or empty")
    parser.add_argument("--role", default="candidate", help="candidate, baseline or reference")
    options = parser.parse_args(arguments)
    try:
        write(options.run, options.folder, options.role)
    except Exception as error:
        return refuse(error)
    print(f"{options.folder}: config.json, model.safetensors, tokenizer.json, README.md")
    return 0


def write(run: Path, folder: Path, role: str = "candidate") -> None:
    """Write the folder of a run's model. Raises `ConfigError` for what `load` refuses, and for a
    folder that holds something.
    """
    from phasebench.training.loading import load, of_run  # imports torch, which --help must not

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("folder", folder, "is there already", "a new one, or an empty one")
    file, _ = of_run(run, role)
    model, tokenizer, config = load(run, role=role)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / "model.safetensors")
    write_atomic(folder / "tokenizer.json", tokenizer.to_str())
    settings = {
        "model_type": "phasebench",
        "architectures": [type(model).__name__],
        "vocab_size": tokenizer.get_vocab_size(),
        "model": asdict(config) | {"checkpoint": None},
    }
    write_atomic(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    write_atomic(folder / "README.md", card(load_results(run / "results.json"), config.name))


def card(results: Json, name: str) -> str:
    """Return a model card: how the model was trained, every gate, the conditions."""
    rows = ["| bench | gate | value | limit | result |", "|---|---|---|---|---|"]
    for bench, entry in results["benches"].items():
        for gate in entry["gates"]:
            value = "-" if gate["value"] is None else f"{gate['value']:.4g}"
            title, limit, result = gate["name"], gate["target"], VERDICTS[gate["passed"]]
            rows.append(f"| {bench} | {title} | {value} | {limit} | {result} |")
    unmet = [c["name"] for c in results["conditions"] if not c["met"]]
    conditions = "All conditions of the specification were met."
    if unmet:
        conditions = f"Conditions of the specification that were not met: {', '.join(unmet)}."
    environment, data = results["environment"], results["data"] or {}
    return CARD.format(
        name=name,
        command=" ".join(results["overrides"]),
        device=(environment["gpu"] or {}).get("name", environment["cpu"]),
        data=data.get("source", "no text"),
        table="\n".join(rows),
        conditions=conditions,
    )
