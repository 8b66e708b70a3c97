"""The command line's overrides, checked against the schema and conf/ before Hydra composes them.

Hydra's own parser reads them. What it takes for a number, a list or an error in a key that holds
text is text as it was typed: it is quoted before Hydra sees it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import BooleanNode, FloatNode, IntegerNode, OmegaConf, StringNode
from omegaconf.errors import ValidationError

from phasebench.config import ConfigError, keys_at, nearest

CONF = Path(__file__).parents[1] / "conf"
RENAMED = {"scale=seed": "scale=spec", "experiment=seed": "experiment=spec"}
# what `_target_` may name: this package, Hydra's own launchers and sweepers, those of its plugins
TRUSTED = ("phasebench.", "hydra_plugins.", "hydra._internal.core_plugins.", "logging.")
CHECKED = 1000  # values of a sweep over one key; more are a range, whose values are alike
_NODES = {int: IntegerNode, float: FloatNode, bool: BooleanNode, str: StringNode}


def prepare(arguments: Sequence[str]) -> list[str]:
    """Check a command line and return it with texts quoted.

    Raises `ConfigError` for an override that is not in Hydra's grammar, an unknown key or option, a
    value of another type, several values without -m, and code that is not this program's.
    """
    options = get_args_parser().parse_args(arguments)
    if options.shell_completion:
        return list(arguments)
    several = options.multirun or "hydra.mode=MULTIRUN" in options.overrides
    read = {word: _read(word, several) for word in options.overrides}
    folders = [CONF, Path(options.config_dir)] if options.config_dir else [CONF]
    trusting = any(o.get_key_element() == "allow_targets" and o.value() for o in read.values())
    if not trusting:
        for override in read.values():
            _refuse_code(override.key_or_group, override.value())
        for file in (file for folder in folders[1:] for file in folder.rglob("*.yaml")):
            _refuse_code(str(file), OmegaConf.to_container(OmegaConf.load(file)))
    for override in read.values():
        if not override.is_delete() and not override.key_or_group.startswith("hydra"):
            for value in _values(override, several):
                _check(override.key_or_group, value, override, folders)
    return [str(read[word].input_line) if word in read else word for word in arguments]


def _read(word: str, several: bool) -> Override:
    """Parse an override; the value of a key that holds text is quoted unless it is plain text."""
    if re.match(r"[\w.@]*\.ode\.potential\.", word):
        word = f"++{word}"  # keys of a class of one's own, where there was a name
    head, equals, text = word.partition("=")
    key = head.lstrip("+")
    group, _, name = key.rpartition(".")
    try:
        override = OverridesParser.create().parse_override(word)
        value, problem = override.value(), ""
    except (HydraException, ValueError) as error:  # Python reads no integer of 5,000 digits
        override, value, problem = None, 0, str(error).partition("\n")[0]
    if (keys_at(group) or {}).get(name) is str and equals and not isinstance(value, str | None):
        parts = text.split(",") if several and override and override.is_sweep_override() else [text]
        if not re.match(r"\s*(choice|range|glob)\(", parts[0]) or (len(parts) == 1 and not several):
            quoted = ",".join(quote(part) for part in parts)
            return OverridesParser.create().parse_override(f"{head}={quoted}")
    if override is None:
        message = f"the configuration cannot be composed: {word}: {problem}"
        raise ConfigError("", "", message, f"quote text: {head}='...'")
    return override


def quote(text: str) -> str:
    r"""Write text as a value of Hydra's grammar.

    >>> print(quote("it's"))
    'it\'s'
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _values(override: Override, several: bool) -> Iterator[Any]:
    value = override.value()
    if not override.is_sweep_override():
        yield value
    elif not several:
        text = str(override.input_line).partition("=")[2]
        fix = f"a list is [{text}]; for a sweep over several values put -m (--multirun) before them"
        raise ConfigError(override.key_or_group, text, "Ambiguous value", fix)
    elif override.is_discrete_sweep() and not isinstance(value, Glob):
        for entry in itertools.islice(override.sweep_iterator(), CHECKED):
            yield entry.text if isinstance(entry, QuotedString) else entry


def _check(key: str, value: Any, override: Override, folders: Sequence[Path]) -> None:
    if any((folder / key).is_dir() for folder in folders) and not isinstance(value, dict):
        _check_choice(key, value, override, folders)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check(f"{key}.{name}", inner, override, folders)
    elif not key.startswith("scale."):
        _check_value(key, value)


def _check_choice(group: str, value: Any, override: Override, folders: Sequence[Path]) -> None:
    if group == "sweep" and not override.is_add():
        fix = f"python runner.py -m +sweep={value}"
        raise ConfigError(group, value, "is a preset, which a plus adds", fix)
    options = sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})
    for name in value if isinstance(value, list) else [value]:
        if name not in options:
            fix = RENAMED.get(f"{group}={name}") or nearest(str(name), options)
            if name is None and override.package:  # which Hydra has no answer to
                fix = f"{override.package}=null"
            raise ConfigError(group, name, f"unknown; choices: {', '.join(options)}", fix)


def _check_value(key: str, value: Any) -> None:
    group, _, name = key.rpartition(".")
    keys = keys_at(group)
    if keys is None:
        return _check_value(group, value)  # the group is what is unknown
    if name not in keys:
        problem = f"unknown key; keys of {group or 'the configuration'}: {', '.join(keys)}"
        raise ConfigError(key, value, problem, nearest(name, keys))
    kind, entries = keys[name], [value]
    if get_origin(kind) is list and isinstance(value, list):
        kind, entries = get_args(kind)[0], value
    for entry in entries:
        if kind in _NODES and entry is not None and "${" not in str(entry):
            try:
                _NODES[kind](entry)
            except (ValidationError, OverflowError) as error:  # 400 digits are no float
                raise ConfigError(key, value, str(error).partition("\n")[0]) from None
    return None


def _refuse_code(key: str, value: Any) -> None:
    """Refuse what would import and call something: `_target_`, and the factories of logging."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_code(f"{key}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_code(key, inner)
    elif re.search(r"(_target_|\(\)|_logging\..*\bclass)$", key) and not str(value).startswith(
        TRUSTED
    ):
        fix = "allow_targets=true, if you know that code; an override from a stranger is code"
        raise ConfigError(key, value, "is code outside phasebench and Hydra's own plugins", fix)
