"""What becomes an event, and what it tells. Method: the real commands and settlement."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import orjson
import pytest

from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import Mode
from live.domain.outgoing.webhooks import DATA_BYTES_MAX
from live.domain.payment import PaymentState
from live.ledger.db.pool import Pool
from live.ledger.events.render import shorten
from live.ledger.hosting.catalogue import Catalogue, NewProduct
from live.ledger.hosting.offer_rows import NewOffer, OfferRows
from live.ledger.hosting.shows import NewShow, ShowPatch, ShowRows
from tests.support.events_kit import Out, going_out
from tests.support.ledger_kit import Sale, new_buyer, new_payment
from tests.support.shows_kit import HOST


@pytest.fixture
async def out(pool: Pool) -> AsyncIterator[Out]:
    async with going_out(pool) as found:
        yield found


def product(sku: str, on_hand: int = 100, title: str = "Lamp") -> NewProduct:
    return NewProduct(
        sku=Sku(sku),
        title=title,
        description="",
        image_url="",
        price_minor=1_000,
        currency="EUR",
        on_hand=on_hand,
    )


def offer(show: ShowId, sku: str, quantity: int = 5) -> NewOffer:
    return NewOffer(
        id=OfferId(f"{show}-o"),
        sku=Sku(sku),
        price_minor=900,
        quantity=quantity,
        per_buyer_limit=2,
        hold_seconds=60,
        mode=Mode.HOLD,
    )


async def test_show_and_its_offer_are_told_step_by_step(out: Out, show: ShowId) -> None:
    """Each status and phase once, in order; a draft and its end are nobody's news."""
    shows, offers = ShowRows(out.pool), OfferRows(out.pool)
    await Catalogue(out.pool).create(product("lamp"))
    await shows.create(NewShow(id=show, title="Evening", currency="EUR"), HOST)
    await shows.patch(show, ShowPatch(title="Night"), HOST)
    await offers.create(show, offer(show, "lamp"), HOST)
    await shows.start(show, HOST)
    await offers.open(OfferId(f"{show}-o"), HOST)
    await offers.mark_sold_out(OfferId(f"{show}-o"), HOST)
    await offers.resume(OfferId(f"{show}-o"), HOST)
    await offers.restock(OfferId(f"{show}-o"), 3, HOST)
    await shows.pause(show, HOST)
    await shows.resume(show, HOST)
    await shows.end(show, HOST)

    told = await out.told()

    assert told == [
        ("product.created", "product:lamp"),
        ("stock.adjusted", "product:lamp"),
        *((f"show.{what}", f"show:{show}") for what in ("created", "updated", "started")),
        *((f"offer.{what}", f"offer:{show}-o") for what in ("opened", "sold_out", "restocked")),
        ("offer.restocked", f"offer:{show}-o"),
        *((f"show.{what}", f"show:{show}") for what in ("paused", "resumed", "ended")),
    ]
    assert (await out.data("show.ended"))["status"] == "ended"
    restocked = await out.data("offer.restocked")
    assert (restocked["quantity"], restocked["sold"], restocked["sold_out"]) == (8, 0, False)


async def test_rehearsal_is_no_event(out: Out, show: ShowId) -> None:
    """Of all that is done between its beginning and its end nothing is told but a new title."""
    shows, offers = ShowRows(out.pool), OfferRows(out.pool)
    await Catalogue(out.pool).create(product("lamp"))
    await shows.create(NewShow(id=show, title="Evening", currency="EUR"), HOST)
    await shows.patch(show, ShowPatch(rehearsal_passcode="sesame"), HOST)
    await offers.create(show, offer(show, "lamp"), HOST)
    before = await out.told()

    await shows.rehearse(show, HOST)
    await offers.open(OfferId(f"{show}-o"), HOST)
    await offers.mark_sold_out(OfferId(f"{show}-o"), HOST)
    await offers.resume(OfferId(f"{show}-o"), HOST)
    await shows.pin(show, [Sku("lamp")], HOST)
    await shows.announce(show, "only us", None, HOST)
    await offers.close(OfferId(f"{show}-o"), HOST)
    await shows.patch(show, ShowPatch(title="Night"), HOST)
    await shows.end(show, HOST)

    assert (await out.told())[len(before) :] == [("show.updated", f"show:{show}")]
    assert before[-1] != ("show.updated", f"show:{show}")  # nor is a passcode


async def test_sale_is_told_from_order_to_refund(out: Out, sale: Sale) -> None:
    """Confirmed by the settlement, paid by the capture, refunded by what went back."""
    paid = await sale.buy(new_buyer("ann"))
    await sale.settle()
    await sale.rows.record(paid.id, PaymentState.CAPTURED)
    await sale.rows.record(paid.id, PaymentState.REFUNDED)

    told = [one for one in await out.told() if one[0].startswith("order.")]

    assert told == [
        (f"order.{what}", f"order:{paid.order}") for what in ("confirmed", "paid", "refunded")
    ]
    data = await out.data("order.refunded")
    assert (data["order"], data["state"]) == (paid.order, "refunded")
    assert data["refunded_minor"] == data["total_minor"] > 0


async def test_parcel_return_and_withdrawal_are_told(out: Out, sale: Sale) -> None:
    """Each with its order, and with which of them it was."""
    paid = await sale.buy(new_buyer("ann"))
    await sale.settle()
    shipment = await out.pool.fetchval(
        """INSERT INTO shipments (order_id, carrier, tracking_number) VALUES ($1, 'DHL', '1')
           RETURNING id""",
        paid.order,
    )
    await out.pool.execute("INSERT INTO shipment_items VALUES ($1, 1, 1)", shipment)
    await out.pool.execute("UPDATE shipments SET tracking_number = '2'")
    await out.pool.execute("UPDATE shipments SET status = 'delivered'")
    back = await out.pool.fetchval(
        "INSERT INTO returns (order_id, reason) VALUES ($1, 'too big') RETURNING id", paid.order
    )
    await out.pool.execute("INSERT INTO return_items VALUES ($1, 1, 1)", back)
    await out.pool.execute("UPDATE returns SET state = 'approved'")
    await out.pool.execute("UPDATE returns SET reason = 'far too big'")
    await out.pool.execute(
        "INSERT INTO withdrawals (order_id, statement) VALUES ($1, 'I withdraw')", paid.order
    )

    told = [type for type, subject in await out.told() if subject == f"order:{paid.order}"]

    assert told == [
        "order.confirmed",
        *("order.shipped", "order.delivered"),
        *("order.return_requested", "order.return_updated", "order.withdrawn"),
    ]
    assert (await out.data("order.shipped"))["shipment"] == str(shipment)
    assert (await out.data("order.delivered"))["order"] == paid.order
    assert (await out.data("order.return_updated"))["return"] == str(back)


async def test_declined_payment_is_told_without_its_token(out: Out, sale: Sale) -> None:
    new = new_payment(sale.show, new_buyer("ann"))
    await sale.rows.open_payment(new)
    await sale.rows.record(new.id, PaymentState.DECLINED, reason="no funds")

    data = await out.data("payment.failed")

    assert data["reason"] == "no funds" and data["payment"] == new.id and data["sub"] == "ann"
    assert not data.keys() & {"token", "contact", "action", "provider_ref"}
    assert (await out.told())[-1] == ("payment.failed", f"order:{new.order}")


async def test_stock_is_told_by_its_difference(out: Out) -> None:
    catalogue = Catalogue(out.pool)
    await catalogue.create(product("lamp", 10))
    await catalogue.adjust(Sku("lamp"), delta=-3, reason="broken", key="k1")
    await catalogue.adjust(Sku("lamp"), delta=-3, reason="broken", key="k1")

    data = await out.data("stock.adjusted")

    assert (data["delta"], data["reason"], data["on_hand"]) == (-3, "broken", 7)
    assert [type for type, _ in await out.told()].count("stock.adjusted") == 2


async def test_product_is_told_where_a_feed_changes_it(out: Out) -> None:
    """What is the same in the new feed is no event; stock alone is none of the product's."""
    catalogue = Catalogue(out.pool)
    await catalogue.upsert([product("a"), product("b")])
    await catalogue.upsert([product("a"), product("b", title="Big lamp"), product("c")])

    told = [one for one in await out.told() if one[0].startswith("product.")]

    assert told == [
        ("product.created", "product:a"),
        ("product.created", "product:b"),
        ("product.created", "product:c"),
        ("product.updated", "product:b"),
    ] or told == [
        ("product.created", "product:a"),
        ("product.created", "product:b"),
        ("product.updated", "product:b"),
        ("product.created", "product:c"),
    ]


async def test_granted_place_is_told(out: Out, sale: Sale) -> None:
    buyer = new_buyer("ann")
    await out.pool.execute(
        """INSERT INTO waitlist (show, offer, buyer, sub, key, qty, state)
           VALUES ($1, $2, $3, 'ann', $4, 2, 'waiting')""",
        sale.show,
        f"{sale.show}-offer-0",
        buyer.id,
        uuid4(),
    )
    await out.pool.execute("UPDATE waitlist SET state = 'granted', seq = 1")

    data = await out.data("waitlist.granted")

    assert (data["sub"], data["qty"], data["offer"]) == ("ann", 2, f"{sale.show}-offer-0")


async def test_order_of_one_subject_is_kept_and_positions_have_no_gap(out: Out, sale: Sale) -> None:
    """Two transactions at once: the later one to commit comes behind, whatever its numbers."""
    first = await out.pool.acquire()
    transaction = first.transaction()
    await transaction.start()
    await first.execute("UPDATE shows SET title = 'one' WHERE id = $1", sale.show)
    await Catalogue(out.pool).create(product("lamp"))
    await out.place()
    await transaction.commit()
    await out.pool.release(first)
    await out.pool.execute("UPDATE shows SET title = 'two' WHERE id = $1", sale.show)

    await out.place()

    rows = await out.pool.fetch("SELECT id, position, type FROM events ORDER BY position")
    assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
    late, last = rows[-2], rows[-1]
    assert late["type"] == last["type"] == "show.updated"
    assert late["id"] < rows[-3]["id"] < last["id"]


async def test_two_sequencers_place_each_event_once(out: Out, sale: Sale) -> None:
    for _ in range(8):
        await sale.buy(new_buyer())
    await sale.settle()

    results = await asyncio.gather(
        *(out.sequencer.place() for _ in range(4)), return_exceptions=True
    )

    assert any(isinstance(one, int) and one > 0 for one in results)
    await out.place()
    rows = await out.pool.fetch("SELECT position FROM events ORDER BY position")
    assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))


def test_what_is_too_long_is_left_out_and_named() -> None:
    """The longest members go until it fits; the ids stay."""
    text = shorten({"sku": "lamp", "description": "x" * 20_000, "images": ["y" * 900] * 20})

    data = orjson.loads(text)
    assert len(text) <= DATA_BYTES_MAX
    assert data == {"sku": "lamp", "shortened": ["description", "images"]}


async def test_event_that_cannot_be_rendered_stops_no_other(out: Out, sale: Sale) -> None:
    """It is placed with what its row says."""
    await out.pool.execute("INSERT INTO events (type, subject) VALUES ('order.paid', 'order:x')")
    await Catalogue(out.pool).create(product("lamp"))

    await out.place()

    assert (await out.data("order.paid")) == {"order": "x"}
    assert (await out.data("product.created"))["sku"] == "lamp"
