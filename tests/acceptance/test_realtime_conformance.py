"""The official Python SDK's own test suite against our server, in JSON and in Protobuf.

It ships in the SDK's source distribution, insists on port 8000 and on its authors' own fixtures,
so it is fetched at its pinned version and run in a process of its own. Skipped, with the reason,
where it cannot be had or the port is somebody else's.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from live.domain.ids import ShowId
from tests.support.realtime_app import Spawned

PORT = 8000
LOCK = Path(tempfile.gettempdir()) / "live-port-8000.lock"
FETCH_SECONDS = 60
SUITE_SECONDS = 90
TESTS_MIN = 60  # fewer mean that the suite was not found as a whole

DOWNLOADERS = (
    [sys.executable, "-m", "pip"],
    ["pip"],
    ["uvx", "pip"],
)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("suite")
    pinned = f"centrifuge-python=={version('centrifuge-python')}"
    for downloader in DOWNLOADERS:
        if shutil.which(downloader[0]) is None:
            continue
        command = [*downloader, "download", "-q", "--no-deps"]
        # Of this package alone: what builds it need not be built from its source, too.
        command += ["--no-binary", "centrifuge-python", "-d", str(folder), pinned]
        try:
            subprocess.run(command, capture_output=True, timeout=FETCH_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            continue
        for archive in folder.glob("*.tar.gz"):
            with tarfile.open(archive) as packed:
                # Safe extraction came with Python 3.11.4; what we unpack is pinned by its version.
                if hasattr(tarfile, "data_filter"):
                    packed.extractall(folder, filter="data")
                else:
                    packed.extractall(folder)
            return next(folder.glob("*/tests")).parent
    pytest.skip(f"the source distribution of {pinned} cannot be fetched here")


@pytest.fixture
def server(redis_url: str, show: ShowId) -> Iterator[Spawned]:
    """Our server on the suite's port, one run at a time on this machine."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", PORT))
            except OSError:
                pytest.skip(f"port {PORT}, which the suite insists on, is taken")
        spawned = Spawned(redis_url, show, "--port", str(PORT))
        yield spawned
        spawned.close()


@pytest.mark.timeout(SUITE_SECONDS + FETCH_SECONDS)
def test_official_suite_passes(suite: Path, server: Spawned) -> None:
    """All of its tests, both codecs, no exception."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "unittest", "tests.test_client"],
        cwd=suite,
        env={**os.environ, "PYTHONPATH": str(suite)},
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS,
        check=False,
    )
    counted = re.search(r"^Ran (\d+) tests", ran.stderr, re.MULTILINE)
    assert ran.returncode == 0, ran.stderr[-4_000:]
    assert counted is not None and int(counted[1]) >= TESTS_MIN
