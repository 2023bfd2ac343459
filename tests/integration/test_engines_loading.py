"""Engines that are still reading their data back are waited for, and how far they are is said.

Method: real servers, made slow by their own setting for tests (a pause after each key); in front of
Postgres a stand-in that refuses as a starting server does.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from structlog.testing import capture_logs

from live.base.errors import EngineError, EngineLoading
from live.base.settings import Settings
from live.run.checks.waiting import once_loaded
from live.run.doctor import examine
from live.tools.engines.embedded import Engines
from tests.support.servers import Postgres, Valkey, valkey_binary

KEYS = 8_000
SLOW = ("--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024")
AOF = ("--appendonly", "yes", "--appendfsync", "no")


def fill(url: str) -> None:
    with redis.Redis.from_url(url) as client, client.pipeline(transaction=False) as pipe:
        for number in range(KEYS):
            pipe.set(f"key:{number}", "x" * 50)
        pipe.execute()


def count(url: str) -> object:
    with redis.Redis.from_url(url, retry=None) as client:
        return client.dbsize()


def unready(_server: Valkey) -> None:
    """It is waited for by what is tested."""


@pytest.fixture
def loading(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valkey]:
    """A server that takes seconds to read its data back."""
    place = scratch / uuid4().hex[:8]
    place.mkdir()
    server = Valkey(place, *AOF)
    server.start()
    fill(server.url)
    server.kill()
    slow = Valkey(place, *AOF, *SLOW)
    monkeypatch.setattr(Valkey, "wait_ready", unready)
    slow.start()
    yield slow
    slow.close()


def configured(redis_url: str, database_url: str) -> Settings:
    return Settings(redis_url=redis_url, database_url=database_url, secret="s" * 32)


def test_configured_redis_is_waited_for(loading: Valkey, postgres: Postgres) -> None:
    """It is used when all is there, and its per cents were said in the meantime."""
    while not loading.socket.exists():
        pass
    with capture_logs() as said:
        engines = Engines.start(configured(loading.url, postgres.url()))
    found = count(loading.url)
    engines.stop()

    assert found == KEYS
    progress = [line["progress"] for line in said if line["event"] == "engine_loading"]
    assert progress and progress[0].endswith(" %")


def test_doctor_waits_for_nobody(loading: Valkey) -> None:
    """It says that the server is loading, and how to tell that from a fault."""
    while not loading.socket.exists():
        pass
    settings = Settings(redis_url=loading.url, database_url=None, secret=None)
    found = {finding.name: finding for finding in examine(settings)}

    assert not found["redis"].ok and "reading its data back" in found["redis"].detail


def test_embedded_valkey_is_waited_for(scratch: Path) -> None:
    """A service with much data starts again, as often as it is asked to."""
    data = scratch / uuid4().hex[:8]
    slow = scratch / f"{uuid4().hex[:8]}-valkey-server"
    slow.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec "{valkey_binary()}" --version\n'
        f'exec "{valkey_binary()}" "$@" {" ".join(SLOW)}\n'
    )
    slow.chmod(0o755)
    settings = Settings(
        redis_url=None, database_url=None, secret=None, data_dir=data, valkey_binary=slow
    )
    engines = Engines.start(settings)
    fill(engines.redis_url)
    engines.stop()

    for _ in range(2):
        engines = Engines.start(settings)
        found = count(engines.redis_url)
        engines.stop()
        assert found == KEYS


class StartingUp:
    """Refuses the first `times` clients as a Postgres that recovers; then a real one answers."""

    def __init__(self, target: Path, times: int) -> None:
        self.asked = 0
        self.port = 0
        self._target, self._times = target, times

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        first = await reader.read(8192)
        if self.asked <= self._times:
            fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
            writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
            writer.close()
            return
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        up_writer.write(first)
        await asyncio.gather(_copy(reader, up_writer), _copy(up_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
    except OSError:
        pass  # the client hung up
    finally:
        writer.close()


@contextmanager
def listening(stand_in: StartingUp) -> Iterator[None]:
    """On a thread of its own: what is tested blocks this one."""
    ready, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        server = await asyncio.start_server(stand_in.accept, "127.0.0.1", 0)
        stand_in.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def test_postgres_that_starts_up_is_waited_for(valkey: Valkey, postgres: Postgres) -> None:
    """Recovery after a crash is no fault; the service goes on when it is over."""
    stand_in = StartingUp(postgres.directory / ".s.PGSQL.5432", times=3)
    with listening(stand_in):
        url = f"postgresql://live@127.0.0.1:{stand_in.port}/postgres?sslmode=disable"
        Engines.start(configured(valkey.url, url)).stop()

    assert stand_in.asked > 3


def test_engine_that_makes_no_progress_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting has a bound, and it begins anew with each step forward."""
    monkeypatch.setattr("live.run.checks.waiting.STALLED_SECONDS", 0.3)
    told = iter(["1 %"] * 2 + ["2 %"] * 2 + ["3 %"] * 1_000)

    def ask() -> None:
        raise EngineLoading("Redis is reading its data back", progress=next(told))

    with pytest.raises(EngineError, match="3 %") as caught:
        once_loaded(ask)

    assert not isinstance(caught.value, EngineLoading)
