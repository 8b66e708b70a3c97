"""A point of a sweep: configuration, folder, and hashes of what its result depends on."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from phasebench.config import Config, ConfigError, to_config
from phasebench.config.files import code_file, code_hash, content_hash, user_path
from phasebench.results.file import config_hash
from phasebench.results.jsonfile import Json, dumps, write_atomic

FILE = "point.json"
# the rooms that no measured number depends on: they start runs, show them and pass them on
_NOT_MEASURING = ("report/", "run/")
_FILES = ("path", "checkpoint")  # last words of the keys that name files to read
_SHARING = {"ppl", "energy"}  # benches that leave nothing behind
_NAME = 80  # characters of a folder's name before the hash


@dataclass(frozen=True)
class Point:
    """One job of a sweep, as the command composed it.

    `tree` is the resolved configuration as plain values, `overrides` are those of the whole command
    for this point, and `swept` those among them that differ between the points.
    """

    tree: Json
    overrides: tuple[str, ...]
    swept: tuple[str, ...] = ()
    side_by_side: int = 1  # jobs of the sweep that may run at one time on this machine
    rerun: bool = False  # also if it is finished
    label: str = ""  # for people: "2 of 12"
    folder: str = ""  # name of the folder that an earlier grid gave this configuration

    @cached_property
    def config(self) -> Config | ConfigError:
        """Return the checked configuration, or why there is none."""
        try:
            return to_config(self.tree)
        except ConfigError as error:
            return error

    @property
    def name(self) -> str:
        """Return the folder's name: the swept values and 8 digits of the configuration's hash.

        >>> Point({"bench": {}}, (), ("model.ode.steps=5", "bench.energy.dt=0.1")).name[:-8]
        'steps-5_dt-0.1_'
        """
        if self.folder:
            return self.folder
        parts = [
            f"{key.rpartition('.')[2]}-{value}"
            for key, _, value in (o.partition("=") for o in self.swept)
        ]
        words = re.sub(r"[^\w.+-]+", "-", "_".join(parts))[:_NAME]
        return f"{words}_{self.digest[:8]}".lstrip("_")

    @property
    def may_share(self) -> bool:
        """Tell whether other points may run in its process: it measures no memory or time."""
        config = self.config
        if isinstance(config, ConfigError) or self.side_by_side > 1:
            return False
        return set(config.bench) <= _SHARING and not config.track

    @property
    def identity(self) -> dict[str, str | None]:
        """Hash what the result depends on: results of one identity are interchangeable."""
        return {
            "configuration": self.digest,
            "code": code_hash(but=_NOT_MEASURING),
            "torch": importlib.metadata.version("torch"),
            "python": platform.python_version(),
            **{key: content_hash(user_path(path, key)) for key, path in _files(self.tree, "")},
        }

    @cached_property
    def digest(self) -> str:
        """Hash the configuration, without what changes no result."""
        tree = self.config.recorded() if isinstance(self.config, Config) else self.tree
        # where files go changes nothing; sizes of a scale count where a key has taken them
        unused = ("output", "cache_dir", "scale")
        return config_hash({key: value for key, value in tree.items() if key not in unused})

    def facts(self) -> Json:
        """Return what results.json says of the point."""
        return {"name": self.name, "identity": self.identity, "side_by_side": self.side_by_side}

    def save(self, folder: Path) -> None:
        """Leave everything that the point's process needs in its folder. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / FILE, dumps(asdict(self)) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Point:
        """Read what `save` left in a folder. Raises OSError, or ValueError for a broken file."""
        found: Json = json.loads((folder / FILE).read_text(encoding="utf-8"))
        found |= {"overrides": tuple(found["overrides"]), "swept": tuple(found["swept"])}
        return cls(**found)


def _files(tree: Json, at: str) -> Iterator[tuple[str, str]]:
    """The dotted keys that name files to read, and what they name."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _files(value, f"{at}{key}.")
        elif key in _FILES and isinstance(value, str):
            yield f"{at}{key}", value
        elif key == "_target_":
            yield f"{at}{key}", code_file(value)


def distinct(points: Sequence[Point], folder: Path) -> list[Point]:
    """Keep one point a configuration, under the name that its folder has already, if any."""
    first: dict[str, Point] = {}
    for point in points:
        first.setdefault(point.digest, point)
    taken = {file.parent.name[-8:]: file.parent.name for file in folder.glob(f"*/{FILE}")}
    return [replace(point, folder=taken.get(key[:8], "")) for key, point in first.items()]
