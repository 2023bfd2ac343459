"""Small parts of a sale: offers by id, what a buyer has, and who waits for an order."""

from dataclasses import replace

import orjson
import pytest

from live.base.errors import Busy, NotFound
from live.buying.me import ORDERS_MAX, me_view, orders_told
from live.buying.offers import OfferBook
from live.buying.waiters import OrderWaiters
from live.domain.events import OrderEvent
from live.domain.hold import HoldState, Line, LiveHold, Waiting
from live.domain.ids import BuyerId, HoldKey, OfferId, OrderId, ShowId, Sku, key_text
from live.domain.offer import Mode
from live.domain.order import OrderItem, OrderState, OrderView
from live.domain.payment import PricedLine
from live.domain.stock import BuyerState
from live.payments.decisions import BACKOFF_SECONDS, BACKOFF_SECONDS_MAX, backoff_ms
from tests.support.ledger_kit import PRICE
from tests.support.sale_kit import StaticShow, StaticShows, offer_terms, show_state

SHOW = ShowId("demo")
BUYER = BuyerId(bytes(16))
KEY, OTHER = HoldKey(bytes(15) + b"\1"), HoldKey(bytes(15) + b"\2")


@pytest.fixture
def followed() -> StaticShows:
    """A show with two offers."""
    terms = tuple(
        offer_terms(SHOW, OfferId(name), slot=slot, units=5, mode=Mode.HOLD)
        for slot, name in enumerate(["mug", "cup"])
    )
    return StaticShows({SHOW: StaticShow(show_state(SHOW, terms))})


def test_offers_follow_the_newest_state(followed: StaticShows) -> None:
    """The index of an old state is not used for a new one."""
    book = OfferBook(followed)
    before = book.of(SHOW)
    assert book.of(SHOW) is before
    state = followed.followed[SHOW].state
    assert state is not None
    followed.followed[SHOW].state = replace(state, version=2, offers=state.offers[:1])
    with pytest.raises(NotFound):
        book.of(SHOW).named("cup")


def test_show_that_was_joined_is_lost_for_a_moment_and_never_gone(followed: StaticShows) -> None:
    """Without a room, or a state of it, a repeat is asked for: Redis lost it, or is away."""
    book = OfferBook(followed)
    with pytest.raises(Busy):
        book.of(ShowId("elsewhere"))
    followed.followed[SHOW].state = None
    with pytest.raises(Busy):
        book.of(SHOW)


def test_price_is_the_offers(followed: StaticShows) -> None:
    """Lines get their prices from the terms and from nowhere else."""
    priced = OfferBook(followed).of(SHOW).priced((Line(0, 2), Line(1, 1)))
    assert priced == (PricedLine(0, 2, PRICE), PricedLine(1, 1, PRICE))


def test_me_shows_live_holds_and_places(followed: StaticShows) -> None:
    """Held and paying holds with their prices, and places in line."""
    has = BuyerState(
        (
            LiveHold(KEY, HoldState.HELD, (Line(0, 2),), 1_000),
            LiveHold(OTHER, HoldState.CONFIRMED, (Line(0, 1),), 0),
        ),
        (Waiting(1, OTHER, 3, 7),),
    )
    me = me_view(OfferBook(followed).of(SHOW), has)
    assert [(hold.hold, hold.items[0].price_minor) for hold in me.holds] == [(key_text(KEY), PRICE)]
    assert [(place.offer, place.qty, place.position) for place in me.waitlist] == [("cup", 3, 7)]


def told(order: int, kind: str, state: OrderState, *, refunded: int = 0) -> bytes:
    view = OrderView(
        order=OrderId(f"order-{order}"),
        hold=key_text(KEY),
        show=SHOW,
        state=state,
        sub="ada",
        items=(
            OrderItem(
                line=1, offer=OfferId("mug"), sku=Sku("mug"), title="Mug", qty=1, price_minor=PRICE
            ),
        ),
        totals=(),
        total_minor=PRICE,
        refunded_minor=refunded,
        currency="EUR",
        created_at=order,
        updated_at=order,
    )
    return orjson.dumps({"type": kind, "at": 1, "order": view})


def test_me_shows_each_order_as_it_was_told_last() -> None:
    """The newest event of an order counts, other events pass by; the newest order comes first."""
    newest_first = [
        told(1, "order.refunded", OrderState.REFUNDED, refunded=PRICE),
        orjson.dumps({"type": "chat.message", "at": 1, "text": "mine alone"}),
        told(2, "order.confirmed", OrderState.CONFIRMED),
        orjson.dumps({"type": "payment.failed", "at": 1, "hold": key_text(OTHER), "reason": ""}),
        told(1, "order.confirmed", OrderState.CONFIRMED),
    ]
    orders = orders_told(newest_first)
    assert [(order.order, order.state) for order in orders] == [
        ("order-2", OrderState.CONFIRMED),
        ("order-1", OrderState.REFUNDED),
    ]
    assert [(item.offer, item.price_minor) for item in orders[0].items] == [("mug", PRICE)]


def test_me_shows_a_bounded_number_of_orders() -> None:
    """The bound itself is shown whole; one more costs the oldest."""
    events = [
        told(n, "order.confirmed", OrderState.CONFIRMED) for n in range(ORDERS_MAX + 1, 0, -1)
    ]
    assert len(orders_told(events[1:])) == ORDERS_MAX
    assert [order.created_at for order in orders_told(events)][-1] == 2


def test_me_survives_an_event_of_another_version() -> None:
    """What cannot be read is left out: it must not keep the buyer from their show."""
    strange = orjson.dumps({"type": "order.confirmed", "at": 1, "order": {"id": 7}})
    orders = orders_told([strange, told(1, "order.confirmed", OrderState.CONFIRMED)])
    assert [order.order for order in orders] == ["order-1"]


def test_me_leaves_out_offers_that_are_not_known_yet(followed: StaticShows) -> None:
    """An offer added a moment ago does not break anybody's connect."""
    has = BuyerState((LiveHold(KEY, HoldState.HELD, (Line(9, 1),), 1),), (Waiting(9, KEY, 1, 1),))
    me = me_view(OfferBook(followed).of(SHOW), has)
    assert (me.holds, me.waitlist) == ((), ())


def order_event(key: HoldKey) -> bytes:
    order = OrderView(
        order=OrderId(key_text(KEY)),
        hold=key_text(key),
        show=SHOW,
        state=OrderState.CONFIRMED,
        sub="ada",
        items=(),
        totals=(),
        total_minor=1,
        refunded_minor=0,
        currency="EUR",
        created_at=1,
        updated_at=1,
    )
    return orjson.dumps(OrderEvent(type="order.confirmed", at=1, order=order))


async def test_waiter_is_woken_by_its_own_order_only() -> None:
    """Another hold's order, another buyer's and other kinds of events pass by."""
    waiters = OrderWaiters()
    with waiters.expect(SHOW, BUYER, KEY) as waiter:
        waiters.tap(SHOW, BUYER, "order.confirmed", order_event(OTHER))
        waiters.tap(SHOW, BuyerId(b"x" * 16), "order.confirmed", order_event(KEY))
        waiters.tap(SHOW, BUYER, "hold.expired", b"{}")
        waiters.tap(SHOW, BUYER, "order.confirmed", b"no JSON")
        assert await waiter.order(seconds=0) is None
        waiters.tap(SHOW, BUYER, "order.confirmed", order_event(KEY))
        waiters.tap(SHOW, BUYER, "order.confirmed", order_event(KEY))
        order = await waiter.order(seconds=0)
    assert order is not None
    assert order.hold == key_text(KEY)


async def test_waiters_leave_nothing_behind() -> None:
    """Two waits for one hold are both woken; afterwards nobody is remembered."""
    waiters = OrderWaiters()
    with waiters.expect(SHOW, BUYER, KEY) as one, waiters.expect(SHOW, BUYER, KEY) as two:
        assert len(waiters) == 2
        waiters.tap(SHOW, BUYER, "order.confirmed", order_event(KEY))
        assert await one.order(seconds=0) == await two.order(seconds=0) is not None
    assert len(waiters) == 0


@pytest.mark.parametrize("tries", [0, 1, 5, 20, 1_000_000])
def test_backoff_grows_within_its_bounds(tries: int) -> None:
    """However often something was tried, the next try is never out of bounds."""
    assert 500 * BACKOFF_SECONDS <= backoff_ms(tries) <= 1_000 * BACKOFF_SECONDS_MAX
