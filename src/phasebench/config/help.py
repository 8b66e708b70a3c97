"""What ``--help`` says of groups and keys: options from the YAML files, docs, units and ranges from the dataclasses.

The one-line doc of a field is the comment beside it, or on the line above.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import shutil
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from phasebench.config.handling import Handling
from phasebench.config.schema import BENCH_SCHEMAS, Config, ModelConfig
from phasebench.config.validation import bounds, kinds

KEY, VALUE = 34, 16  # columns
_NOTES = {
    "bench": "a list too: bench=[ppl,energy]",
    "sweep": "with -m and a plus: -m +sweep=ode",
    "launcher": "of a sweep: where its points run",
}


def groups(folders: Iterable[Path]) -> str:
    """The groups of the configuration folders with their options, a line each."""
    options: dict[str, set[str]] = {}
    for file in (file for folder in folders for file in folder.glob("*/*.yaml")):
        options.setdefault(file.parent.name, set()).add(file.stem)
    lines = (
        f"  {group:<12}{' | '.join(sorted(names))}"
        + (f"   ({_NOTES[group]})" if group in _NOTES else "")
        for group, names in sorted(options.items())
    )
    return "\n".join(lines)


def keys(values: Mapping[str, Any]) -> str:
    """Every key of a composed configuration with its value there, what it means, its unit and its range."""
    width = max(shutil.get_terminal_size().columns, 80)
    rows = [
        *_rows(Config, values, "", skip={f.name for f in dataclasses.fields(Handling)}),
        *_rows(Handling, values, ""),
    ]
    return "\n".join(_wrapped(*row, width) for row in rows)


def _rows(
    cls: type, values: Mapping[str, Any], at: str, skip: Iterable[str] = ()
) -> Iterator[tuple[str, Any, str]]:
    hints, docs = typing.get_type_hints(cls), field_docs(cls)
    for field in (
        field
        for field in dataclasses.fields(cls)
        if field.name not in skip and field.name in values
    ):
        (kind,), value, key = kinds(hints[field.name]), values[field.name], at + field.name
        if key == "bench":
            for name, bench in value.items():
                yield from _rows(BENCH_SCHEMAS[name], bench, f"bench.{name}.")
        elif key == "scale":
            yield (
                key,
                value.get("name", ""),
                "sizes that the other keys take theirs from; choose it as a group",
            )
        elif kind is ModelConfig and at:
            yield key, (value or {}).get("name"), "a model like model, with its keys; null: none"
        elif dataclasses.is_dataclass(kind):
            yield from _rows(typing.cast(type, kind), value, f"{key}.")
        else:
            yield (
                key,
                value,
                "; ".join(filter(None, (docs.get(field.name), _valid(field.metadata)))),
            )


def _valid(checks: Mapping[str, Any]) -> str:
    choices = checks.get("choices")
    return "one of " + ", ".join(choices) if choices else bounds(checks)


def _wrapped(key: str, value: Any, doc: str, width: int) -> str:
    shown = (
        "null"
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else str(value).replace("'", "")
    )
    head = f"  {key:<{KEY}} {shown:<{VALUE}} "
    indent = " " * (3 + KEY + 1 + VALUE)
    lines = textwrap.wrap(doc, max(width - len(indent), 30)) or [""]
    first = [head + lines[0]] if len(head) <= len(indent) else [head.rstrip(), indent + lines[0]]
    return "\n".join([*first, *(indent + line for line in lines[1:])]).rstrip()


@functools.cache
def field_docs(cls: type) -> dict[str, str]:
    """The comment of each field of a dataclass, its bases' included, by the field's name.

    >>> field_docs(Handling)["rerun"]
    'of a sweep: run finished points again too'
    """
    found: dict[str, str] = {}
    for base in (base for base in reversed(cls.__mro__) if dataclasses.is_dataclass(base)):
        source = textwrap.dedent(inspect.getsource(base))
        lines, (definition,) = source.splitlines(), ast.parse(source).body
        for node in (node for node in ast.walk(definition) if isinstance(node, ast.AnnAssign)):
            beside = (
                lines[(node.end_lineno or node.lineno) - 1]
                .encode()[node.end_col_offset :]
                .decode()
                .strip()
            )
            doc = beside or lines[node.lineno - 2].strip()
            if isinstance(node.target, ast.Name) and doc.startswith("#"):
                found[node.target.id] = doc.strip("# ")
    return found
