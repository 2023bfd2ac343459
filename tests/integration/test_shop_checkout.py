"""The shop's own checkout: each answer that its server may get, and what it leaves behind.

Method: real checkouts, stock, settler and payment worker; the shop is honest, late, or not. After
each case the audit has no finding: a sale has the shop's money, and no money has two sales.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from live.api.auth import Authenticator, InvalidToken
from live.base.errors import Conflict, NotFound
from live.base.settings import Guests
from live.domain.hold import HoldState
from live.domain.ids import OrderId, ShowId, buyer_of, key_text
from live.domain.offer import Mode
from live.domain.order import OrderState, OrderView
from live.domain.outcomes import Outcome
from live.ledger.db.pool import Pool
from live.ledger.money.shop_word import ShopWord
from live.payments.providers.external import CHECKOUT_AUDIENCE
from tests.support.ledger_kit import PRICE, SECRET, wish
from tests.support.sale_kit import new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.shop_kit import CHECKOUT_KEY, PAID, Shop, own_checkout, paid, refusal, shop_desk
from tests.support.shows_kit import HOST


@pytest.fixture
async def shop(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Shop]:
    external = own_checkout(pool)
    async with open_sale(pool, redis_url, server, show, units=(3,), more=(external,)) as sale:
        yield Shop(sale, shop_desk(sale))


async def test_buyer_is_sent_there_with_a_hold_that_nobody_can_forge(shop: Shop) -> None:
    """The shop's page learns who pays what for what, and until when; it is no token of a person,
    and another key or another amount is not believed."""
    ada = viewer()
    there, address = await shop.sent(ada)
    query = parse_qs(urlsplit(address).query)
    (signed,) = query["h"]

    claims = jwt.decode(signed, CHECKOUT_KEY, algorithms=["HS256"], audience=CHECKOUT_AUDIENCE)

    assert address.startswith("https://shop.example/checkout?") and query["in"] == [there.show]
    assert claims.pop("exp") - claims.pop("iat") == 600
    assert claims == {
        "aud": "live-checkout",
        "hold": key_text(there.hold),
        "show": there.show,
        "sub": ada.sub,
        "amount_minor": PRICE,
        "currency": "EUR",
    }
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(signed, CHECKOUT_KEY[::-1], algorithms=["HS256"], audience=CHECKOUT_AUDIENCE)
    with pytest.raises(InvalidToken):
        Authenticator(CHECKOUT_KEY, guests=Guests.WATCH).caller(signed)


async def test_hold_there_is_read_with_its_goods_and_its_end(shop: Shop) -> None:
    there, _ = await shop.sent(viewer())

    found = await shop.desk.read(there)

    (item,) = found.items
    assert (item.sku, item.qty, item.price_minor) == (f"{there.show}-sku-0", 1, PRICE)
    assert item.title
    assert (found.amount_minor, found.currency, found.order) == (PRICE, "EUR", None)
    assert found.state is HoldState.PAYING and found.expires_at > 0


async def test_confirmed_hold_is_an_order_that_the_shop_has_the_money_of(shop: Shop) -> None:
    """The answer is the order; a moment later it is paid, by the shop's number, and the buyer who
    repeats their call is told of it."""
    ada, key = viewer(), new_key()
    there, _ = await shop.sent(ada, key=key)

    order = await shop.desk.confirm(there, PAID)
    await shop.work()

    assert (order.hold, order.total_minor) == (key_text(there.hold), PRICE)
    found = await shop.desk.read(there)
    assert (found.state, found.order) == (HoldState.CONFIRMED, order.order)
    assert await shop.sale.payment_states() == [("captured", "paid")]
    view = (await shop.sale.orders.get(order.order)).view
    assert view.reference == order.reference == PAID.reference
    again = await shop.pay(ada, there.hold, key=key)
    assert again.order is not None and again.order.order == order.order
    await shop.proved()


async def test_confirmation_repeated_is_the_same_order(shop: Shop) -> None:
    """At once, later, and after the money was captured; by another reference it is a conflict."""
    there, _ = await shop.sent(viewer())

    orders = list(await asyncio.gather(*(shop.desk.confirm(there, PAID) for _ in range(5))))
    await shop.work()
    orders.append(await shop.desk.confirm(there, PAID))

    assert len({order.order for order in orders}) == 1
    assert await refusal(shop, there, replace(PAID, reference="shop-1002")) == "another_reference"
    assert await shop.sold() == 1
    await shop.proved()


async def test_two_references_at_once_sell_once(shop: Shop) -> None:
    """One of them is told of the order, the others that it was another's."""
    there, _ = await shop.sent(viewer())
    words = [paid(f"shop-{number}") for number in range(5)]

    answers = await asyncio.gather(
        *(shop.desk.confirm(there, one) for one in words), return_exceptions=True
    )

    won = [one for one in answers if isinstance(one, OrderView)]
    lost = [one.reason for one in answers if isinstance(one, Conflict)]
    assert len(won) == 1 and lost == ["another_reference"] * 4
    await shop.proved()


@pytest.mark.parametrize("at_once", [False, True])
async def test_one_reference_pays_one_hold(shop: Shop, at_once: bool) -> None:
    """A shop that says the same payment of two holds sells one of them."""
    holds = [(await shop.sent(viewer()))[0] for _ in range(2)]

    answers: list[OrderView | BaseException] = []
    if at_once:
        answers += await asyncio.gather(
            *(shop.desk.confirm(there, PAID) for there in holds), return_exceptions=True
        )
    else:
        answers.append(await shop.desk.confirm(holds[0], PAID))
        assert await refusal(shop, holds[1]) == "reference_used"

    lost = [one.reason for one in answers if isinstance(one, Conflict)]
    assert lost == (["reference_used"] if at_once else [])
    assert await shop.sold() == 1
    states = sorted(state for state, _ in await shop.sale.payment_states())
    assert states[0] == "action_required"  # and ends with its window
    await shop.work()


@pytest.mark.parametrize("refused", ["another_amount", "declined", "hold_lost"])
async def test_refused_reference_pays_no_other_hold(shop: Shop, refused: str) -> None:
    """The shop was told to pay it back, so nothing is sold by it elsewhere."""
    first, second = [(await shop.sent(viewer()))[0] for _ in range(2)]
    word = PAID
    if refused == "another_amount":
        word = replace(PAID, amount_minor=PRICE - 1)
    elif refused == "declined":
        await shop.desk.decline(first, "no card")
    else:
        await shop.sale.pool.execute("UPDATE payments SET state = 'voided', reason = 'too late'")
        second = (await shop.sent(viewer()))[0]
    assert await refusal(shop, first, word) == refused

    assert await refusal(shop, second) == "reference_used"
    assert await shop.sold() == 0


@pytest.mark.parametrize(
    "wrong",
    [{"amount_minor": PRICE - 1}, {"amount_minor": 0}, {"currency": "USD"}],
)
async def test_another_amount_sells_nothing(shop: Shop, wrong: dict[str, object]) -> None:
    """Nor does it spoil the right one that comes after it."""
    there, _ = await shop.sent(viewer())

    assert await refusal(shop, there, replace(PAID, **wrong)) == "another_amount"  # type: ignore[arg-type]

    assert await shop.sold() == 0
    assert (await shop.desk.confirm(there, PAID)).total_minor == PRICE
    await shop.proved()


async def test_hold_of_another_is_not_there(shop: Shop) -> None:
    """Another's, one that is paid by card, and one that never was are all unknown."""
    there, _ = await shop.sent(viewer())
    bob = viewer()
    card = await shop.sale.hold(bob)
    await shop.sale.pay(bob, card, "tok_action_required")
    strangers = [
        replace(there, sub=bob.sub),
        replace(there, hold=new_key()),
        replace(there, sub=bob.sub, hold=card),
        replace(there, show=ShowId("another")),
    ]

    for one in strangers:
        for ask in (
            shop.desk.read(one),
            shop.desk.confirm(one, PAID),
            shop.desk.decline(one, "no"),
        ):
            with pytest.raises(NotFound):
                await ask

    assert await shop.sold() == 0


async def test_declined_hold_is_the_buyers_again(shop: Shop) -> None:
    """They are told why, may pay otherwise, and a confirmation after it sells nothing."""
    ada = viewer()
    there, _ = await shop.sent(ada)

    await shop.desk.decline(there, "card refused")
    assert await refusal(shop, there) == "declined"
    await shop.work()
    again = await shop.desk.decline(there, "card refused")

    told = await shop.sale.told.wait_for(buyer_of(ada.sub, secret=SECRET), "payment.failed")
    assert told["reason"] == "declined by the shop: card refused"
    assert again.state is HoldState.HELD
    assert await refusal(shop, there) == "declined"
    assert (await shop.sale.pay(ada, there.hold)).outcome is Outcome.CONFIRMED
    assert await refusal(shop, there) == "declined"
    assert await shop.sold() == 1
    await shop.proved()


async def test_buyer_may_come_back_after_a_decline(shop: Shop) -> None:
    """Another try is another payment of the same hold; their old call stays declined."""
    ada, key = viewer(), new_key()
    there, _ = await shop.sent(ada, key=key)
    await shop.desk.decline(there, "confirmed")  # a word of ours as the reason changes nothing
    await shop.work()

    assert (await shop.pay(ada, there.hold, key=key)).outcome is Outcome.DECLINED
    assert (await shop.pay(ada, there.hold)).outcome is Outcome.ACTION_REQUIRED
    await shop.desk.confirm(there, PAID)

    await shop.proved()
    assert sorted(await shop.sale.payment_states(), key=str) == [
        ("captured", "paid"),
        ("voided", None),
    ]


async def test_decline_after_a_confirmation_is_refused(shop: Shop) -> None:
    there, _ = await shop.sent(viewer())
    order = await shop.desk.confirm(there, PAID)

    with pytest.raises(Conflict) as caught:
        await shop.desk.decline(there, "changed our mind")

    assert caught.value.reason == "confirmed"
    assert (await shop.desk.confirm(there, PAID)).order == order.order
    await shop.proved()


async def test_decline_behind_a_confirmation_that_is_under_way_is_refused(shop: Shop) -> None:
    """It is written down and its units are not sold yet: the word counts, not who is faster."""
    there, _ = await shop.sent(viewer())
    words = ShopWord(shop.sale.pool)
    found = await words.read(there.show, buyer_of(there.sub, secret=SECRET), there.hold)
    await words.accept(found.payment.id, PAID.reference)

    with pytest.raises(Conflict):
        await shop.desk.decline(there, "no")

    assert (await shop.desk.confirm(there, PAID)).hold == key_text(there.hold)
    await shop.proved()


async def test_confirmation_and_decline_at_once_have_one_winner(shop: Shop) -> None:
    """Postgres decides between them; the other is told."""
    for number in range(3):
        there, _ = await shop.sent(viewer())
        confirmed, declined = await asyncio.gather(
            shop.desk.confirm(there, paid(f"shop-{number}")),
            shop.desk.decline(there, "no"),
            return_exceptions=True,
        )
        assert isinstance(confirmed, OrderView) == isinstance(declined, Conflict), (
            confirmed,
            declined,
        )
    await shop.proved()


async def test_refund_is_what_the_shop_paid_back(shop: Shop) -> None:
    """We move no money: the refund is written down as done, and its buyer is told."""
    ada = viewer()
    there, _ = await shop.sent(ada)
    order = await shop.desk.confirm(there, PAID)
    await shop.work()

    await shop.sale.orders.request_refund(
        OrderId(order.order), wish(500), request_key="a", actor=HOST
    )
    await shop.work()

    found = (await shop.sale.orders.get(order.order)).view
    assert (found.state, found.refunded_minor) == (OrderState.PARTIALLY_REFUNDED, 500)
    await shop.sale.told.wait_for(buyer_of(ada.sub, secret=SECRET), "order.refunded")
    await shop.proved()


async def test_first_paid_offers_do_not_wait_for_forms(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> None:
    external = own_checkout(pool)
    async with open_sale(
        pool, redis_url, server, show, mode=Mode.FIRST_PAID, more=(external,)
    ) as sale:
        answer = await sale.buy(viewer(), None, key=new_key(), provider="external")

        assert answer.outcome is Outcome.DECLINED
        assert await sale.payment_states() == []


async def test_without_an_address_nobody_is_sent_anywhere(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> None:
    """A shop that gave its checkout up: what was not confirmed is declined."""
    external = own_checkout(pool, None)
    async with open_sale(pool, redis_url, server, show, more=(external,)) as sale:
        ada = viewer()
        answer = await sale.pay(ada, await sale.hold(ada), None, provider="external")

        assert answer.outcome is Outcome.DECLINED
