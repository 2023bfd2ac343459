"""Hosts' commands while an engine is dead: what was committed stands, what was not says so."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from live.base.errors import Busy
from live.domain.caller import Caller, Role
from live.domain.channels import ChannelKind
from live.domain.ids import BuyerId, ShowId
from live.ledger.db.migrate import migrate
from live.ledger.db.pool import Pool, open_pool
from live.ledger.hosting.shows import ShowRows
from tests.support.api_kit import open_stage
from tests.support.servers import Postgres, Valkey
from tests.support.shows_kit import set_stage

PATIENCE_SECONDS = 5.0  # a host with a finger on the key


@pytest.fixture
def own_valkey(scratch: Path) -> Iterator[Valkey]:
    directory = scratch / f"v{uuid4().hex[:8]}"
    directory.mkdir()
    server = Valkey(directory)
    server.start()
    yield server
    server.close()


@pytest.fixture
def own_postgres(scratch: Path, postgres: Postgres) -> Iterator[Postgres]:
    """A cluster that the test may kill; `postgres` has copied the binaries already."""
    directory = scratch / f"p{uuid4().hex[:8]}"
    directory.mkdir()
    server = Postgres.__new__(Postgres)
    server.directory, server.data = directory, directory / "data"
    server.bin, server.user, server.process = postgres.bin, postgres.user, None
    server.init()
    server.start("fsync=off")
    yield server
    server.close()


async def test_dead_redis_does_not_undo_a_command(
    pool: Pool, own_valkey: Valkey, show: ShowId
) -> None:
    """Answered in time with a note; Postgres has it, and reading still works."""
    await set_stage(pool, show)
    async with open_stage(pool, own_valkey.url) as stage:
        await stage.projector.project(await ShowRows(pool).read_state(show), fresh=True)
        own_valkey.kill()

        began = time.monotonic()
        started = await stage.call("POST", f"/v1/shows/{show}/start")
        took = time.monotonic() - began
        read = await stage.call("GET", f"/v1/shows/{show}")

    assert (started.status_code, started.json()["status"]) == (200, "live")
    assert "live-note" in started.headers and took < PATIENCE_SECONDS
    assert (read.status_code, read.json()["status"]) == (200, "live")


async def test_dead_redis_does_not_undo_moderation(
    pool: Pool, own_valkey: Valkey, show: ShowId
) -> None:
    """The mute is in Postgres and its log; chat itself waits for Redis."""
    await set_stage(pool, show)
    async with open_stage(pool, own_valkey.url) as stage:
        own_valkey.kill()
        body = {"action": "mute", "sub": "ada"}
        answer = await stage.call("POST", f"/v1/shows/{show}/moderation", body)

    assert answer.status_code == 202
    assert await pool.fetchval("SELECT kind FROM bans WHERE show = $1", show) == "mute"


async def test_chat_without_redis_asks_for_a_repeat(
    pool: Pool, own_valkey: Valkey, show: ShowId
) -> None:
    """A passing error for the one who writes, and nobody is kept out of the show for it."""
    await set_stage(pool, show)
    caller = Caller(
        sub="ada",
        buyer=BuyerId(b"a" * 16),
        role=Role.VIEWER,
        shows=frozenset({"*"}),
        expires_at=None,
    )
    async with open_stage(pool, own_valkey.url) as stage:
        await stage.projector.project(await ShowRows(pool).read_state(show), fresh=True)
        own_valkey.kill()

        with pytest.raises(Busy):
            await stage.chat.accept(caller, show, ChannelKind.CHAT, b'{"text": "hi"}')
        await stage.chat.refuse_banned(caller, show)


async def test_dead_postgres_is_a_passing_failure(
    own_postgres: Postgres, redis_url: str, show: ShowId
) -> None:
    """503 with advice and no trace of our code; the same call works once Postgres is back."""
    await migrate(own_postgres.url())
    pool = await open_pool(own_postgres.url())
    try:
        await set_stage(pool, show)
        async with open_stage(pool, redis_url) as stage:
            await stage.projector.project(await ShowRows(pool).read_state(show), fresh=True)
            own_postgres.close()
            failed = await stage.call("POST", f"/v1/shows/{show}/start")
            own_postgres.start("fsync=off")
            done = await stage.call("POST", f"/v1/shows/{show}/start")
    finally:
        await pool.close()

    assert (failed.status_code, failed.json()["temporary"]) == (503, True)
    assert failed.headers["retry-after"] == "1" and "Error" not in failed.text
    assert done.status_code == 200
