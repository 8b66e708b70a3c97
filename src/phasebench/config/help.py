"""What ``--help`` says: groups with their options (the YAML files), keys (the dataclasses)."""

from __future__ import annotations

import collections
import dataclasses
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from phasebench.config.benches import BENCH_SCHEMAS
from phasebench.config.model import ModelConfig
from phasebench.config.run import Config, RunOptions
from phasebench.config.validation import bounds, field_types

KEY, VALUE = 34, 16  # columns
_NOTES = {
    "bench": "   (a list too: bench=[ppl,energy])",
    "sweep": "   (as -m +sweep=ode)",
    "launcher": "   (of a sweep: where its points run)",
}


def groups(folders: Iterable[Path]) -> str:
    """List the groups of the configuration folders with their options, a line each."""
    options = collections.defaultdict(set)
    for file in (file for folder in folders for file in folder.glob("*/*.yaml")):
        options[file.parent.name].add(file.stem)
    return "\n".join(
        f"  {group:<12}{' | '.join(sorted(names))}{_NOTES.get(group, '')}"
        for group, names in sorted(options.items())
    )


def keys(values: Mapping[str, Any]) -> str:
    """List every key of a composed configuration: its value there, what it is, unit and range."""
    width = max(shutil.get_terminal_size().columns, 80)
    return "\n".join(_wrapped(*row, width) for row in rows(values))


def rows(values: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """Return the dotted key, value and description of each key, those of `RunOptions` last."""
    options = {field.name for field in dataclasses.fields(RunOptions)}
    measured = {key: value for key, value in values.items() if key not in options}
    return [*_below(Config, measured, ""), *_below(RunOptions, values, "")]


def describe(field: dataclasses.Field[Any]) -> str:
    """Say what a field is and which values it takes.

    >>> [lr] = [f for f in dataclasses.fields(ModelConfig) if f.name == "lr"]
    >>> describe(lr)
    'peak learning rate; null: train.lr; above 0.0'
    """
    choices = field.metadata.get("choices")
    valid = "one of " + ", ".join(choices) if choices else bounds(field.metadata)
    return "; ".join(filter(None, (field.metadata["about"], valid)))


def _below(cls: Any, values: Mapping[str, Any], at: str) -> Iterator[tuple[str, Any, str]]:
    """Yield the dotted key, value and description of each field, through all groups below."""
    types = field_types(cls)
    for field in (field for field in dataclasses.fields(cls) if field.name in values):
        kind, value, key = types[field.name], values[field.name], at + field.name
        if key == "bench":
            for name, bench in value.items():
                yield from _below(BENCH_SCHEMAS[name], bench, f"bench.{name}.")
        elif key == "scale" or (kind is ModelConfig and at):  # chosen as groups
            yield key, (value or {}).get("name"), field.metadata["about"]
        elif dataclasses.is_dataclass(kind):
            yield from _below(kind, value, f"{key}.")
        else:
            yield key, value, describe(field)


def _wrapped(key: str, value: Any, about: str, width: int) -> str:
    shown = "null" if value is None else str(value).replace("'", "")
    shown = shown.lower() if isinstance(value, bool) else shown
    head, indent = f"  {key:<{KEY}} {shown:<{VALUE}} ", " " * (4 + KEY + VALUE)
    above = head.rstrip() + "\n" if len(head) > len(indent) else ""
    text = textwrap.fill(
        about, width, initial_indent=indent if above else head, subsequent_indent=indent
    )
    return above + text if about else head.rstrip()
