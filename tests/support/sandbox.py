"""The sandbox provider as a real process, for the tests: a direct child on a unix socket."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.servers import READY_SECONDS

KEY = "sandbox-test-key-0123456789"


class SandboxServer:
    """`kill`, and `start` again on the same books."""

    def __init__(self, directory: Path, *, webhook_uds: Path | None = None) -> None:
        self.directory = directory
        self.uds = directory / "s.sock"
        self.webhook_uds = webhook_uds
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.uds.unlink(missing_ok=True)
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the process; another one may still keep the books."""
        command = [sys.executable, "-m", "live.tools.sandbox.server"]
        command += ["--uds", str(self.uds), "--data", str(self.directory)]
        if self.webhook_uds is not None:
            command += ["--webhook-url", "http://hooks/webhook"]
            command += ["--webhook-uds", str(self.webhook_uds)]
        environment = {**os.environ, "LIVE_SANDBOX_KEY": KEY}
        self.process = subprocess.Popen(command, env=environment)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.uds))
                    return
            except OSError:
                time.sleep(0.01)
        raise RuntimeError("the sandbox provider did not answer")

    def client(self) -> httpx.AsyncClient:
        """A client that may call everything."""
        return httpx.AsyncClient(
            base_url="http://sandbox",
            transport=httpx.AsyncHTTPTransport(uds=str(self.uds)),
            headers={"authorization": f"Bearer {KEY}"},
        )

    async def misbehave(self, **faults: object) -> None:
        """Ask for faults; without any, behave again."""
        async with self.client() as client:
            (await client.post("/v1/control", json=faults)).raise_for_status()

    async def bank(self, name: str, state: str) -> None:
        """The bank decides on the refunds of a charge: succeeded, or failed, also afterwards."""
        async with self.client() as client:
            path = f"/v1/charges/{name}/bank?state={state}"
            (await client.post(path)).raise_for_status()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(READY_SECONDS)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@contextmanager
def running_sandbox(directory: Path) -> Iterator[SandboxServer]:
    """A provider with its books in a new `directory`; it ends with the block, whatever happened."""
    directory.mkdir()
    server = SandboxServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.close()
