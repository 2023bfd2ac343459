"""The shop's own checkout where something ends: the hold, the buyer's patience, Redis, a process.

Method: as in test_shop_checkout.py; who confirms then is told an order or that nothing was sold,
and is told the same again.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from live.base.errors import Busy, Conflict
from live.buying.shop_checkout import HoldThere
from live.domain.hold import HoldState
from live.domain.ids import ShowId, buyer_of, key_text
from live.domain.order import OrderState, OrderView
from live.domain.outcomes import Outcome
from live.ledger.db.pool import Pool
from live.ledger.money.shop_word import ShopWord
from live.ledger.settle.rebuild import Rebuilder
from tests.support.ledger_kit import SECRET
from tests.support.sale_kit import SETTLED_SECONDS, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shop_kit import PAID, Shop, own_checkout, paid, refusal, shop_desk


@pytest.fixture
async def shop(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Shop]:
    external = own_checkout(pool)
    async with open_sale(pool, redis_url, server, show, units=(3,), more=(external,)) as sale:
        yield Shop(sale, shop_desk(sale))


async def test_late_confirmation_sells_nothing(shop: Shop) -> None:
    """Neither then nor when it is repeated or the worker comes by; the units are anybody's."""
    ada = viewer()
    there, _ = await shop.sent(ada)
    await shop.expire(there)

    reasons = [await refusal(shop, there)]
    void = "SELECT reason FROM money_jobs WHERE kind = 'void'"
    assert await shop.sale.pool.fetchval(void) == "hold_lost"  # before any worker comes by
    await shop.sale.expire_leases()
    await shop.work()
    reasons.append(await refusal(shop, there))

    assert reasons == ["hold_lost", "hold_lost"]
    assert (await shop.desk.read(there)).state is HoldState.EXPIRED
    assert await shop.sale.payment_states() == [("voided", None)]
    assert (await shop.sale.figures()).left == 3
    assert (await shop.sale.told.wait_for(buyer_of(ada.sub, secret=SECRET), "payment.failed"))[
        "hold"
    ] == key_text(there.hold)
    await shop.proved()


async def test_buyer_who_leaves_leaves_nothing_behind(shop: Shop) -> None:
    """Their window ends: the payment does, the hold is over, and who confirms then is late."""
    there, _ = await shop.sent(viewer())
    await shop.expire(there)
    await shop.sale.work_until("voided", None)

    assert await refusal(shop, there) == "hold_lost"
    assert (await shop.sale.figures()).left == 3
    await shop.proved()


async def test_buyer_cannot_take_back_what_they_pay_for_there(shop: Shop) -> None:
    """Else the shop would take money for units that went back a moment ago."""
    ada = viewer()
    there, _ = await shop.sent(ada)

    given = await shop.sale.desk.release(ada, shop.sale.show, there.hold)

    assert given is Outcome.PROCESSING
    assert (await shop.desk.confirm(there, PAID)).hold == key_text(there.hold)
    await shop.proved()


async def test_worker_looks_again_when_the_window_ends(shop: Shop) -> None:
    """And not minutes later, by its pauses that grow."""
    await shop.sent(viewer())
    await shop.sale.pool.execute(
        "UPDATE payments SET tries = 30, created_at = now() - interval '9 minutes 50 seconds'"
    )
    await shop.sale.expire_leases()
    await shop.sale.worker.run_once()

    left = "SELECT extract(epoch FROM lease_until - now())::float FROM payments"
    assert 5 < await shop.sale.pool.fetchval(left) < 11


async def test_confirmation_races_the_end_of_its_hold(shop: Shop) -> None:
    """Each is an order or nothing, whoever of reaper, worker and shop is first."""
    holds = [(await shop.sent(viewer()))[0] for _ in range(3)]
    words = [paid(f"shop-{number}") for number in range(3)]

    async def end(there: HoldThere) -> None:
        await shop.expire(there)
        await shop.sale.expire_leases()
        await shop.sale.worker.run_once()

    answers = await asyncio.gather(
        *(shop.desk.confirm(*one) for one in zip(holds, words, strict=True)),
        *(end(there) for there in holds),
        return_exceptions=True,
    )
    told = answers[:3]
    for one in told:
        assert isinstance(one, OrderView) or (
            isinstance(one, Conflict) and one.reason == "hold_lost"
        ), one
    await shop.proved()
    orders = [one for one in told if isinstance(one, OrderView)]
    assert await shop.sold() == len(orders)
    assert await shop.sale.pool.fetchval("SELECT count(*) FROM orders") == len(orders)
    for there, number, one in zip(holds, words, told, strict=True):
        if isinstance(one, OrderView):
            assert (await shop.desk.confirm(there, number)).order == one.order
        else:
            assert await refusal(shop, there, number) == "hold_lost"


async def test_confirmation_while_nobody_settles_is_told_later(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> None:
    """Temporary, with the order's number; the same words again are told of the order."""
    external = own_checkout(pool)
    async with open_sale(pool, redis_url, server, show, more=(external,), settling=False) as sale:
        shop = Shop(sale, shop_desk(sale, answer_seconds=0.3))
        there, _ = await shop.sent(viewer())

        with pytest.raises(Busy) as caught:
            await shop.desk.confirm(there, PAID)
        async with asyncio.timeout(SETTLED_SECONDS):
            while not await sale.settler.run_once():
                pass
        order = await shop.desk.confirm(there, PAID)

        assert order.order in str(caught.value)
        await shop.proved()


async def test_sale_that_the_ledger_rejects_is_told_as_lost(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> None:
    """Stock sold it, the ledger cannot keep it: no order stands, and the shop pays back."""
    async with open_sale(
        pool, redis_url, server, show, more=(own_checkout(pool),), settling=False
    ) as sale:
        shop = Shop(sale, shop_desk(sale, answer_seconds=0.2))
        there, _ = await shop.sent(viewer())
        with pytest.raises(Busy):
            await shop.desk.confirm(there, PAID)
        await pool.execute("UPDATE payments SET quantities = '{2}'")  # for other units, it seems
        async with asyncio.timeout(SETTLED_SECONDS):
            while not await sale.settler.run_once():
                pass

        assert [await refusal(shop, there) for _ in range(2)] == ["hold_lost"] * 2
        assert await pool.fetchval("SELECT state FROM orders") == "rejected"
        assert (await shop.desk.decline(there, "too late")).order is None


@pytest.mark.parametrize("ended", [False, True])
async def test_confirmation_after_a_rebuild(shop: Shop, redis_url: str, ended: bool) -> None:
    """A payment under way keeps its hold, which is sold; one that had ended stays lost."""
    there, _ = await shop.sent(viewer())
    sale = shop.sale
    if ended:
        await shop.expire(there)
        await sale.told.wait_for(buyer_of(there.sub, secret=SECRET), "hold.expired")
    async with Redis.from_url(redis_url) as redis:
        names = [name async for name in redis.scan_iter(f"live:{{{sale.show}}}:*")]
        await redis.delete(*names)
    with pytest.raises(Busy):
        await shop.desk.read(there)
    await Rebuilder(sale.pool, stock=sale.stock, outbox=sale.outbox, settler=sale.settler).rebuild(
        sale.show
    )

    if ended:
        assert await refusal(shop, there) == "hold_lost"
        await sale.expire_leases()
        await shop.work()
        assert await refusal(shop, there) == "hold_lost"
    else:
        assert (await shop.desk.confirm(there, PAID)).hold == key_text(there.hold)
    assert await shop.sold() == (0 if ended else 1)
    await shop.proved()


async def test_confirmation_that_died_is_finished_or_undone(shop: Shop) -> None:
    """Written down and nothing more: the worker sells the units, and the repeat is told."""
    there, _ = await shop.sent(viewer())
    found = await ShopWord(shop.sale.pool).read(
        there.show, buyer_of(there.sub, secret=SECRET), there.hold
    )
    await ShopWord(shop.sale.pool).accept(found.payment.id, PAID.reference)

    await shop.sale.work_until("captured", "paid")

    assert (await shop.desk.confirm(there, PAID)).state is OrderState.PAID
    await shop.proved()


async def test_call_that_died_before_the_buyer_was_sent_away(shop: Shop) -> None:
    """The worker makes the address; who repeats the call is sent there."""
    ada, key = viewer(), new_key()
    there, address = await shop.sent(ada, key=key)
    await shop.sale.pool.execute("UPDATE payments SET state = 'created', action = NULL")
    await shop.sale.expire_leases()
    await shop.sale.worker.run_once()

    again = await shop.pay(ada, there.hold, key=key)

    assert again.action is not None and again.action.value.partition("?")[0] in address
    assert (again.action.expires_at or 0) > 0
    await shop.desk.confirm(there, PAID)
    await shop.proved()
