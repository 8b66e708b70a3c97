"""From a composed tree of plain values to a checked `Config`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from phasebench.config.benches import BENCH_SCHEMAS
from phasebench.config.fields import ConfigError
from phasebench.config.files import user_path
from phasebench.config.run import Config

_BOUNDS = {
    "low": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "high": ("at most", operator.le),
}


def nearest(word: str, choices: Iterable[str]) -> str:
    """Ask for the closest spelling among the choices; an empty string where none is close."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def field_types(cls: Any) -> dict[str, Any]:
    """Map each field of a dataclass to its type, without `| None`."""
    hints = typing.get_type_hints(cls)
    types = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        inner = [t for t in typing.get_args(hint) if t is not type(None)]
        types[field.name] = inner[0] if type(None) in typing.get_args(hint) else hint
    return types


def keys_at(dotted: str) -> dict[str, Any] | None:
    """Map the keys of a group to their types; None where no group has that name ("": the root)."""
    group: Any = Config
    for part in filter(None, dotted.split(".")):
        keys = group if isinstance(group, dict) else field_types(group)
        group = BENCH_SCHEMAS if group is Config and part == "bench" else keys.get(part)
        if not (isinstance(group, dict) or dataclasses.is_dataclass(group)):
            return None
    return group if isinstance(group, dict) else field_types(group)


def to_config(tree: Mapping[str, Any]) -> Config:
    """Build and check a `Config` from a composed tree of plain values.

    Raises `ConfigError` with the dotted key of the first value that is unknown, of the wrong type
    or out of range.
    """
    config = build(Config, tree, "")
    for name, values in config.bench.items():
        if name not in BENCH_SCHEMAS:
            problem = f"unknown benchmark; choices: {', '.join(BENCH_SCHEMAS)}"
            raise ConfigError(f"bench.{name}", "...", problem, nearest(name, BENCH_SCHEMAS))
        config.bench[name] = build(BENCH_SCHEMAS[name], values, f"bench.{name}")
    if not config.bench:
        fix = f"bench=all, or one of {', '.join(BENCH_SCHEMAS)}"
        raise ConfigError("bench", "{}", "no benchmark to run", fix)
    return config


def build(cls: Any, values: Any, at: str) -> Any:
    """Build and check a dataclass of the configuration; `at` is the dotted key of its group.

    Raises `ConfigError`.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(at, values, "expected a group of keys")
    types, prefix = field_types(cls), f"{at}." if at else ""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            problem = f"unknown key; keys of {at or 'the configuration'}: {', '.join(fields)}"
            raise ConfigError(f"{prefix}{key}", values[key], problem, nearest(str(key), fields))
    converted = {}
    for key, value in values.items():
        if value is not None or not str(fields[key].type).endswith("| None"):
            value = _convert(value, types[key], fields[key].metadata, prefix + key)
        converted[key] = value
    try:
        return cls(**converted)
    except ConfigError as error:  # of a check across fields, which knows its own keys only
        raise ConfigError(prefix + error.key, error.value, error.problem, error.fix) from None


def _convert(value: Any, kind: Any, checks: Mapping[str, Any], key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return build(kind, value, key)
    if typing.get_origin(kind) is list:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigError(key, value, "expected a list", f"{key}=[{value}]")
        if not value and not checks.get("empty"):
            raise ConfigError(key, value, "expected at least one entry")
        return [_scalar(entry, typing.get_args(kind)[0], checks, key) for entry in value]
    if (kind is Any or typing.get_origin(kind) is dict) and isinstance(value, Mapping):
        return dict(value)
    kind = str if kind is Any else kind
    return _scalar(value, kind, checks, key)


def _scalar(value: Any, kind: type, checks: Mapping[str, Any], key: str) -> Any:
    valid = bounds(checks)
    range_ = f"; valid: {valid}" if valid else ""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, typing.get_origin(kind) or kind) or (
        kind is int and isinstance(value, bool)
    ):
        problem = f"expected {kind.__name__}, got {type(value).__name__}{range_}"
        raise ConfigError(key, value, problem)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(key, value, f"must be finite{range_}")
    if checks.get("path"):
        user_path(str(value), key)
    choices = checks.get("choices")
    if choices and value not in choices and not str(value).startswith(checks.get("prefix", "\n")):
        problem = f"unknown; choices: {', '.join(choices)}"
        raise ConfigError(key, value, problem, nearest(str(value), choices))
    if any(
        not holds(value, checks[name]) for name, (_, holds) in _BOUNDS.items() if name in checks
    ):
        raise ConfigError(key, value, f"out of range{range_}", f"set {key} to {valid}")
    return value


def bounds(checks: Mapping[str, Any]) -> str:
    """Say in words which range a field's checks allow; an empty string where they allow all."""
    return " and ".join(f"{text} {checks[k]}" for k, (text, _) in _BOUNDS.items() if k in checks)
