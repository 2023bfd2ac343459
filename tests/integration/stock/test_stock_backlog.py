"""Holds stop at a bound of what the ledger lacks, and go on when it has caught up.

Method: a full outbox, as after a long time without Postgres; a settler that is not there.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

import live.stock
from live.base.errors import Busy
from live.domain.ids import ShowId
from live.domain.outcomes import Outcome
from live.stock.engine import StockEngine
from live.stock.keys import GROUP, show_keys
from live.stock.outbox import Outbox
from tests.support.answers import entries_by_stream
from tests.support.servers import Valkey
from tests.support.stock_kit import buyer, key, one, terms

SOURCE = (Path(live.stock.__file__).parent / "lua" / "hold.lua").read_text()
BOUND = int(re.findall(r"BACKLOG_MAX = (\d+)", SOURCE)[0])


@pytest.fixture
async def client(stock_server: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    found = redis.asyncio.Redis.from_url(stock_server.url)
    yield found
    await found.aclose()


async def fill(client: redis.asyncio.Redis, show: ShowId, entries: int) -> None:
    pipe = client.pipeline(transaction=False)
    for _ in range(entries):
        pipe.xadd(show_keys(show).outbox, {"filler": ""})
    await pipe.execute()


async def read(client: redis.asyncio.Redis, stream: bytes, count: int) -> list[bytes]:
    """Entries that a settler is given, by their ids."""
    reply = await client.xreadgroup(GROUP, "settler", {stream: ">"}, count=count)
    return [entry for _, found in entries_by_stream(reply) for entry, _ in found]


async def test_holds_stop_beyond_the_bound_and_go_on_after_it(
    engine: StockEngine, client: redis.asyncio.Redis, show: ShowId
) -> None:
    """At the bound a hold is decided, beyond it the answer is "repeat later"; then it goes on."""
    await engine.apply_offer(terms(show))
    outbox = show_keys(show).outbox
    await fill(client, show, BOUND - await client.xlen(outbox))
    at_the_bound = await engine.hold(show, buyer(1), key(), one())
    mine = key()
    with pytest.raises(Busy, match="ledger"):
        await engine.hold(show, buyer(2), mine, one())
    figures = await engine.figures(show)

    delivered = await read(client, outbox, 10)
    with pytest.raises(Busy, match="ledger"):  # delivered is not settled
        await engine.hold(show, buyer(2), mine, one())
    await client.xack(outbox, GROUP, *delivered)
    caught_up = await engine.hold(show, buyer(2), mine, one())

    assert at_the_bound.outcome is Outcome.HELD
    assert (figures.offers[0].left, figures.offers[0].held) == (9, 1)
    assert caught_up.outcome is Outcome.HELD and not caught_up.repeat


async def test_settled_entries_that_are_kept_for_their_deadlines_do_not_count(
    engine: StockEngine, outbox: Outbox, client: redis.asyncio.Redis, show: ShowId
) -> None:
    """A long outbox of which everything is settled stops nobody."""
    await engine.apply_offer(terms(show))
    stream = show_keys(show).outbox
    await fill(client, show, BOUND + 100)
    while delivered := await read(client, stream, 5_000):
        await client.xack(stream, GROUP, *delivered)

    answer = await engine.hold(show, buyer(1), key(), one())

    assert await client.xlen(stream) > BOUND
    assert answer.outcome is Outcome.HELD
