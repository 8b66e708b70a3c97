"""A measurement in another process: its result, and each way to end without one."""

from __future__ import annotations

import sys

import pytest

from phasebench.bench.child import ChildFailed, run_child

READ = "import json, os, signal, sys, time; asked = json.load(open(sys.argv[1])); out = open(sys.argv[2], 'w'); "


def command(code: str) -> list[str]:
    return [sys.executable, "-c", READ + code]


def test_request_and_result_pass_through_files() -> None:
    assert run_child(command("json.dump({'twice': 2 * asked['x']}, out)"), {"x": 21}, 60) == {
        "twice": 42
    }


def test_child_imports_this_phasebench() -> None:
    import phasebench

    code = "import phasebench; json.dump({'file': phasebench.__file__}, out)"
    assert run_child(command(code), {}, 60) == {"file": phasebench.__file__}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "killed by SIGKILL: the host's memory may have run out",
        ),
        ("os.kill(os.getpid(), signal.SIGTERM)", "killed by SIGTERM"),
        ("raise RuntimeError('no cuBLAS')", "exit code 1: RuntimeError: no cuBLAS"),
        ("sys.exit(3)", "exit code 3: nothing on stderr"),
        ("out.write('{')", "its result is not JSON: .*"),
        ("out.write('[]')", "its result is not a JSON object"),
        ("os.remove(sys.argv[2])", "ended without a result"),
    ],
)
def test_no_result_has_a_reason(code: str, reason: str) -> None:
    with pytest.raises(ChildFailed, match=f"^{reason}$"):
        run_child(command(code), {}, 60)


def test_timeout_stops_the_child() -> None:
    with pytest.raises(ChildFailed, match=r"took more than 0\.5 s and was stopped"):
        run_child(command("time.sleep(60)"), {}, 0.5)
