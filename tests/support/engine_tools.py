"""What tests of the engines share: a command that may be killed, and questions to its servers."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from live.run.sockets import User
from tests.support.answers import Json

HOST = Path(__file__).with_name("engine_host.py")
GONE_SECONDS = 10

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root changes users")


class Host:
    """A command with engines, seen from outside."""

    def __init__(
        self,
        data_dir: Path,
        *,
        command: Sequence[str] = (sys.executable, str(HOST)),
        user: User | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [*command, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            cwd="/" if user else None,
            env=env,
        )
        self.hello = self.read()

    def read(self) -> Json:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def order(self, word: str) -> Json:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def tidy(self) -> None:
        """Remove the directories of sockets that a killed command leaves for its next start."""
        for url in (str(self.hello["redis_url"]), str(self.hello["database_url"])):
            socket = url.partition("&")[0].removeprefix("unix://").partition("?host=")
            directory = Path(socket[2]) if socket[2] else Path(socket[0]).parent
            shutil.rmtree(directory, ignore_errors=True)


def server_of(data_dir: Path, engine: str) -> psutil.Process:
    return psutil.Process(int((data_dir / engine / "server.lock").read_text()))


def query(url: str, text: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(text)
        finally:
            await connection.close()

    return asyncio.run(ask())


def remember(redis_url: str, database_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("kept", "yes")
    query(database_url, "CREATE TABLE kept AS SELECT 'yes'::text AS answer")


def recall(redis_url: str, database_url: str) -> tuple[object, object]:
    with redis.Redis.from_url(redis_url) as client:
        return client.get("kept"), query(database_url, "SELECT answer FROM kept")


def left_of(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Wait until processes have ended; returns those that have not in GONE_SECONDS.

    One that has ended but is not collected counts as ended: some containers' first process
    collects nobody.
    """
    deadline = time.monotonic() + GONE_SECONDS
    left = list(processes)
    while left and time.monotonic() < deadline:
        left = [process for process in left if _lives(process)]
        time.sleep(0.01)
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
