"""kill -9 of sequencer, sender and receiver at every phase: every event arrives, in its order.

Method: a process that dies at a failpoint, or is killed while events are written and sent; the next
one, its clock ahead of the lease, goes on; what arrived is held against the table of events.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from live.base.failpoint import DIED
from live.ledger.db.pool import Pool
from live.ledger.events.deliveries import LEASE_SECONDS
from tests.support.events_kit import Out, going_out
from tests.support.receiver import Got, Receiver, receiving

POINTS = ["events.placed", "webhooks.taken", "webhooks.sent", "webhooks.recorded"]
STEPS = ("order.confirmed", "order.paid", "order.shipped", "order.delivered")


class Life:
    """One process after the other; each is further ahead than the lease of the one before."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.ahead = 0.0

    def start(self, failpoint: str = "") -> subprocess.Popen[bytes]:
        self.ahead += LEASE_SECONDS + 1
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.faults.events_process"),
                *(self.database_url, str(self.ahead)),
            ],
            env=os.environ | {"LIVE_FAILPOINT": failpoint},
        )


@pytest.fixture
async def out(pool: Pool) -> AsyncIterator[Out]:
    async with going_out(pool) as found:
        yield found


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


async def happen(out: Out, subjects: list[str]) -> None:
    for type in STEPS:
        await out.pool.executemany(
            "INSERT INTO events (type, subject, detail) VALUES ($1, $2, '{}')",
            [(type, subject) for subject in subjects],
        )


async def ended(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait, 30)


def arrived(shop: Receiver) -> list[int]:
    """Numbers of events in the order of their first arrival."""
    return list(dict.fromkeys(int(one.id.split("_")[1]) for one in shop.got))


def _signed(got: Got, secret: str) -> bool:
    """Verified without the time, which a process that is ahead has not from here."""
    at = int(got.headers["webhook-timestamp"])
    made = Webhook(secret).sign(got.id, datetime.fromtimestamp(at, UTC), got.body.decode())
    return made == got.headers["webhook-signature"]


async def prove(out: Out, shop: Receiver, secret: str) -> None:
    """None missing, none forged, each subject in its order, each event one body."""
    rows = await out.pool.fetch("SELECT id, subject, position FROM events ORDER BY id")
    first = arrived(shop)
    assert sorted(first) == [row["id"] for row in rows]
    assert sorted(row["position"] for row in rows) == list(range(1, len(rows) + 1))
    for subject in {row["subject"] for row in rows}:
        mine = {row["id"] for row in rows if row["subject"] == subject}
        assert [one for one in first if one in mine] == sorted(mine)
    bodies: dict[str, set[bytes]] = {}
    for one in shop.got:
        assert _signed(one, secret)
        bodies.setdefault(one.id, set()).add(one.body)
    assert all(len(found) == 1 for found in bodies.values())


async def all_there(out: Out, shop: Receiver) -> None:
    """Wait until as many different events arrived as were written."""
    wanted = await out.pool.fetchval("SELECT count(*) FROM events")
    async with asyncio.timeout(60), shop.arrived:
        await shop.arrived.wait_for(lambda: len(arrived(shop)) >= wanted)


@pytest.mark.parametrize("point", POINTS)
async def test_death_at_each_phase_loses_nothing(
    out: Out, shop: Receiver, database_url: str, point: str
) -> None:
    made = await out.endpoint(shop.url)
    life = Life(database_url)
    await happen(out, [f"order:{uuid4()}" for _ in range(5)])

    assert await ended(life.start(point)) == DIED
    second = life.start()
    try:
        await all_there(out, shop)
    finally:
        second.kill()
        await ended(second)

    await prove(out, shop, made.secret)


async def test_receiver_that_dies_gets_all_when_it_is_back(
    out: Out, shop: Receiver, database_url: str
) -> None:
    """What it had taken and not answered comes once more."""
    made = await out.endpoint(shop.url)
    life, taken = Life(database_url), 0

    async def die(request: web.Request, _body: bytes) -> web.StreamResponse:
        nonlocal taken
        taken += 1
        assert request.transport is not None
        if taken <= 4:  # four lines at once: none of them twice, which would take five minutes
            request.transport.abort()
        return web.Response()

    shop.answer = die
    await happen(out, [f"order:{uuid4()}" for _ in range(5)])
    sending = life.start()
    try:
        await all_there(out, shop)
    finally:
        sending.kill()
        await ended(sending)

    await prove(out, shop, made.secret)
    assert len(shop.got) > 20


async def _rounds(out: Out, shop: Receiver, database_url: str, rounds: int) -> None:
    made = await out.endpoint(shop.url)
    life, chance = Life(database_url), random.Random(4711)
    subjects = [f"order:{uuid4()}" for _ in range(8)]
    for _ in range(rounds):
        await happen(out, subjects)
        process = life.start()
        wanted = len(shop.got) + chance.randrange(1, 3 * len(subjects))
        try:
            await shop.wait_for(wanted, seconds=30)
        finally:
            process.kill()
            await ended(process)
    last = life.start()
    try:
        await all_there(out, shop)
    finally:
        last.kill()
        await ended(last)
    await prove(out, shop, made.secret)


async def test_killed_at_any_moment_loses_nothing(
    out: Out, shop: Receiver, database_url: str
) -> None:
    await _rounds(out, shop, database_url, 3)


@pytest.mark.long
@pytest.mark.timeout(1_800)
async def test_killed_a_hundred_times_loses_nothing(
    out: Out, shop: Receiver, database_url: str
) -> None:
    await _rounds(out, shop, database_url, 100)
