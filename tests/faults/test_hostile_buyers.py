"""Buyers who send whatever they can, at a real checkout: no order of theirs is ever rejected.

Method: a few persons with several windows each and few keys, which they use for everything: holds
and carts, releases while they pay, direct purchases, other units under old keys, games with sixteen
records, repeats across rebuilds. The provider has moods, holds are short, two workers are at it.
Then the ledger is held against the provider's books and against Redis.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest

from live.base.errors import CallError
from live.buying.hold import Wanted
from live.buying.purchase import Purchase
from live.buying.waitlist import Waitlist
from live.domain.caller import Caller
from live.domain.hold import Line
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Mode
from live.domain.payment import PaymentState
from live.ledger.db.pool import Pool
from live.ledger.settle.rebuild import rebuild_show
from live.ledger.settle.waitlist import WaitlistRows
from live.payments.worker import PaymentWorker
from tests.support.sale_kit import Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.whim import Whim

COMMANDS = 800
WINDOWS = 8  # commands under way at once
KEYS_EACH = 4
REBUILD_EVERY = 160
UNITS = (12, 6, 9)
DIRECT = 1  # the slot of the offer that is sold to whoever pays first
END_SECONDS = 60


@pytest.fixture
def whim(request: pytest.FixtureRequest) -> Whim:
    return Whim(Random(request.param))


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId, whim: Whim
) -> AsyncIterator[Sale]:
    async with open_sale(
        pool, redis_url, server, show, units=UNITS, hold_seconds=1, more=(whim,)
    ) as sale:
        sale.checkout._answer_seconds = 0.5  # an answer in time is another test's business
        offers = sale.book.of(show)
        direct = replace(offers.by_slot[DIRECT], mode=Mode.FIRST_PAID, version=2)
        offers.by_slot[DIRECT] = offers.by_id[direct.id] = direct
        await pool.execute(
            "UPDATE offers SET mode = 'first_paid', version = 2 WHERE show = $1 AND slot = $2",
            show,
            DIRECT,
        )
        await sale.stock.apply_offer(direct)
        yield sale


class Hostile:
    """`people` and their keys are few, so that everything meets everything."""

    def __init__(self, sale: Sale, whim: Whim, random: Random) -> None:
        self.sale, self.whim, self.random = sale, whim, random
        self.waitlist = Waitlist(sale.stock, WaitlistRows(sale.pool), sale.book, sale.desk)
        self.other_worker = PaymentWorker(
            sale.payments, sale.stock, sale.worker.decisions._providers
        )
        self.people = [viewer(f"{sale.show}-{n}") for n in range(4)]
        self.keys = {who.sub: [new_key() for _ in range(KEYS_EACH)] for who in self.people}
        self.broken: list[BaseException] = []

    async def storm(self, commands: int) -> None:
        gate = asyncio.Semaphore(WINDOWS)

        async def send(command: Callable[[Caller], Awaitable[object]], who: Caller) -> None:
            try:
                with suppress(CallError):  # whatever they are told is their business
                    await command(who)
            except Exception as error:
                self.broken.append(error)
            finally:
                gate.release()

        async with asyncio.TaskGroup() as windows:
            for n in range(commands):
                await gate.acquire()
                command = self.random.choices(*zip(*self._commands(), strict=True))[0]
                windows.create_task(send(command, self.random.choice(self.people)))
                if n % REBUILD_EVERY == REBUILD_EVERY - 1:
                    await self.rebuild()
                elif n % 10 == 9:
                    await self.pass_time()

    def _commands(self) -> list[tuple[Callable[[Caller], Awaitable[object]], int]]:
        return [
            (self.hold, 24),
            (self.release, 12),
            (self.check_out, 26),
            (self.buy, 16),
            (self.join, 6),
            (self.leave, 2),
            (self.sixteen, 1),
        ]

    def _key(self, who: Caller) -> HoldKey:
        keys = self.keys[who.sub]
        at = self.random.randrange(len(keys))
        if self.random.random() < 0.15:
            keys[at] = new_key()
        return keys[at]

    async def hold(self, who: Caller) -> object:
        lines = [Line(self.random.choice((0, 0, 2)), self.random.randint(1, 3))]
        if self.random.random() < 0.3:
            lines = [Line(0, self.random.randint(1, 2)), Line(2, 1)]
        return await self.sale.try_hold(who, self._key(who), *lines)

    async def release(self, who: Caller) -> object:
        return await self.sale.desk.release(who, self.sale.show, self._key(who))

    async def check_out(self, who: Caller) -> object:
        attempt = self._key(who) if self.random.random() < 0.3 else new_key()
        return await self._pay(
            who,
            Purchase(key=attempt, provider="whim", token="t", contact=None, hold=self._key(who)),
        )

    async def buy(self, who: Caller) -> object:
        wanted = Wanted(self.sale.offers[DIRECT], self.random.randint(1, 2))
        return await self._pay(
            who,
            Purchase(key=self._key(who), provider="whim", token="t", contact=None, direct=wanted),
        )

    async def _pay(self, who: Caller, purchase: Purchase) -> object:
        twice = self.random.random() < 0.3  # from two windows at once
        tries = [self.sale.checkout.pay(who, self.sale.show, purchase) for _ in range(1 + twice)]
        return await asyncio.gather(*tries, return_exceptions=True)

    async def join(self, who: Caller) -> object:
        wanted = Wanted(self.sale.offers[self.random.choice((0, 2))], 1)
        return await self.waitlist.join(who, self.sale.show, wanted, self._key(who))

    async def leave(self, who: Caller) -> object:
        await self.waitlist.leave(who, self.sale.show, self.sale.offers[0])
        return None

    async def sixteen(self, who: Caller) -> object:
        """So many new records that the oldest ended one is forgotten."""
        for _ in range(17):
            key = new_key()
            await self.sale.try_hold(who, key, Line(0, 1))
            await self.sale.desk.release(who, self.sale.show, key)
        return None

    async def pass_time(self) -> None:
        with suppress(CallError):
            await self.sale.stock.reap(self.sale.show)
        await self.sale.pool.execute(_EXPIRED, self.sale.show)
        await self.sale.pool.execute(_DUE)
        await asyncio.gather(self.sale.worker.run_once(), self.other_worker.run_once())

    async def rebuild(self) -> None:
        sale = self.sale
        await rebuild_show(
            sale.pool,
            sale.show,
            stock=sale.stock,
            outbox=sale.outbox,
            settler=sale.settler,
            force=True,
        )

    async def end(self) -> None:
        """Everybody goes home; what is left open is decided."""
        self.whim.calm = True
        async with asyncio.timeout(END_SECONDS):
            while await self.sale.pool.fetchval(_OPEN, self.sale.show):
                await self.pass_time()


_OPEN = """
SELECT count(*) FROM payments p LEFT JOIN orders o ON o.id = p.order_id
WHERE p.show = $1 AND (
    p.state IN ('created', 'authorising', 'authorised', 'unknown', 'action_required', 'capturing')
    OR o.state = 'confirmed')"""

# Rows that somebody works on are left alone: two who lock many would wait for each other.
_EXPIRED = """
UPDATE payments SET lease_until = now() WHERE id IN (
    SELECT id FROM payments WHERE show = $1 FOR NO KEY UPDATE SKIP LOCKED)"""

_DUE = """
UPDATE money_jobs SET due_at = now() WHERE id IN (
    SELECT id FROM money_jobs WHERE state <> 'done' FOR NO KEY UPDATE SKIP LOCKED)"""

_SOLD = """
SELECT f.slot, f.sold, f.allotted FROM offers f WHERE f.show = $1 ORDER BY f.slot"""


async def odd_ones(sale: Sale) -> tuple[int, ...]:
    """Rejected orders, sales to undo, doubts, entries put aside."""
    return tuple(
        [
            await sale.pool.fetchval(query, sale.show)
            for query in (
                "SELECT count(*) FROM orders WHERE show = $1 AND state = 'rejected'",
                "SELECT count(*) FROM sales_to_undo WHERE show = $1",
                "SELECT count(*) FROM stock_doubts WHERE show = $1",
                "SELECT count(*) FROM poison WHERE show = $1",
            )
        ]
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    seeds = metafunc.config.getoption("--seeds") or 2
    metafunc.parametrize("whim", range(1, 1 + seeds), indirect=True)


@pytest.mark.timeout(300)
async def test_nothing_that_buyers_send_makes_the_ledger_reject_an_order(
    sale: Sale, whim: Whim
) -> None:
    """No rejection, no doubt, no money left hanging; sold in Redis, ledger and books is one."""
    hostile = Hostile(sale, whim, whim.random)

    await hostile.storm(COMMANDS)
    assert await odd_ones(sale) == (0, 0, 0, 0)
    await hostile.end()

    assert hostile.broken == []
    assert await odd_ones(sale) == (0, 0, 0, 0)
    open_charges = {PaymentState.AUTHORISED, PaymentState.ACTION_REQUIRED}
    assert not open_charges & set(whim.charges.values())
    captured = sum(state is PaymentState.CAPTURED for state in whim.charges.values())
    paid = "SELECT count(*) FROM orders WHERE show = $1 AND state = 'paid'"
    assert captured == await sale.pool.fetchval(paid, sale.show) > 0
    figures = (await sale.stock.figures(sale.show)).offers
    for slot, sold, allotted in await sale.pool.fetch(_SOLD, sale.show):
        assert (figures[slot].sold, figures[slot].allotted) == (sold, allotted)
