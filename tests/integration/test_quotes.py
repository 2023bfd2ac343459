"""Quotes from the shop's hook to the provider's books: what was told is what is paid, or nothing.

Method: a real hook server on loopback, real engines, and the sandbox provider, whose books say what
was charged.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from live.base.errors import BadField, Busy, Conflict, NotFound
from live.buying.purchase import CheckoutAnswer
from live.buying.quoting.hook import HOOK_SECONDS, QuoteHook
from live.buying.quoting.quotes import DEFAULT_MS, QUOTE_MS_MAX, QuoteAnswer, Quotes
from live.buying.quoting.seal import QUOTE_CHARS_MAX, QuoteSeal
from live.domain.caller import Caller
from live.domain.ids import HoldKey, ShowId, key_text
from live.domain.offer import Mode
from live.domain.orders.quote import (
    CHOICES_MAX,
    LABEL_CHARS_MAX,
    TAXES_MAX,
    Destination,
    Given,
)
from live.domain.outcomes import Outcome
from live.domain.show import ShowStatus
from live.ledger.db.pool import Pool
from live.ledger.orders.withdraw import WithdrawalRows
from live.payments.breaker import LOST_MAX
from tests.integration.test_goods_back import RECEIVED, ask_back, decide, returns, ship
from tests.integration.test_sale_rpc import Client, make_client
from tests.support.answers import Json
from tests.support.ledger_kit import PRICE
from tests.support.quote_hook import SECRET, HookServer, in_an_hour, open_hook_server, usable
from tests.support.refund_kit import proof, work
from tests.support.sale_kit import Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer

HERE = Destination.of(country="de", region="", postcode="10115")
THERE = Destination.of(country="ch", region="", postcode="8000")
STANDARD, EXPRESS, TAX, DUTY = 490, 990, 700, 300
WHOLE = PRICE + STANDARD + TAX + DUTY
GENEROUS_SECONDS = 1.0  # beside the 800 ms, on a busy machine


@pytest.fixture
async def server_of_shop() -> AsyncIterator[HookServer]:
    async with open_hook_server() as hook:
        yield hook


@pytest.fixture
async def hook(server_of_shop: HookServer) -> AsyncIterator[QuoteHook]:
    made = QuoteHook(server_of_shop.url, secrets=[SECRET])
    yield made
    await made.close()


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId, hook: QuoteHook
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show, units=(5, 5), hook=hook) as sale:
        yield sale


@pytest.fixture
async def direct_sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId, hook: QuoteHook
) -> AsyncIterator[Sale]:
    mode = Mode.FIRST_PAID
    async with open_sale(pool, redis_url, server, show, units=(5,), mode=mode, hook=hook) as sale:
        yield sale


@pytest.fixture
async def plain_sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """A shop without a hook."""
    async with open_sale(pool, redis_url, server, show) as sale:
        yield sale


async def quoted(sale: Sale, who: Caller, hold: HoldKey, to: Destination = HERE) -> QuoteAnswer:
    return await sale.quotes.quote(who, sale.show, hold, to)


async def pay(
    sale: Sale, who: Caller, hold: HoldKey, given: Given, *, key: HoldKey | None = None
) -> CheckoutAnswer:
    return await sale.pay(who, hold, key=key, given=given)


def bill(answer: CheckoutAnswer) -> list[tuple[str, int, bool]]:
    assert answer.order is not None
    return [(one.type, one.amount_minor, one.inclusive) for one in answer.order.totals]


async def nothing_happened(sale: Sale, who: Caller, hold: HoldKey) -> None:
    """Nobody was charged, no row was written, and the hold waits as before."""
    assert await sale.payment_states() == []
    assert await sale.money() == (0, 0)
    assert who.buyer is not None
    has = await sale.stock.buyer_state(sale.show, who.buyer)
    assert [(one.key, one.state) for one in has.holds] == [(hold, "held")]


async def test_what_was_quoted_is_what_is_charged(sale: Sale) -> None:
    """Shipping, tax and duty are on the bill, in the books, and on the order as it is read."""
    ada = viewer()
    hold = await sale.hold(ada)
    answer = await quoted(sale, ada, hold)
    assert [one.id for one in answer.shipping] == ["standard", "express"]
    assert answer.totals[-1].amount_minor == WHOLE

    given = Given(quote=answer.quote, shipping="standard", to=HERE)
    paid = await pay(sale, ada, hold, given)

    assert paid.outcome is Outcome.CONFIRMED and paid.order is not None
    assert bill(paid) == [
        ("subtotal", PRICE, False),
        ("shipping", STANDARD, False),
        ("tax", TAX, False),
        ("tax", 11, True),
        ("duty", DUTY, False),
        ("total", WHOLE, False),
    ]
    assert paid.order.total_minor == WHOLE
    assert paid.order.totals == answer.totals
    await sale.work_until("captured", "paid")
    assert await sale.money() == (WHOLE, 0)


async def test_another_way_of_shipping_costs_its_own(sale: Sale) -> None:
    ada = viewer()
    hold = await sale.hold(ada)
    answer = await quoted(sale, ada, hold)
    paid = await pay(sale, ada, hold, Given(quote=answer.quote, shipping="express", to=HERE))
    assert paid.order is not None
    assert paid.order.total_minor == WHOLE - STANDARD + EXPRESS
    await sale.work_until("captured", "paid")
    assert await sale.money() == (WHOLE - STANDARD + EXPRESS, 0)


async def test_hook_is_told_units_and_destination_alone(
    sale: Sale, server_of_shop: HookServer
) -> None:
    """Its signature holds (the server verifies it); nobody's name, e-mail or street is in it."""
    ada = viewer("ada@shop.example")
    hold = await sale.hold(ada, 2)
    client, address = make_client(sale), {"country": "de", "region": " be ", "postcode": "10115"}
    contact = {"name": "Ada L", "email": "ada@shop.example", "phone": "030 1", "address": address}
    contact["address"] = address | {"line1": "Mill Lane 1", "city": "Berlin"}
    await client.call(ada, "order.quote", {"hold": key_text(hold), "contact": contact})

    (asked,) = server_of_shop.asked
    assert asked == {
        "call": "quote",
        "show": sale.show,
        "currency": "EUR",
        "items": [
            {
                "offer": sale.offers[0],
                "sku": f"{sale.show}-sku-0",
                "title": asked["items"][0]["title"],
                "qty": 2,
                "price_minor": PRICE,
            }
        ],
        "contact": {"country": "DE", "region": "BE", "postcode": "10115"},
    }
    assert server_of_shop.headers[0]["webhook-id"].startswith("quote_")


BAD_ANSWERS: dict[str, object] = {
    "garbage": b"\xff\xfe not json",
    "a list": [],
    "one megabyte": b'{"currency": "EUR"' + b" " * 1_000_000 + b"}",
    "negative shipping": usable(
        shipping=[{"id": "a", "label": "A", "amount_minor": -1, "days": 1}]
    ),
    "negative tax": usable(tax=[{"label": "VAT", "amount_minor": -5, "inclusive": False}]),
    "negative duty": usable(duties_minor=-1),
    "a float": usable(duties_minor=1.5),
    "too much": usable(duties_minor=10**12),
    "another currency": usable(currency="USD"),
    "no currency": {name: value for name, value in usable().items() if name != "currency"},
    "an unknown field": usable(duty_minor=5),
    "expired": usable(expires_at=1),
    "two of one id": usable(shipping=[{"id": "a", "label": "A", "amount_minor": 1, "days": 1}] * 2),
    "too many choices": usable(
        shipping=[
            {"id": f"c{n}", "label": "C", "amount_minor": 1, "days": 1}
            for n in range(CHOICES_MAX + 1)
        ]
    ),
    "too many taxes": usable(
        tax=[{"label": "T", "amount_minor": 1, "inclusive": False}] * (TAXES_MAX + 1)
    ),
    "a label with a line break": usable(
        tax=[{"label": "V\nT", "amount_minor": 1, "inclusive": False}]
    ),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_unusable_answer_is_none(sale: Sale, server_of_shop: HookServer, name: str) -> None:
    """The default stands in: the prices are what is paid, and the books say so."""
    server_of_shop.body = BAD_ANSWERS[name]
    await _default_is_paid(sale)
    assert len(server_of_shop.asked) == 1


@pytest.mark.parametrize("status", [302, 401, 404, 500, 503])
async def test_other_status_is_no_answer(
    sale: Sale, server_of_shop: HookServer, status: int
) -> None:
    """Not followed, not asked again, whatever its body says."""
    server_of_shop.status = status
    await _default_is_paid(sale)
    assert len(server_of_shop.asked) == 1


async def _default_is_paid(sale: Sale) -> None:
    ada = viewer()
    hold = await sale.hold(ada)
    answer = await quoted(sale, ada, hold)
    assert answer.shipping == ()
    paid = await pay(sale, ada, hold, Given(quote=answer.quote, to=HERE))
    assert bill(paid) == [("subtotal", PRICE, False), ("total", PRICE, False)]
    await sale.work_until("captured", "paid")
    assert await sale.money() == (PRICE, 0)


async def test_slow_hook_costs_the_time_and_no_more(sale: Sale, server_of_shop: HookServer) -> None:
    """After 800 ms the default stands in; meanwhile the connection's other calls are answered."""
    server_of_shop.hold = asyncio.Event()
    ada, client = viewer(), make_client(sale)
    hold = await sale.hold(ada)
    began = time.monotonic()
    asking = asyncio.create_task(quoted(sale, ada, hold))
    await client.call(ada, "time.now", {})
    assert not asking.done()
    answer = await asking
    assert HOOK_SECONDS <= time.monotonic() - began < HOOK_SECONDS + GENEROUS_SECONDS
    assert answer.shipping == () and answer.totals[-1].amount_minor == PRICE
    server_of_shop.hold.set()


async def test_hook_that_is_down_costs_few_buyers_the_wait(
    sale: Sale, hook: QuoteHook, server_of_shop: HookServer
) -> None:
    """After some lost calls it is not asked for a while, and asked again later."""
    server_of_shop.status = 500
    ada = viewer()
    hold = await sale.hold(ada)
    for _ in range(LOST_MAX + 20):
        assert (await quoted(sale, ada, hold)).shipping == ()
    assert len(server_of_shop.asked) == LOST_MAX

    server_of_shop.status = 200
    hook._breaker._retry_at = 0.0  # as if the pause were over
    assert (await quoted(sale, ada, hold)).shipping != ()


async def test_calls_at_once_are_bounded(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId, server_of_shop: HookServer
) -> None:
    """Who comes when too many wait is asked to come again, and nothing is given away."""
    server_of_shop.hold = asyncio.Event()
    made = QuoteHook(server_of_shop.url, secrets=[SECRET], asking_max=2)
    async with open_sale(pool, redis_url, server, show, hook=made) as sale:
        ada = viewer()
        hold = await sale.hold(ada)
        waiting = [asyncio.create_task(quoted(sale, ada, hold)) for _ in range(2)]
        await server_of_shop.wait_for(2)
        with pytest.raises(Busy):
            await quoted(sale, ada, hold)
        server_of_shop.hold.set()
        assert [len((await one).shipping) for one in waiting] == [2, 2]
    await made.close()


async def test_shop_that_does_not_send_it_there_says_so(
    sale: Sale, server_of_shop: HookServer
) -> None:
    """The buyer reads the shop's reason; it is an answer, and closes no door for others."""
    server_of_shop.status, server_of_shop.body = 422, {"reason": "Not to Antarctica."}
    ada = viewer()
    hold = await sale.hold(ada)
    for _ in range(LOST_MAX + 1):
        with pytest.raises(BadField, match=r"contact.address: Not to Antarctica\."):
            await quoted(sale, ada, hold)
    server_of_shop.status, server_of_shop.body = 200, None
    assert (await quoted(sale, ada, hold)).shipping != ()


async def test_without_a_quote_nothing_is_paid(sale: Sale) -> None:
    """Or shipping would be free to whoever leaves it out."""
    ada = viewer()
    hold = await sale.hold(ada)
    with pytest.raises(BadField, match="quote"):
        await sale.pay(ada, hold)
    await nothing_happened(sale, ada, hold)


async def test_quote_of_anything_else_is_refused(sale: Sale) -> None:
    """Another person's, another hold's, another address', tampered with: nothing is sold."""
    ada, eve = viewer(), viewer()
    hold, other, hers = await sale.hold(ada), await sale.hold(ada), await sale.hold(eve)
    quote = (await quoted(sale, ada, hold)).quote
    of_other = (await quoted(sale, ada, other)).quote
    of_eve = (await quoted(sale, eve, hers)).quote
    head, claims, mac = quote.split(".")
    swapped = f"{head}.{of_eve.split('.')[1]}.{mac}"
    await sale.stock.release(sale.show, ada.buyer, other)  # type: ignore[arg-type]  # a viewer

    for text, error in (
        (of_other, NotFound),
        (of_eve, NotFound),
        (swapped, BadField),
        (f"{head}.{claims}.{mac[:-4]}AAAA", BadField),
        ("quote", BadField),
        (QuoteSeal(["another shop's secret, of some length"]).seal(_opened(sale, quote)), BadField),
    ):
        with pytest.raises(error, match="quote"):
            await pay(sale, ada, hold, Given(quote=text, shipping="standard", to=HERE))
    for to in (THERE, None):
        with pytest.raises(BadField, match=r"contact\.address"):
            await pay(sale, ada, hold, Given(quote=quote, shipping="standard", to=to))
    for shipping in ("", "free", None):
        with pytest.raises(BadField, match="shipping"):
            await pay(sale, ada, hold, Given(quote=quote, shipping=shipping, to=HERE))
    await nothing_happened(sale, ada, hold)


def _opened(sale: Sale, text: str):  # type: ignore[no-untyped-def]  # a Quote
    return sale.quotes._seal.open(text)


async def test_expired_quote_is_refused(sale: Sale, server_of_shop: HookServer) -> None:
    """At its end to the millisecond; and what the shop promises for longer, we do not."""
    ada = viewer()
    hold = await sale.hold(ada)
    now = time.time_ns() // 1_000_000
    server_of_shop.body = usable(expires_at=in_an_hour())
    clock = _Clock(now)
    timed = Quotes(
        sale.stock, sale.book, sale.desk, sale.quotes._seal, sale.quotes._hook, now_ms=clock
    )
    answer = await timed.quote(ada, sale.show, hold, HERE)
    assert answer.expires_at == now + QUOTE_MS_MAX
    sale.checkout._quotes = timed
    clock.ms = answer.expires_at
    with pytest.raises(BadField, match="expired"):
        await pay(sale, ada, hold, Given(quote=answer.quote, shipping="standard", to=HERE))
    await nothing_happened(sale, ada, hold)
    clock.ms = answer.expires_at - 1
    given = Given(quote=answer.quote, shipping="standard", to=HERE)
    key = new_key()
    first = await pay(sale, ada, hold, given, key=key)
    clock.ms = answer.expires_at + 1
    again = await pay(sale, ada, hold, given, key=key)
    assert again.order == first.order is not None


class _Clock:
    def __init__(self, ms: int) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


async def test_repeat_under_way_is_the_same_bill(sale: Sale, server_of_shop: HookServer) -> None:
    """The same key while the provider thinks: one charge, of what was frozen; another quote or
    another way of shipping is another request."""
    ada, key = viewer(), new_key()
    hold = await sale.hold(ada)
    first = await quoted(sale, ada, hold)
    given = Given(quote=first.quote, shipping="standard", to=HERE)
    first_answer = await sale.pay(ada, hold, "tok_async", key=key, given=given)
    assert first_answer.outcome is Outcome.PROCESSING
    again = await sale.pay(ada, hold, "tok_async", key=key, given=given)
    assert again.outcome is Outcome.PROCESSING
    server_of_shop.body = usable(quote_id="q-2", duties_minor=0)
    another = (await quoted(sale, ada, hold)).quote
    for other in (replace(given, shipping="express"), replace(given, quote=another)):
        with pytest.raises(Conflict):
            await sale.pay(ada, hold, "tok_async", key=key, given=other)
    amounts = await sale.pool.fetch(
        "SELECT amount_minor, totals -> -1 ->> 'amount_minor' AS told FROM payments"
        " WHERE show = $1",
        sale.show,
    )
    assert [tuple(row) for row in amounts] == [(WHOLE, str(WHOLE))]


async def test_first_paid_purchase_has_its_quote(direct_sale: Sale) -> None:
    """By offer and quantity, for nothing else; what it came to is charged."""
    sale, ada = direct_sale, viewer()
    client, offer = make_client(sale), sale.offers[0]
    contact = {"address": {"country": "DE", "postcode": "10115"}}
    answer = await client.call(ada, "order.quote", {"offer": offer, "qty": 1, "contact": contact})
    assert answer["totals"][-1]["amount_minor"] == WHOLE

    given = Given(quote=answer["quote"], shipping="standard", to=HERE)
    with pytest.raises(NotFound, match="another purchase"):
        await sale.buy(ada, key=new_key(), qty=2, given=given)
    with pytest.raises(NotFound, match="unknown quote"):
        await sale.buy(viewer(), key=new_key(), given=given)  # another person, the same purchase
    with pytest.raises(BadField, match="quote"):
        await sale.buy(ada, key=new_key())
    assert await sale.money() == (0, 0)

    paid = await sale.buy(ada, key=new_key(), given=given)
    assert paid.order is not None and paid.order.total_minor == WHOLE
    await sale.work_until("captured", "paid")
    assert await sale.money() == (WHOLE, 0)


async def test_shop_without_hook_sells_as_before(plain_sale: Sale) -> None:
    """No quote is needed; who asks for one is told the prices, and may pay by it."""
    sale, ada = plain_sale, viewer()
    paid = await sale.pay(ada, await sale.hold(ada))
    assert bill(paid) == [("subtotal", PRICE, False), ("total", PRICE, False)]

    hold = await sale.hold(ada)
    answer = await quoted(sale, ada, hold, Destination.of(country="", region="", postcode=""))
    assert (answer.shipping, answer.totals[-1].amount_minor) == ((), PRICE)
    assert answer.expires_at <= time.time_ns() // 1_000_000 + DEFAULT_MS
    nowhere = Destination.of(country="", region="", postcode="")
    paid = await pay(sale, ada, hold, Given(quote=answer.quote, to=nowhere))
    assert paid.order is not None and paid.order.total_minor == PRICE
    with pytest.raises(BadField, match="shipping"):
        await pay(sale, ada, await sale.hold(ada), Given(shipping="standard"))


async def test_refund_of_all_is_of_the_whole_bill(sale: Sale) -> None:
    """Shipping, tax and duty go back with the goods."""
    ada = viewer()
    hold = await sale.hold(ada)
    answer = await quoted(sale, ada, hold)
    await pay(sale, ada, hold, Given(quote=answer.quote, shipping="standard", to=HERE))
    await sale.work_until("captured", "paid")
    await sale.pool.execute(
        "INSERT INTO money_jobs (payment, kind, amount_minor, reason, request)"
        " SELECT id, 'refund', captured_minor, 'test', 'host:' || id FROM payments WHERE show = $1",
        sale.show,
    )
    await sale.work_until("refunded", "refunded")
    assert await sale.money() == (WHOLE, WHOLE)


async def test_return_of_all_brings_shipping_and_tax_back(sale: Sale) -> None:
    """Units come back with their share of what was added, the last of them with the shipping."""
    ada = viewer()
    hold = await sale.hold(ada, 2)
    answer = await quoted(sale, ada, hold)
    paid = await pay(sale, ada, hold, Given(quote=answer.quote, shipping="standard", to=HERE))
    assert paid.order is not None
    await sale.work_until("captured", "paid")
    order = paid.order.order
    await ship(sale, order, 2)

    for _ in range(2):
        await decide(sale, order, await ask_back(sale, order, 1), RECEIVED)
    refunds = [one["refund_minor"] for one in await returns(sale, order)]
    await work(sale)
    await work(sale)

    share = PRICE + (TAX + DUTY) // 2
    assert refunds == [share, share + STANDARD]
    whole = 2 * PRICE + STANDARD + TAX + DUTY
    assert await sale.money() == (whole, whole)
    assert (await proof(sale)).findings == ()


async def test_withdrawal_owes_the_whole_bill(sale: Sale) -> None:
    """After the parcel, too: what was paid for delivery and tax is said, and goes back."""
    ada = viewer()
    hold = await sale.hold(ada, 2)
    answer = await quoted(sale, ada, hold)
    paid = await pay(sale, ada, hold, Given(quote=answer.quote, shipping="standard", to=HERE))
    assert paid.order is not None
    await sale.work_until("captured", "paid")
    order, whole = paid.order.order, 2 * PRICE + STANDARD + TAX + DUTY
    await ship(sale, order, 1)

    said = await WithdrawalRows(sale.pool, days=14).withdraw(order, ada.sub, confirm=True)
    await decide(sale, order, said.order.returns[0]["return"], RECEIVED)
    await work(sale)
    await work(sale)

    assert said.refund_now_minor + said.refund_later_minor == whole
    assert await sale.money() == (whole, whole)
    assert (await proof(sale)).findings == ()


async def test_worker_ends_what_the_buyer_did_not_wait_for(sale: Sale) -> None:
    """A lost answer of the provider: the worker charges the frozen bill, once."""
    ada = viewer()
    hold = await sale.hold(ada)
    answer = await quoted(sale, ada, hold)
    given = Given(quote=answer.quote, shipping="express", to=HERE)
    await sale.pay(ada, hold, "tok_timeout_after_charge", given=given)
    await sale.work_until("captured", "paid")
    assert await sale.money() == (WHOLE - STANDARD + EXPRESS, 0)


BROKEN_BILLS = {
    "payment_totals": "UPDATE payments SET totals = jsonb_set(totals, '{1,amount_minor}', '1')",
    "payment_lines": "UPDATE payments SET amount_minor = amount_minor + 1",
    "order_total": "UPDATE orders SET total_minor = total_minor + 1",
}


@pytest.mark.parametrize("code", ["", *BROKEN_BILLS])
async def test_audit_adds_up_the_bill(sale: Sale, code: str) -> None:
    """A bill as it was paid is quiet; a line or a sum that was changed is found."""
    ada = viewer()
    hold = await sale.hold(ada)
    answer = await quoted(sale, ada, hold)
    await pay(sale, ada, hold, Given(quote=answer.quote, shipping="standard", to=HERE))
    await sale.work_until("captured", "paid")
    if not code:
        assert (await proof(sale)).findings == ()
        return
    await sale.pool.execute(f"{BROKEN_BILLS[code]} WHERE show = $1", sale.show)
    assert code in {one.code for one in (await proof(sale)).mend}


async def test_rehearsal_shows_the_bill(sale: Sale) -> None:
    """Everything is said as it would be; nothing is charged."""
    ada = viewer()
    hold = await sale.hold(ada)
    answer = await quoted(sale, ada, hold)
    followed = sale.followed.followed[sale.show]
    assert followed.state is not None
    followed.state = replace(followed.state, status=ShowStatus.REHEARSAL)
    with pytest.raises(BadField, match="quote"):
        await sale.pay(ada, hold)
    paid = await pay(sale, ada, hold, Given(quote=answer.quote, shipping="standard", to=HERE))
    assert paid.order is not None
    assert (paid.order.total_minor, paid.order.totals) == (WHOLE, answer.totals)
    assert await sale.payment_states() == []


@pytest.fixture
async def client(sale: Sale) -> Client:
    return make_client(sale)


BAD_REQUESTS: list[tuple[Json, str]] = [
    ({"contact": {"address": "1 Mill Lane"}}, "contact.address"),
    ({"contact": {}}, "contact.address"),
    ({"contact": {"address": {"country": "DEU"}}}, "country"),
    ({"contact": {"address": {"country": 49}}}, "contact.address"),
    ({"contact": {"address": {"postcode": "10115"}}}, "country"),
    ({"contact": {"address": {"country": "DE", "postcode": "1" * 65}}}, "postcode"),
    ({"contact": {"address": {"country": "DE", "amount_minor": 0}}}, "amount_minor"),
    ({"contact": {"address": {"country": "DE"}}, "amount_minor": 0}, "amount_minor"),
    ({"contact": {"address": {"country": "DE"}}, "qty": 1}, "qty"),
    ({}, "contact"),
]


@pytest.mark.parametrize(("request_", "field"), BAD_REQUESTS)
async def test_bad_request_names_its_field(client: Client, request_: Json, field: str) -> None:
    hold = await client.sale.hold(ada := viewer())
    with pytest.raises(BadField, match=field):
        await client.call(ada, "order.quote", {"hold": key_text(hold), **request_})


async def test_quote_of_an_unknown_hold_is_refused(
    client: Client, server_of_shop: HookServer
) -> None:
    """Nobody's, and somebody else's; the shop is not asked."""
    hers = await client.sale.hold(viewer())
    contact = {"address": {"country": "DE"}}
    for hold in (str(uuid4()), key_text(hers)):
        with pytest.raises(NotFound):
            await client.call(viewer(), "order.quote", {"hold": hold, "contact": contact})
    assert server_of_shop.asked == []


async def test_one_connection_asks_as_often_as_a_form_is_filled_in(client: Client) -> None:
    """Beyond it the answer is temporary; another connection is not concerned."""
    hold = await client.sale.hold(ada := viewer())
    request = {"hold": key_text(hold), "contact": {"address": {"country": "DE"}}}
    with pytest.raises(Busy):
        for _ in range(20):
            await client.call(ada, "order.quote", request)
    await client.call(ada, "order.quote", request, connection="two")


async def test_longest_quote_passes_the_bound(client: Client, server_of_shop: HookServer) -> None:
    """All that a hook may answer comes back in a checkout."""
    label = "\U0001f4e6" * LABEL_CHARS_MAX
    server_of_shop.body = json.dumps(
        usable(
            shipping=[
                {"id": f"{n}" * 64, "label": label, "amount_minor": 10**9, "days": 365}
                for n in range(CHOICES_MAX)
            ],
            tax=[{"label": label, "amount_minor": 10**9, "inclusive": False}] * TAXES_MAX,
            quote_id="q" * 255,
        )
    ).encode()
    hold = await client.sale.hold(ada := viewer())
    address = {"country": "DE", "region": "\U0001f4e6" * 64, "postcode": "\U0001f4e6" * 64}
    request = {"hold": key_text(hold), "contact": {"address": address}}
    answer = await client.call(ada, "order.quote", request)
    assert len(answer["shipping"]) == CHOICES_MAX
    assert QUOTE_CHARS_MAX * 0.7 < len(answer["quote"]) <= QUOTE_CHARS_MAX
    paid = await client.call(
        ada,
        "hold.checkout",
        request
        | {
            "key": str(uuid4()),
            "provider": "sandbox",
            "token": "tok_approve",
            "shipping": "0" * 64,
            "quote": answer["quote"],
        },
    )
    assert paid["order"]["total_minor"] == PRICE + 10**9 * (1 + TAXES_MAX) + DUTY
