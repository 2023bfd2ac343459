"""Connections to the engines end by themselves when nobody is at the other end any more.

Method: the options that the kernel has for each kind of connection, on both sides where the other
side is an engine's; and a link that swallows everything, through which calls must not hang.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from live.base import keepalive as links
from live.base.errors import Busy
from live.base.redis_url import NodeUrl
from live.domain.ids import ShowId
from live.ledger.db.pool import ACQUIRE_TIMEOUT_SECONDS, DATABASE_ERRORS, Pool, make_pool
from live.redis.clients import Clients
from live.redis.connection import Address
from live.redis.nodes import Nodes
from live.stock.engine import StockEngine
from tests.support.servers import Postgres, Valkey

WANTED = {
    "keepalive": 1,
    "TCP_KEEPIDLE": links.IDLE_SECONDS,
    "TCP_KEEPINTVL": links.ASK_EVERY_SECONDS,
    "TCP_KEEPCNT": links.UNANSWERED_MAX,
    "TCP_USER_TIMEOUT": links.UNACKNOWLEDGED_MS,
}
pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has all")


class Link:
    """A proxy on loopback; `cut` makes it swallow what comes, and say nothing."""

    def __init__(self) -> None:
        self.port = 0
        self._whole = asyncio.Event()
        self._whole.set()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    async def project(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # the other side went away
        finally:
            writer.close()


@asynccontextmanager
async def link_to(path: str) -> AsyncIterator[Link]:
    """A TCP port in front of a server that listens on a Unix socket."""
    link, tasks = Link(), set[asyncio.Task[None]]()

    async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_unix_connection(path)
        for work in (link.project(reader, there), link.project(back, writer)):
            tasks.add(asyncio.create_task(work))

    server = await asyncio.start_server(come, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def redis_link(valkey: Valkey) -> AsyncIterator[Link]:
    async with link_to(str(valkey.socket)) as link:
        yield link


@pytest.fixture
async def postgres_link(postgres: Postgres) -> AsyncIterator[Link]:
    async with link_to(f"{postgres.directory}/.s.PGSQL.5432") as link:
        yield link


def options_of(transport: asyncio.BaseTransport) -> dict[str, int]:
    found = transport.get_extra_info("socket")
    names = {name: getattr(socket, name) for name in WANTED if name != "keepalive"}
    return {"keepalive": found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)} | {
        name: found.getsockopt(socket.IPPROTO_TCP, option) for name, option in names.items()
    }


async def test_stock_connection_watches_its_link(redis_link: Link) -> None:
    """Batches, calls and the reading of the outbox have connections of this kind."""
    url = NodeUrl(f"redis://127.0.0.1:{redis_link.port}")
    wire = await Address(url).connect(lambda wire: None)
    assert wire._transport is not None

    assert options_of(wire._transport) == WANTED
    wire.abort()


async def test_redis_clients_watch_their_links(redis_link: Link) -> None:
    """The show log, chat, readiness and pub/sub have clients of this kind."""
    url = f"redis://127.0.0.1:{redis_link.port}"
    clients = Clients(url, seconds=1, connect_seconds=1, nodes=Nodes(url))
    await clients.open()
    redis: Redis = clients.at(NodeUrl(url))
    connection = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]

    assert options_of(connection._writer.transport) == WANTED
    await redis.connection_pool.release(connection)
    await clients.close()


async def test_ledger_connection_watches_its_link_on_both_sides(postgres_link: Link) -> None:
    """Also after it was given back and taken again."""
    asked = (
        "idle_in_transaction_session_timeout",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
        "tcp_user_timeout",
    )
    async with make_pool(f"postgresql://live@127.0.0.1:{postgres_link.port}/postgres") as pool:
        for _ in range(2):
            async with pool.acquire() as connection:
                transport = connection._transport  # type: ignore[attr-defined]  # of what it stands for
                assert options_of(transport) == WANTED
                session = [await connection.fetchval(f"SHOW {name}") for name in asked]
                # The server sees a Unix socket here, of which it tells 0 for what is TCP's.
                assert session == ["5s", "0", "0", "0", "0"]


async def test_stock_calls_through_a_cut_link_end_and_go_on_after_it(redis_link: Link) -> None:
    """Within their own deadline, not TCP's; on a fresh connection afterwards."""
    engine = StockEngine(f"redis://127.0.0.1:{redis_link.port}")
    await engine.open()
    redis_link.cut()
    with pytest.raises(Busy, match="does not answer"):
        await engine.stop_show(ShowId("cut-show"))
    redis_link.mend()

    await engine.stop_show(ShowId("cut-show"))
    await engine.close()


async def test_ledger_calls_through_a_cut_link_end_and_go_on_after_it(postgres_link: Link) -> None:
    """No statement and no wait for a connection lasts for ever."""
    url = f"postgresql://live@127.0.0.1:{postgres_link.port}/postgres"
    async with make_pool(url, size=2, command_timeout_seconds=1) as pool:
        assert await pool.fetchval("SELECT 1") == 1
        postgres_link.cut()
        async with asyncio.timeout(4 * ACQUIRE_TIMEOUT_SECONDS):
            for _ in range(3):
                with pytest.raises(DATABASE_ERRORS):
                    await pool.fetchval("SELECT 1")
        postgres_link.mend()
        async with asyncio.timeout(4 * ACQUIRE_TIMEOUT_SECONDS):
            while await one(pool) != 1:
                pass


async def one(pool: Pool) -> int:
    try:
        return int(await pool.fetchval("SELECT 1"))
    except DATABASE_ERRORS:
        return 0
