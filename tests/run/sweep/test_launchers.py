"""Hydra's launchers, each with two small jobs; those that run jobs beside each other say so, or are
refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import TINY, TINY_GRAD
from sweeping import Sweep

# preset -> its plugin, and the options that the test needs
LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", []),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", []),
    "ray": ("hydra_plugins.hydra_ray_launcher", ["+hydra.launcher.ray.init.num_cpus=2"]),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LAUNCHERS)
def test_two_jobs_at_one_time(name: str, tmp_path: Path) -> None:
    plugin, words = LAUNCHERS[name]
    pytest.importorskip(plugin, reason=f"{plugin} is not installed here")
    sweep = Sweep(tmp_path)
    small = ["bench=grad", *TINY, *TINY_GRAD.split()]
    words = [*small, "model.ode.steps=1,2", "sweep_name=a", f"launcher={name}", *words]
    code, out = sweep.run(*words)
    assert code == 0, out
    assert [point["status"] for point in sweep.points("a").values()] == ["ok", "ok"]
    for results in sweep.results().values():
        assert results["point"]["side_by_side"] == 2


def test_measuring_time_side_by_side_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = Sweep(tmp_path)
    code, out = sweep.run(
        "model.ode.steps=1,2", "sweep_name=a", "launcher=joblib", "bench=[grad,speed]"
    )
    assert code == 2
    assert "bench.speed measures time, and 2 jobs at one time" in out
    assert sweep.results() == {}
    assert not (tmp_path / "outputs" / "sweeps" / "a" / "sweep.json").exists()
