"""sweep.json, and what a sweep tells its user: the state of every point, read from its folder."""

from __future__ import annotations

import collections
import shlex
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phasebench.results.file import load
from phasebench.results.jsonfile import dumps, write_atomic
from phasebench.run.sweep.point import Point
from phasebench.run.sweep.state import State, state

FILE = "sweep.json"


class Ledger:
    """The points of a sweep and their states; `write` makes sweep.json of them.

    `gpus`: this machine's; a result from another model of GPU is not taken for one of this sweep.
    """

    def __init__(self, folder: Path, points: Sequence[Point], gpus: Set[str] = frozenset()) -> None:
        self.folder, self.points, self.gpus = folder, list(points), gpus
        self.states: dict[str, State] = {}
        self.texts: dict[
            str, tuple[str, str]
        ] = {}  # of a finished point: the text asked for, and the one used
        for point in points:
            self.look(point)

    def look(self, point: Point) -> None:
        """Read the point's folder again."""
        folder = self.folder / point.name
        self.states[point.name] = found = state(folder, point, self.gpus)
        self.texts.pop(point.name, None)
        if found.status == "ok" and isinstance(
            data := load(folder / "results.json")["data"], Mapping
        ):
            self.texts[point.name] = dumps(point.tree["data"]), str(data.get("fingerprint"))

    def state(self, point: Point) -> State:
        """Return the state of a point.

        It is `not comparable` if it used another text than most points that asked for the same.

        With data=auto the text depends on what could be had at the time.
        """
        found = self.states[point.name]
        if point.name not in self.texts:
            return found
        asked, used = self.texts[point.name]
        uses = collections.Counter(text for wanted, text in self.texts.values() if wanted == asked)
        if used == uses.most_common(1)[0][0]:
            return found
        return replace(
            found, status="not comparable", reason="used another text than the other points"
        )

    @property
    def exit_code(self) -> int:
        """Return the worst of the points': 0 passed, 1 a gate failed, 2 not measured."""
        codes = [self.state(point).exit_code for point in self.points]
        return max((2 if code is None else code for code in codes), default=0)

    def others(self) -> list[str]:
        """List folders of points that are not of this grid, from an earlier sweep into this one."""
        names = {point.name for point in self.points}
        found = (file.parent.name for file in self.folder.glob("*/results.json"))
        return sorted(name for name in found if name not in names)

    def write(self) -> Path:
        """Write sweep.json, whole or not at all. Raises OSError."""
        now = datetime.now(UTC).isoformat()
        content = {
            "points": [self._entry(point) for point in self.points],
            "others": self.others(),
            "written": now,
        }
        write_atomic(self.folder / FILE, dumps(content) + "\n")
        return self.folder / FILE

    def _entry(self, point: Point) -> dict[str, Any]:
        found = self.state(point)
        return {
            "folder": point.name,
            "overrides": list(point.overrides),
            "swept": list(point.swept),
            "status": found.status,
            "reason": found.reason,
            "exit_code": found.exit_code,
        }

    def lines(self) -> Iterator[str]:
        """Yield a line a point, for people, and one that counts them."""
        for point in self.points:
            found = self.state(point)
            verdict = {0: "passed", 1: "a gate failed", 2: "not measured", None: ""}[
                found.exit_code
            ]
            text = (found.reason or verdict).partition("\n")[0]
            yield f"  {title(point)}: {found.status}{f', {text}' if text else ''}"
        counts = collections.Counter(self.state(point).status for point in self.points)
        yield f"{len(self.points)} points: " + ", ".join(
            f"{n} {status}" for status, n in counts.items()
        )
        if others := self.others():
            places = f"{len(others)} earlier points in {self.folder}"
            yield f"not of this grid, left as they are: {places}"


def title(point: Point) -> str:
    """Write the swept values as one would type them."""
    return shlex.join(point.swept) or "the only point"
