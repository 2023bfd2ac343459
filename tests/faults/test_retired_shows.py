"""Shows that are over leave Redis, and are still answered for.

Method: a whole settler in this process; every key of the show that Redis has is looked at.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast
from uuid import uuid4

import asyncpg
import pytest

from live.base.errors import Busy, NotFound
from live.domain.channels import Channel, ChannelKind
from live.domain.events import AnnouncementEvent
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.outcomes import Outcome
from live.keeping.keeper import RETIRED_SECONDS
from live.ledger.db.pool import Pool
from live.ledger.hosting.shows import ShowRows
from live.ledger.settle.known_shows import KnownShows
from live.stock.outbox import Outbox
from tests.faults.test_lost_keys import settling, until
from tests.integration.test_keeper import on_sale
from tests.support.api_kit import Stage, open_stage
from tests.support.shows_kit import HOST
from tests.support.stock_kit import one

ANN, KEY = BuyerId(b"a" * 16), HoldKey(b"k" * 16)


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


async def ends(stage: Stage, show: ShowId) -> dict[str, int]:
    """Every key of a show that Redis has, with its seconds to live; -1: for ever."""
    return {
        name.decode(): await stage.redis.ttl(name)
        async for name in stage.redis.scan_iter(f"live:{{{show}}}:*")
    }


async def is_retired(stage: Stage, show: ShowId) -> bool:
    query = "SELECT retired_at IS NOT NULL FROM shows WHERE id = $1"
    return bool(await stage.pool.fetchval(query, show))


async def sold_and_over(stage: Stage, show: ShowId) -> None:
    """A hold that ended, a chat line, a reaction, then the end of the show."""
    await on_sale(stage, show)
    await stage.stock.hold(show, ANN, KEY, one())
    await stage.stock.release(show, ANN, KEY)
    for kind in (ChannelKind.CHAT, ChannelKind.DESK):
        event = AnnouncementEvent(at=1, text="hello", until=None)
        await stage.log.publish(Channel(kind, show), event)
    await stage.log.add_reaction(show, "heart")
    await stage.chat.load_bans(show)
    await stage.projector.project(await ShowRows(stage.pool).end(show, HOST))


async def test_show_that_is_over_leaves_redis(
    stage: Stage, database_url: str, redis_url: str, show: ShowId
) -> None:
    """All of its keys get an end, and nothing that comes late stays behind."""
    await sold_and_over(stage, show)
    async with settling(database_url, redis_url):
        await until(lambda: is_retired(stage, show), seconds=30)
        late = AnnouncementEvent(at=1, text="your money came back", until=None)
        await stage.log.publish(Channel(ChannelKind.PERSONAL, show, ANN), late)
        await stage.log.publish(Channel(ChannelKind.STAFF, show), late)

    found = await ends(stage, show)
    assert len(found) >= 8, found
    assert {name: ttl for name, ttl in found.items() if ttl < 0} == {}
    assert await ShowRows(stage.pool).active() == []


async def test_late_word_to_a_buyer_of_a_show_that_is_gone_stays_for_a_day(
    stage: Stage, show: ShowId
) -> None:
    """A refund is told on their log, which is all that there is of the show then."""
    event = AnnouncementEvent(at=1, text="your money came back", until=None)
    await stage.log.publish(Channel(ChannelKind.PERSONAL, show, ANN), event)

    found = await ends(stage, show)
    assert found and all(0 < ttl <= 86_400 for ttl in found.values()), found


async def test_retired_show_is_answered_for_when_somebody_comes(
    stage: Stage, database_url: str, redis_url: str, show: ShowId
) -> None:
    """First "one moment", then the show as it ended; a click on it is refused as before; and it
    leaves again."""
    await sold_and_over(stage, show)
    async with settling(database_url, redis_url):
        await until(lambda: is_retired(stage, show), seconds=30)
        await stage.redis.delete(*await ends(stage, show))  # as when their time has come
        known = KnownShows(stage.pool)
        stage.follower.known_elsewhere = known.knows
        with pytest.raises(Busy):
            await stage.follower.follow(show)

        async def comes_in() -> bool:
            try:
                return (await stage.follower.follow(show)).state is not None
            except Busy:
                return False

        await until(comes_in)
        answer = await stage.stock.hold(show, ANN, HoldKey(uuid4().bytes), one())
        assert answer.outcome is Outcome.CLOSED
        await stage.follower.close()  # nobody watches any more
        await until(lambda: is_retired(stage, show), seconds=30)
        await known.close()

    assert {name: ttl for name, ttl in (await ends(stage, show)).items() if ttl < 0} == {}


async def test_show_of_before_the_upgrade_leaves_as_well(
    stage: Stage, database_url: str, redis_url: str, show: ShowId
) -> None:
    """Redis has restarted since it ended, so no life of its stock is believed any more."""
    await sold_and_over(stage, show)
    await stage.pool.execute("UPDATE offers SET phase = 'closed', allotted = sold")
    await stage.pool.execute("UPDATE shows SET carried_version = version")
    outbox = Outbox(redis_url)
    await outbox.open()
    for batch in await outbox.read([show], consumer="old", entries_max=100, block_ms=1):
        await outbox.ack(show, [batch.entry])
    await outbox.close()
    await stage.redis.hset(f"live:{{{show}}}:meta", "run_id", "of another time")
    async with settling(database_url, redis_url):
        await until(lambda: is_retired(stage, show), seconds=30)

    found = await ends(stage, show)
    assert found and all(0 < ttl <= RETIRED_SECONDS for ttl in found.values()), found


async def test_unsettled_entry_keeps_a_show_from_leaving(
    stage: Stage, database_url: str, redis_url: str, show: ShowId
) -> None:
    """What a dead settler took and never acknowledged is settled first."""
    await sold_and_over(stage, show)
    outbox = Outbox(redis_url)
    await outbox.open()
    taken = await outbox.read([show], consumer="dead", entries_max=100, block_ms=1)
    assert taken
    await stage.pool.execute("UPDATE offers SET phase = 'closed', allotted = sold")
    await stage.pool.execute("UPDATE shows SET carried_version = version")
    assert await stage.stock.retire_show(show, stock_epoch=1, seconds=60) is None

    async with settling(database_url, redis_url):
        await until(lambda: is_retired(stage, show), seconds=30)

    assert await outbox.first_unsettled(show) is None
    await outbox.close()
    assert await stage.pool.fetchval("SELECT state FROM holds") == "released"


@dataclass
class Counted:
    """A pool that counts what it is asked."""

    pool: Pool
    queries: int = 0

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        self.queries += 1
        return await self.pool.fetch(query, *args)


async def test_names_that_never_were_cost_few_queries(pool: Pool, show: ShowId) -> None:
    """A thousand strangers who ask at once are answered by a few; Postgres is not asked again."""
    await pool.execute("INSERT INTO shows (id, title, currency) VALUES ($1, 'T', 'EUR')", show)
    counted = Counted(pool)
    known = KnownShows(cast(Pool, counted))
    names = [ShowId(f"none-{n}") for n in range(1_000)]
    found = await asyncio.gather(*(known.knows(name) for name in [*names, show, show]))
    again = await asyncio.gather(*(known.knows(name) for name in [*names[-50:], show]))
    await known.close()

    assert found == [False] * 1_000 + [True, True]
    assert again == [False] * 50 + [True]
    assert counted.queries <= 3
    assert [row["show"] for row in await pool.fetch("SELECT show FROM stock_doubts")] == [show]


async def test_nobody_can_say_without_postgres(pool: Pool) -> None:
    """Then a viewer is told to come back, never that there is no such show."""
    known = KnownShows(pool)
    await pool.close()

    with pytest.raises(Busy):
        await known.knows(ShowId("some"))
    with pytest.raises(Busy):
        await asyncio.gather(*(known.knows(ShowId(f"s{n}")) for n in range(5)))
    await known.close()


async def test_show_without_a_ledger_is_unknown(stage: Stage) -> None:
    """Where nobody is asked, as in tools, what Redis does not know is not there."""
    with pytest.raises(NotFound):
        await stage.follower.follow(ShowId("nowhere"))
