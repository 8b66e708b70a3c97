"""sweep.json, and what a sweep tells its user: the state of every point, read from its folder."""

from __future__ import annotations

import collections
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from phasebench.results.jsonfile import dumps, write_atomic
from phasebench.run.gpus import gpu_names
from phasebench.run.sweep.point import Point
from phasebench.run.sweep.state import State, state

FILE = "sweep.json"


class Ledger:
    """The points of a sweep and their states; `write` makes sweep.json of them.

    A point is `not comparable` if it used another text than most points that asked for the same:
    with data=auto the text depends on what could be had at the time.

    Attributes:
        gpus: this machine's; a result from another model of GPU is not taken for one of this sweep.
        states: of each point, by its name.
    """

    def __init__(self, folder: Path, points: Sequence[Point]) -> None:
        self.folder, self.points, self.gpus = folder, list(points), gpu_names()
        self._read: dict[str, State] = {}
        self.states: dict[str, State] = {}
        self.look(points)

    def look(self, points: Sequence[Point]) -> None:
        """Read the folders of these points again."""
        for point in points:
            self._read[point.name] = state(self.folder / point.name, point, self.gpus)
        uses = collections.Counter(read.text for read in self._read.values() if read.text)
        # text asked for -> the text that most points used; the last entry of a key wins
        usual = dict(reversed([text for text, _ in uses.most_common()]))
        for name, read in self._read.items():
            if read.text and read.text[1] != usual[read.text[0]]:
                reason = "used another text than the other points"
                read = replace(read, status="not comparable", reason=reason)
            self.states[name] = read

    @property
    def exit_code(self) -> int:
        """Return the worst of the points': 0 passed, 1 a gate failed, 2 not measured."""
        codes = (found.exit_code for found in self.states.values())
        return max((2 if code is None else code for code in codes), default=0)

    def others(self) -> list[str]:
        """List folders of points that are not of this grid, from an earlier sweep into this one."""
        found = {file.parent.name for file in self.folder.glob("*/results.json")}
        return sorted(found - self.states.keys())

    def write(self) -> Path:
        """Write sweep.json, whole or not at all. Raises OSError."""
        states = [(point, self.states[point.name]) for point in self.points]
        points = [
            {
                "folder": point.name,
                "overrides": list(point.overrides),
                "swept": list(point.swept),
                "status": found.status,
                "reason": found.reason,
                "exit_code": found.exit_code,
            }
            for point, found in states
        ]
        written = datetime.now(UTC).isoformat()
        content = {"points": points, "others": self.others(), "written": written}
        write_atomic(self.folder / FILE, dumps(content) + "\n")
        return self.folder / FILE

    def lines(self) -> Iterator[str]:
        """Yield a line a point, for people, and one that counts them."""
        verdicts = {0: "passed", 1: "a gate failed", 2: "not measured", None: ""}
        for point in self.points:
            found = self.states[point.name]
            text = (found.reason or verdicts[found.exit_code]).partition("\n")[0]
            yield f"  {title(point)}: {found.status}{f', {text}' if text else ''}"
        counts = collections.Counter(self.states[point.name].status for point in self.points)
        counted = ", ".join(f"{n} {status}" for status, n in counts.items())
        yield f"{len(self.points)} points: {counted}"
        if others := self.others():
            places = f"{len(others)} earlier points in {self.folder}"
            yield f"not of this grid, left as they are: {places}"


def title(point: Point) -> str:
    """Write the swept values as one would type them."""
    return shlex.join(point.swept) or "the only point"
