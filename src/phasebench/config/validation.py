"""From a composed tree of plain values to a checked `Config`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from phasebench.config.schema import BENCH_SCHEMAS, Config, ConfigError


def nearest(word: str, choices: Sequence[str]) -> str:
    """A hint at the closest spelling among choices, or an empty string."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def keys_at(dotted: str) -> list[str] | None:
    """The keys of the group with that dotted name ("" is the root), or None where there is no such group."""
    cls: Any = Config
    for part in filter(None, dotted.split(".")):
        if cls is dict:
            cls = BENCH_SCHEMAS.get(part)
        else:
            hint = typing.get_type_hints(cls).get(part) if dataclasses.is_dataclass(cls) else None
            cls = dict if part == "bench" else next(iter(kinds(hint)), None)
    if cls is dict:
        return list(BENCH_SCHEMAS)
    return [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else None


def to_config(tree: Mapping[str, Any]) -> Config:
    """Build and check a `Config` from a composed tree of plain values.

    Raises `ConfigError` with the dotted key of the first value that is unknown, of the wrong type or out of range.
    """
    config = _build(Config, tree, "")
    for name, values in config.bench.items():
        if name not in BENCH_SCHEMAS:
            raise ConfigError(
                f"bench.{name}",
                "...",
                f"unknown benchmark; choices: {', '.join(BENCH_SCHEMAS)}",
                nearest(name, list(BENCH_SCHEMAS)),
            )
        config.bench[name] = _build(BENCH_SCHEMAS[name], values, f"bench.{name}")
    if not config.bench:
        raise ConfigError(
            "bench", "{}", "no benchmark to run", f"bench=all, or one of {', '.join(BENCH_SCHEMAS)}"
        )
    return config


def _build(cls: type, values: Any, at: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in _group(values, at):
        if key not in fields:
            raise ConfigError(
                _join(at, str(key)),
                values[key],
                f"unknown key; keys of {at or 'the configuration'}: {', '.join(fields)}",
                nearest(str(key), list(fields)),
            )
    hints = typing.get_type_hints(cls)
    converted = {
        k: _convert(v, hints[k], fields[k].metadata, _join(at, k)) for k, v in values.items()
    }
    try:
        return cls(**converted)
    except ConfigError as error:  # of a check across fields, which knows its own keys only
        raise ConfigError(_join(at, error.key), error.value, error.problem, error.fix) from None


def _convert(value: Any, hint: Any, checks: Mapping[str, Any], key: str) -> Any:
    if value is None and type(None) in typing.get_args(hint):
        return None
    (kind,) = kinds(hint)
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type, kind), value, key)
    if typing.get_origin(kind) is list:
        return [
            _scalar(v, typing.get_args(kind)[0], checks, key)
            for v in _listed(value, key, checks.get("empty", False))
        ]
    if typing.get_origin(kind) is dict:
        return dict(_group(value, key))
    return _scalar(value, kind, checks, key)


def _group(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(key, value, "expected a group of keys")
    return value


def _scalar(value: Any, kind: type, checks: Mapping[str, Any], key: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(
            key, value, f"expected {kind.__name__}, got {type(value).__name__}{_range(checks)}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(key, value, f"must be finite{_range(checks)}")
    choices = checks.get("choices")
    if choices and value not in choices and not str(value).startswith(checks.get("prefix", "\n")):
        raise ConfigError(
            key, value, f"unknown; choices: {', '.join(choices)}", nearest(str(value), choices)
        )
    if (
        value < checks.get("low", value)
        or value > checks.get("high", value)
        or ("above" in checks and value <= checks["above"])
    ):
        raise ConfigError(
            key, value, f"out of range{_range(checks)}", f"set {key} to {bounds(checks)}"
        )
    return value


def _range(checks: Mapping[str, Any]) -> str:
    return f"; valid: {bounds(checks)}" if bounds(checks) else ""


def bounds(checks: Mapping[str, Any]) -> str:
    """The range that a field's checks allow, in words."""
    names = {"low": "at least", "above": "above", "high": "at most"}
    return " and ".join(f"{text} {checks[name]}" for name, text in names.items() if name in checks)


def _listed(value: Any, key: str, empty: bool) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(key, value, "expected a list", f"{key}=[{value}]")
    if not value and not empty:
        raise ConfigError(key, value, "expected at least one entry")
    return list(value)


def kinds(hint: Any) -> list[Any]:
    """The type of a field, without its `| None`."""
    return (
        [t for t in typing.get_args(hint) if t is not type(None)]
        if type(None) in typing.get_args(hint)
        else [hint]
    )


def _join(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key
