"""Audience processes end with whoever started them, and a load test refuses foreign targets."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from live.run.process import PARENT_ENV

ROOT = Path(__file__).parents[2]
NOBODY = "ws://127.0.0.1:9/connection/websocket"  # nothing listens on the discard port
AUDIENCE = [
    *(sys.executable, "-m", "live.tools.demo.audience", "--url", NOBODY, "--offer", "flash-1"),
    *("--tokens-from", "stdin"),
]
ENDS_WITHIN = 10.0

PARENT = f"""
import os, subprocess, sys, time
child = subprocess.Popen(
    {[*AUDIENCE, "--controlled"]!r}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    env=os.environ | {{{PARENT_ENV!r}: str(os.getpid())}}, start_new_session=True,
)
child.stdin.write(b"anna token\\n\\n"); child.stdin.flush()
keep = os.dup(child.stdin.fileno())
print(child.pid, flush=True)
time.sleep(60)
"""


def test_audience_dies_with_a_killed_parent() -> None:
    """After kill -9 of the parent no audience process is left."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        _wait_for_viewers(child)

        parent.send_signal(signal.SIGKILL)

        gone, alive = psutil.wait_procs([child], timeout=ENDS_WITHIN)
        assert not alive
        assert gone


def test_audience_leaves_when_its_input_ends() -> None:
    """The end of standard input is the end of a controlled audience, on every system."""
    with subprocess.Popen(
        [*AUDIENCE, "--controlled"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"anna token\n\n")
        child.stdin.flush()
        assert child.stdout.readline().startswith(b'{"progress"')

        child.stdin.close()

        assert child.wait(ENDS_WITHIN) == 1


def test_audience_that_finds_nobody_still_gives_its_summary() -> None:
    """No server, no hang: told to stop, it reports no connection and ends well."""
    child = subprocess.run(
        [*AUDIENCE, "--controlled"],
        input=b"anna token\n\nstop\n",
        capture_output=True,
        timeout=ENDS_WITHIN,
        check=True,
    )

    last = child.stdout.splitlines()[-1]
    assert last.startswith(b'{"summary"')
    assert b'"viewers":1' in last


def test_load_test_refuses_a_foreign_host() -> None:
    """Locust ends with a clear word before the first user, exit code 2."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"),
            *("--host", "ws://10.1.2.3:8000", "-u", "1", "-t", "2s"),
        ],
        cwd=ROOT,
        env=os.environ | {"LIVE_SECRET": "s" * 32},
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert run.returncode == 2
    assert b"10.1.2.3 is not this machine" in run.stderr


def _wait_for_viewers(child: psutil.Process) -> None:
    """Return once the process has passed its imports, so the kernel knows whom it follows."""
    deadline = time.monotonic() + ENDS_WITHIN
    while time.monotonic() < deadline:
        if any("websockets" in part.path for part in child.memory_maps()):
            return
        time.sleep(0.02)
    raise AssertionError("the audience process did not start")
