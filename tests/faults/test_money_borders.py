"""Money at the edges of a sale: a hold that ends just as it is paid, an offer that closes in the
middle of the rush. Whichever comes first, each buyer has their order or their money, never both or
none.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from live.base.errors import Conflict
from live.domain.caller import Caller
from live.domain.hold import Line
from live.domain.ids import ShowId
from live.domain.offer import Stock
from live.domain.outcomes import Outcome
from live.domain.payment import Payment, PaymentState
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.ledger.hosting.offer_rows import OfferRows
from live.ledger.settle.rebuild import read_show_stock
from tests.support.ledger_kit import PRICE
from tests.support.payment_kit import authorised
from tests.support.sale_kit import SETTLED_SECONDS, Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer, running_sandbox
from tests.support.shows_kit import HOST

SCARCE, PLENTY = 12, 200
ROUNDS = 3
RUSH, TURNS = 8, 6  # buyers at once, and how often each comes back
CLOSE_AFTER = RUSH * TURNS // 3  # holds, so that some come before it and some after


@pytest.fixture
def server(scratch: Path, show: ShowId) -> Iterator[SandboxServer]:
    """Of one test: its books are compared with the ledger's."""
    with running_sandbox(scratch / f"sandbox-{show}") as server:
        yield server


@pytest.fixture
async def brief(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """Few units, held for a second."""
    async with open_sale(pool, redis_url, server, show, units=(SCARCE,), hold_seconds=1) as sale:
        yield sale


@pytest.fixture
async def rush(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show, units=(PLENTY,)) as sale:
        yield sale


async def assert_sound(sale: Sale) -> None:
    report = await audit(
        sale.pool, sale.stock, sale.outbox, [sale.provider], wait_seconds=SETTLED_SECONDS
    )
    assert report.findings == ()


async def paid_up(sale: Sale) -> Counter[tuple[str, str | None]]:
    """Let the worker go on until every payment has come to its end; how many came to which."""
    ends = {("captured", "paid"), ("voided", None), ("declined", None)}
    async with asyncio.timeout(2 * SETTLED_SECONDS):
        while not set(states := await sale.payment_states()) <= ends:
            await sale.expire_leases()
            await sale.pool.execute("UPDATE money_jobs SET due_at = now() WHERE state = 'due'")
            await sale.worker.run_once()
    return Counter(states)


# The hold ends while it is paid.


async def on_the_border(sale: Sale, buyer: Caller, payment: Payment, offset_ms: int) -> None:
    """Decide on the payment so many ms before or after its hold's deadline, by Redis' clock."""
    assert buyer.buyer is not None
    for hold in (await sale.stock.buyer_state(sale.show, buyer.buyer)).holds:
        while (await sale.stock.figures(sale.show)).at < hold.expires_at + offset_ms:
            pass
    await sale.worker.decisions.decide(payment)


async def reap_always(sale: Sale) -> None:
    while True:
        await sale.stock.reap(sale.show)


async def snatch_always(sale: Sale) -> None:
    """Somebody who wants every unit that comes free, and gives it back soon: retakes may fail."""
    hungry = viewer()
    assert hungry.buyer is not None
    while True:
        key = new_key()
        answer = await sale.try_hold(hungry, key, Line(0, 1))
        if answer.outcome is Outcome.HELD:
            await sale.stock.release(sale.show, hungry.buyer, key)


@pytest.mark.parametrize("seed", [1, 2])
async def test_hold_that_ends_while_it_is_paid_is_an_order_or_no_money(
    brief: Sale, seed: int
) -> None:
    """The deadline falls within a millisecond of the payment's end, again and again."""
    dice = random.Random(seed)
    payments: list[Payment] = []
    async with asyncio.TaskGroup() as group:
        always = [group.create_task(do(brief)) for do in (reap_always, snatch_always)]
        for _ in range(ROUNDS):
            deciding = []
            for _ in range(SCARCE):
                buyer, key = viewer(), new_key()
                if (await brief.try_hold(buyer, key, Line(0, 1))).outcome is not Outcome.HELD:
                    continue
                payment = await authorised(brief, buyer, key)
                payments.append(payment)
                offset = dice.choice((-1, 0, 1))
                deciding.append(asyncio.create_task(on_the_border(brief, buyer, payment, offset)))
            await asyncio.gather(*deciding)
        for task in always:
            task.cancel()
    ends = await paid_up(brief)
    await brief.stock.reap(brief.show)

    orders = ends["captured", "paid"]
    assert payments and sum(ends.values()) == len(payments)
    assert orders + ends["voided", None] == len(payments), ends
    assert await brief.money() == (orders * PRICE, 0)
    left = [(await brief.provider.look_up(one.id, None)).state for one in payments]
    assert set(left) <= {PaymentState.CAPTURED, PaymentState.VOIDED}
    assert await brief.figures() == Stock(left=SCARCE - orders, held=0, sold=orders)
    await assert_sound(brief)


# The host closes while the crowd buys.


async def close(sale: Sale) -> str:
    """A host's command, as it is carried to Redis; the other host's comes too late."""
    try:
        await OfferRows(sale.pool).close(sale.offers[0], HOST)
    except Conflict:
        return "too late"
    (terms,) = (await read_show_stock(sale.pool, sale.show)).offers
    await sale.stock.apply_offer(terms)
    return "closed"


async def closed(sale: Sale) -> None:
    """Wait for the end of the closing, which waits for the last hold."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while await sale.pool.fetchval("SELECT phase FROM offers") != "closed":
            await sale.stock.close_offers(sale.show)
            await asyncio.sleep(0.02)  # the settler tells nobody


async def test_close_in_the_middle_of_a_rush_honours_what_was_held(rush: Sale) -> None:
    """Who held before the close may pay; who comes after it reads `closed`; the rest goes back."""
    held: list[Outcome] = []
    refused: Counter[Outcome] = Counter()
    enough = asyncio.Event()

    async def shop() -> None:
        for _ in range(TURNS):
            buyer, key = viewer(), new_key()
            answer = await rush.try_hold(buyer, key, Line(0, 1))
            if answer.outcome is not Outcome.HELD:
                refused[answer.outcome] += 1
                continue
            held.append(Outcome.HELD)
            if len(held) >= CLOSE_AFTER:
                enough.set()
                await closing  # who holds now pays when the offer is closing already
            paid = await rush.pay(buyer, key)
            assert paid.outcome is Outcome.CONFIRMED, paid

    async def two_hosts() -> list[str]:
        await enough.wait()
        return sorted(await asyncio.gather(close(rush), close(rush)))

    closing = asyncio.create_task(two_hosts())
    await asyncio.gather(*(shop() for _ in range(RUSH)))
    assert await closing == ["closed", "too late"]
    await closed(rush)
    ends = await paid_up(rush)

    sold = len(held)
    assert CLOSE_AFTER <= sold < RUSH * TURNS
    assert refused == {Outcome.CLOSED: RUSH * TURNS - sold}
    assert ends == {("captured", "paid"): sold}
    (row,) = await rush.pool.fetch(
        """SELECT f.allotted, f.sold, p.allotted AS of_product
           FROM offers f JOIN products p USING (sku)"""
    )
    assert tuple(row) == (sold, sold, sold)
    await project_close(rush)
    await assert_sound(rush)


async def project_close(sale: Sale) -> None:
    """As the keeper does with the version that the close made."""
    (terms,) = (await read_show_stock(sale.pool, sale.show)).offers
    await sale.stock.apply_offer(terms)
