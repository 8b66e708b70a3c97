"""What is recorded of a point whose process was killed, ran out of time or died.

The kind of its end becomes the point's status (`phasebench.run.sweep.state.ENDINGS`). The sweep
goes on with the next point, and the next start runs this one again (``retry_failed``).
"""

from __future__ import annotations

from pathlib import Path

from phasebench.config import to_config
from phasebench.results.file import ResultsFile, load
from phasebench.results.gate import exit_code, failed, top_values
from phasebench.results.jsonfile import dumps, write_atomic
from phasebench.run.sweep.point import Point
from phasebench.run.sweep.state import UNFINISHED, state


def abandon(folder: Path, point: Point, kind: str, message: str) -> None:
    """End the results.json of a job that could not: killed, out of time, dead at its first line.

    `kind` is that of the error (see `phasebench.run.sweep.state.ENDINGS`). What was measured
    stays, and so does a results.json of this job that has ended. Raises OSError or `ConfigError`
    where nothing can be written.
    """
    path, before = folder / "results.json", state(folder, point)
    if before.status != "missing":
        return
    if before.reason != UNFINISHED:  # there is no results.json of this job
        config = to_config(point.tree)
        ResultsFile(
            path,
            config=config.recorded(),
            device=config.device,
            overrides=point.overrides,
            environment={"null_reasons": {"environment": "the job ended before it was known"}},
            point=point.facts(),
        )
    results = load(path)
    benches = results["benches"]
    for name, bench in benches.items():
        if bench["status"] in ("pending", "running"):
            benches[name] = failed(kind, message, None, None)
    results["null_reasons"] |= top_values(benches)[1]
    results["null_reasons"].pop("all_pass", None)
    whole = all(bench["status"] == "ok" for bench in benches.values())
    results |= {"status": "ok" if whole else "failed", "all_pass": exit_code(results) == 0}
    write_atomic(path, dumps(results) + "\n")
