"""Ways to pay are the shop's choice: what it does not take, or a show or an offer takes not, moves
nothing. Method: real checkouts; then what stock, ledger and provider know of them."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from live.base.errors import BadField
from live.buying.checkout import Checkout
from live.buying.ways import WaysToPay
from live.domain.hold import Line
from live.domain.ids import ShowId
from live.domain.offer import Mode, Stock
from live.domain.outcomes import Outcome
from live.domain.show import ShowStatus
from live.ledger.db.pool import Pool
from tests.support.sale_kit import INVOICE, Sale, new_key, open_sale, viewer
from tests.support.sandbox import SandboxServer


@pytest.fixture
async def cards(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """A shop that takes cards alone; two offers."""
    async with open_sale(pool, redis_url, server, show, units=(10, 10), ways=("sandbox",)) as sale:
        yield sale


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """A shop that takes cards and invoices; two offers."""
    async with open_sale(pool, redis_url, server, show, units=(10, 10)) as sale:
        yield sale


@pytest.fixture
async def rush(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    """The same in `first_paid` mode."""
    async with open_sale(pool, redis_url, server, show, mode=Mode.FIRST_PAID) as sale:
        yield sale


def narrow(sale: Sale, *, show: tuple[str, ...] = (), **offers: tuple[str, ...]) -> None:
    """The host narrows the ways of the show, or of the offers in slots `s0`, `s1`."""
    room = sale.followed.followed[sale.show]
    assert room.state is not None
    terms = tuple(
        replace(one, providers=offers.get(f"s{one.slot}", ())) for one in room.state.offers
    )
    room.state = replace(room.state, offers=terms, providers=show)


async def nothing_happened(sale: Sale) -> None:
    assert await sale.pool.fetchval("SELECT count(*) FROM payments") == 0


async def test_way_that_the_shop_does_not_take_pays_nothing(cards: Sale) -> None:
    """Delivery without payment is nothing that a buyer may choose; their hold stays as it was."""
    ada = viewer()
    hold = await cards.hold(ada, 2)
    with pytest.raises(BadField, match=r"^provider: is none of sandbox$"):
        await cards.pay(ada, hold, **INVOICE)
    await nothing_happened(cards)
    assert await cards.figures() == Stock(left=8, held=2, sold=0)
    assert (await cards.pay(ada, hold)).outcome is Outcome.CONFIRMED


async def test_way_that_the_shop_does_not_take_buys_nothing_directly(rush: Sale) -> None:
    """Nor where units go to whoever paid first."""
    narrow(rush, show=("sandbox",))
    with pytest.raises(BadField, match=r"^provider: is none of sandbox$"):
        await rush.buy(viewer(), key=new_key(), **INVOICE)
    narrow(rush, s0=("sandbox",))
    with pytest.raises(BadField, match=r"^provider: is none of sandbox$"):
        await rush.buy(viewer(), key=new_key(), **INVOICE)
    await nothing_happened(rush)
    assert await rush.figures() == Stock(left=10, held=0, sold=0)


async def test_show_narrows_the_shop_and_cannot_widen_it(cards: Sale) -> None:
    """What a show names beyond the shop's ways opens nothing."""
    ada = viewer()
    narrow(cards, show=("invoice", "sandbox"))
    with pytest.raises(BadField, match=r"^provider: is none of sandbox$"):
        await cards.pay(ada, await cards.hold(ada), **INVOICE)
    narrow(cards, show=("invoice",))
    with pytest.raises(BadField, match=r"^provider: "):
        await cards.pay(ada, await cards.hold(ada))
    await nothing_happened(cards)


async def test_cart_is_paid_in_the_ways_that_all_its_offers_take(sale: Sale) -> None:
    """An offer by itself may be invoiced; together with one that may not, it may not."""
    narrow(sale, s0=("sandbox",), s1=("invoice", "sandbox"))
    ada, cart, alone = viewer(), new_key(), new_key()
    await sale.try_hold(ada, cart, Line(0, 1), Line(1, 1))
    await sale.try_hold(ada, alone, Line(1, 1))
    with pytest.raises(BadField, match=r"^provider: is none of sandbox$"):
        await sale.pay(ada, cart, **INVOICE)
    await nothing_happened(sale)
    assert (await sale.pay(ada, alone, **INVOICE)).outcome is Outcome.CONFIRMED
    assert (await sale.pay(ada, cart)).outcome is Outcome.CONFIRMED


async def test_guest_never_pays_by_invoice(sale: Sale) -> None:
    """Whatever is narrowed: nobody knows who they are, and they need never pay such an order."""
    ada = viewer()
    guest = replace(ada, guest=True)
    hold, cart = await sale.hold(ada), new_key()
    await sale.try_hold(ada, cart, Line(0, 1), Line(1, 1))
    for narrowed in ({"show": ("invoice",)}, {"s0": ("invoice",)}, {}):
        narrow(sale, **narrowed)
        with pytest.raises(BadField, match=r"^provider: guests cannot pay by invoice"):
            await sale.pay(guest, cart, **INVOICE)
    await nothing_happened(sale)
    assert (await sale.pay(guest, cart)).outcome is Outcome.CONFIRMED
    narrow(sale, show=("invoice",))
    assert (await sale.pay(ada, hold, **INVOICE)).outcome is Outcome.CONFIRMED


async def test_wrong_way_leaves_a_hold_that_is_being_paid_alone(sale: Sale) -> None:
    """A second call in a way that is not taken does not disturb the first."""
    narrow(sale, s0=("sandbox",))
    ada = viewer()
    hold = await sale.hold(ada)
    began = await sale.pay(ada, hold, "tok_action_required")
    assert began.outcome is Outcome.ACTION_REQUIRED
    with pytest.raises(BadField):
        await sale.pay(ada, hold, **INVOICE)
    assert await sale.payment_states() == [("action_required", None)]


async def test_repeat_is_told_the_truth_after_its_way_was_closed(sale: Sale) -> None:
    """What began when the way was open comes to its end; a new purchase does not begin."""
    ada, key = viewer(), new_key()
    hold = await sale.hold(ada)
    first = await sale.pay(ada, hold, key=key, **INVOICE)
    closed = _with_ways(sale, ("sandbox",))
    again = await replace(sale, checkout=closed).pay(ada, hold, key=key, **INVOICE)
    await closed.close(seconds=0)
    assert again.order == first.order is not None


def _with_ways(sale: Sale, ways: tuple[str, ...]) -> Checkout:
    """The checkout of another process, whose shop takes these ways."""
    return Checkout(
        sale.stock,
        sale.payments,
        sale.orders,
        sale.checkout._providers,
        ways=WaysToPay(ways),
        book=sale.book,
        desk=sale.desk,
        quotes=sale.quotes,
        waiters=sale.waiters,
    )


@pytest.mark.parametrize(
    ("contact", "field"),
    [
        (None, "contact.name"),
        (b"{}", "contact.name"),
        (b'{"name": " ", "address": "1 Mill Lane"}', "contact.name"),
        (b'{"name": "Ada"}', "contact.address"),
        (b'{"name": "Ada", "address": " \\n", "email": "ada@shop.example"}', "contact.address"),
    ],
)
async def test_invoice_needs_somebody_to_deliver_to(
    sale: Sale, contact: bytes | None, field: str
) -> None:
    """Whatever the page asks: a client without a page is asked by the server."""
    ada = viewer()
    with pytest.raises(BadField, match=f"^{field}: "):
        await sale.pay(ada, await sale.hold(ada), None, provider="invoice", contact=contact)
    await nothing_happened(sale)


async def test_rehearsed_checkout_takes_the_same_ways(cards: Sale) -> None:
    """Who tries the show out finds out what will not work."""
    room = cards.followed.followed[cards.show]
    assert room.state is not None
    room.state = replace(room.state, status=ShowStatus.REHEARSAL)
    ada = viewer()
    hold = await cards.hold(ada)
    with pytest.raises(BadField, match=r"^provider: "):
        await cards.pay(ada, hold, **INVOICE)
    assert (await cards.pay(ada, hold)).outcome is Outcome.CONFIRMED
