"""Settlement: a batch of movements of one show becomes ledger rows, in one transaction.

Always: a sale that does not fit is undone alone: its money goes back and Redis is to take its units
back (`sales_to_undo`), while the others go on. Only where the ledger itself has fewer units than
Redis sold is the whole stock doubted. Units sold never pass what is allotted (decided under the
offers' locks, and by a CHECK); an order exists once per (show, buyer, key) and its counters,
movements, jobs and notices follow from the rows that the INSERT really made, so a redelivery does
nothing.
Locks in the order show, holds, offers by id (all that a batch concerns, at once), payments,
products; every settler keeps it.
Not here: reading, acknowledging and announcing (settler.py).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

import asyncpg

from live.domain.hold import Movement, MovementKind
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.payment import EXTERNAL, INVOICE
from live.domain.payment_states import FINAL, REFUNDABLE
from live.ledger.db.pool import Connection
from live.ledger.settle import sql
from live.ledger.settle.journal import journal
from live.ledger.settle.offers_by_slot import OfferFacts

SELLS = frozenset({MovementKind.CONFIRMED, MovementKind.SOLD, MovementKind.RETAKEN})
SETTLE_TIMEOUT_SECONDS = 10.0  # of one statement over ~1,000 orders; tens of ms on an idle machine

SOLD_OUT = "the offer is sold out in the ledger"
TAKEN_BACK_TWICE = "units of an order that the shop had cancelled were given back"
SOLD_AGAIN = "this hold had an order already"

_NAMELESS = UUID("6f6c6976-6500-4000-8000-000000000001")
"""Space of the ids of orders that have no payment row to take one from."""

Identity = tuple[BuyerId, HoldKey]


@dataclass(frozen=True, slots=True)
class OrderVerdict:
    """What the ledger makes of one sale: the row of its order."""

    movement: Movement
    order: UUID
    payment: UUID | None
    sub: str
    state: str  # confirmed | paid | cancelled | rejected
    reason: str
    total_minor: int
    currency: str
    prices: tuple[int, ...]  # one a line
    job: str  # capture | void | refund, "" where no money is to be moved
    job_amount_minor: int
    reference: str | None = None  # the shop's own number for what was paid at its own checkout


@dataclass(slots=True)
class Settled:
    """What one transaction did, for metrics, alarms and the notice sender."""

    orders: int = 0
    rejected: int = 0
    cancelled: int = 0


class UnknownOffer(Exception):
    """A movement names a slot that Postgres does not know; its entry is put aside."""


async def settle(
    connection: Connection,
    show: ShowId,
    movements: Sequence[Movement],
    offers: dict[int, OfferFacts],
) -> Settled:
    """Write everything that these movements say but `closed`; called inside a transaction.

    `movements` are in stream order. Raises UnknownOffer, and DATA_FAULTS for rows that no repeat
    would make acceptable.
    """
    for one in movements:
        for line in one.lines:
            if line.slot not in offers:
                raise UnknownOffer(f"slot {line.slot} of show {show}")
    cancelled = [one for one in movements if one.kind is MovementKind.CANCELLED]
    await connection.execute(sql.LOCK_SHOW_TO_CHANGE if cancelled else sql.LOCK_SHOW, show)
    await journal(connection, show, movements)
    done = Settled()
    sales = _first_of_each([one for one in movements if one.kind in SELLS])
    free = await _free_units(connection, show, [*sales, *cancelled], sql.LOCK_OFFERS)
    if cancelled:
        # First: what they free may have been sold again behind them, in this very batch.
        done.cancelled = await _cancel(connection, show, cancelled)
        free = await _free_units(connection, show, sales, sql.READ_OFFERS)
    if sales:
        await _settle_sales(connection, show, sales, offers, free, done)
        if cancelled:  # orders of this batch
            done.cancelled += await _cancel(connection, show, cancelled)
    return done


def _first_of_each(sales: Sequence[Movement]) -> list[Movement]:
    """One sale per identity: a hold is sold once, whatever the stream repeats."""
    first: dict[Identity, Movement] = {}
    for one in sales:
        first.setdefault((one.buyer, one.key), one)
    return list(first.values())


async def _free_units(
    connection: Connection, show: ShowId, movements: Sequence[Movement], statement: str
) -> dict[int, int]:
    """The units of each offer that are not sold, by slot; true until we commit."""
    slots = {line.slot for one in movements for line in one.lines}
    if not slots:
        return {}
    rows = await connection.fetch(statement, show, list(slots), timeout=SETTLE_TIMEOUT_SECONDS)
    return {row["slot"]: row["allotted"] - row["sold"] for row in rows}


async def _settle_sales(
    connection: Connection,
    show: ShowId,
    sales: Sequence[Movement],
    offers: dict[int, OfferFacts],
    free: dict[int, int],
    done: Settled,
) -> None:
    buyers, keys = [one.buyer for one in sales], [UUID(bytes=one.key) for one in sales]
    taken = await connection.fetch(
        sql.TAKE_PAYMENTS, show, buyers, keys, timeout=SETTLE_TIMEOUT_SECONDS
    )
    ours = {row["id"] for row in taken}
    known = await connection.fetch(sql.LOOK, show, buyers, keys, timeout=SETTLE_TIMEOUT_SECONDS)
    facts = {(row["buyer"], row["key"].bytes): row for row in known}
    verdicts = [
        verdict
        for one in sales
        if (verdict := _judge(one, facts.get((one.buyer, one.key)), ours, free, offers))
    ]
    made = await _write(connection, show, verdicts, offers) if verdicts else []
    rejected = [verdict for verdict in made if verdict.state == "rejected"]
    done.orders = len(made) - len(rejected)
    accepted = {verdict.payment for verdict in made if verdict.state == "confirmed"}
    refused = ours - accepted
    if refused:
        await connection.execute(
            sql.GIVE_BACK_PAYMENTS, list(refused), timeout=SETTLE_TIMEOUT_SECONDS
        )
    again = [one for one in sales if _is_sold_again(one, facts[one.buyer, one.key], ours)]
    done.rejected = len(rejected) + len(again)
    if done.rejected:
        await _undo(connection, show, rejected, again, [facts[one.buyer, one.key] for one in again])


def _is_sold_again(one: Movement, row: asyncpg.Record, ours: set[UUID]) -> bool:
    """Whether a hold was sold that had become an order: of another payment, or one that is over.

    A redelivery is no such sale: it is as old as the order.
    """
    if row["order_id"] is None:
        return False
    another = row["payment"] in ours and row["order_payment"] != row["payment"]
    return another or (not row["order_stands"] and one.seq > row["order_seq"])


async def _undo(
    connection: Connection,
    show: ShowId,
    rejected: Sequence[OrderVerdict],
    again: Sequence[Movement],
    facts: Sequence[asyncpg.Record],
) -> None:
    """Have Redis take back what it sold; doubt all of its stock only where it sold too much."""
    if again:
        payments = [row["payment"] for row in facts if row["payment"] is not None]
        await connection.execute(
            sql.VOID_PAYMENTS, payments, SOLD_AGAIN, timeout=SETTLE_TIMEOUT_SECONDS
        )
    short = any(one.reason == SOLD_OUT for one in rejected)
    # To undo it by its key would cancel the order that has the same.
    short = short or any(row["order_stands"] for row in facts)
    if short:
        await connection.execute(sql.DOUBT, show, SOLD_OUT)
        return
    odd = [(one.movement, one.reason) for one in rejected] + [(one, SOLD_AGAIN) for one in again]
    await connection.execute(
        sql.UNDO,
        show,
        [one.buyer for one, _ in odd],
        [UUID(bytes=one.key) for one, _ in odd],
        [reason for _, reason in odd],
        timeout=SETTLE_TIMEOUT_SECONDS,
    )


def _judge(
    one: Movement,
    row: asyncpg.Record | None,
    ours: set[UUID],
    free: dict[int, int],
    offers: dict[int, OfferFacts],
) -> OrderVerdict | None:
    """Accept or refuse one sale; None where its order exists. Takes the units out of `free`."""
    assert row is not None, "LOOK returns a row for each sale"
    if row["order_id"] is not None:
        return None
    reason = _refusal(one, row, ours)
    wanted: dict[int, int] = defaultdict(int)
    for line in one.lines:
        wanted[line.slot] += line.qty
    state = "confirmed"
    if not reason and row["cancelled"]:
        state = "cancelled"  # its cancellation overtook it
    elif not reason and any(free.get(slot, 0) < qty for slot, qty in wanted.items()):
        reason = SOLD_OUT
    if reason:
        state = "rejected"
    elif state == "confirmed":
        for slot, qty in wanted.items():
            free[slot] -= qty
        if row["payment_state"] == "captured":
            state = "paid"
    return _verdict(one, row, state, reason, offers)


def _refusal(one: Movement, row: asyncpg.Record, ours: set[UUID]) -> str:
    if row["payment"] is None:
        return "no payment row"
    if row["payment"] not in ours and row["payment_state"] != "captured":
        return f"the payment is {row['payment_state']}, not authorised"
    if row["voiding"]:
        return "the payment is being voided"
    paid_for = sorted(zip(row["slots"], row["quantities"], strict=True))
    if paid_for != sorted((line.slot, line.qty) for line in one.lines):
        return "the payment is for other units"
    return ""


def _verdict(
    one: Movement, row: asyncpg.Record, state: str, reason: str, offers: dict[int, OfferFacts]
) -> OrderVerdict:
    lines = one.lines
    if row["payment"] is None:
        prices = tuple(offers[line.slot].price_minor for line in lines)
        return OrderVerdict(
            movement=one,
            order=uuid5(_NAMELESS, f"{one.show}/{one.buyer.hex()}/{one.key.hex()}"),
            payment=None,
            sub="",
            state=state,
            reason=reason,
            total_minor=sum(price * line.qty for price, line in zip(prices, lines, strict=True)),
            currency=offers[lines[0].slot].currency,
            prices=prices,
            job="",
            job_amount_minor=0,
        )
    job, amount = _job(state, row)
    asked = dict(zip(row["slots"], row["prices_minor"], strict=True))
    return OrderVerdict(
        movement=one,
        order=row["payment_order"],
        payment=row["payment"],
        sub=row["sub"],
        state=state,
        reason=reason,
        total_minor=row["amount_minor"],
        currency=row["currency"],
        prices=tuple(asked.get(line.slot, offers[line.slot].price_minor) for line in lines),
        job=job,
        job_amount_minor=amount,
        reference=row["provider_ref"] if row["provider"] == EXTERNAL else None,
    )


def _job(state: str, row: asyncpg.Record) -> tuple[str, int]:
    """What has to happen to the money of an order in this state."""
    if state == "confirmed":
        # An invoice waits for the shop to say that it was paid: nobody can be asked for the money.
        return ("", 0) if row["provider"] == INVOICE else ("capture", row["amount_minor"])
    if state == "paid" or row["payment_state"] in FINAL:
        return "", 0
    if row["payment_state"] in REFUNDABLE:
        # A person at the provider may have paid a part back before we knew of the order.
        return "refund", row["captured_minor"] - row["refunded_minor"]
    return "void", row["amount_minor"]


async def _write(
    connection: Connection,
    show: ShowId,
    verdicts: Sequence[OrderVerdict],
    offers: dict[int, OfferFacts],
) -> list[OrderVerdict]:
    """Write the orders and what follows; returns those that were really new."""
    rows = await connection.fetch(
        sql.WRITE_ORDERS,
        show,
        [one.order for one in verdicts],
        [one.movement.buyer for one in verdicts],
        [one.sub for one in verdicts],
        [UUID(bytes=one.movement.key) for one in verdicts],
        [one.payment for one in verdicts],
        [one.state for one in verdicts],
        [one.total_minor for one in verdicts],
        [one.currency for one in verdicts],
        [one.movement.seq for one in verdicts],
        [one.reason for one in verdicts],
        [one.reference for one in verdicts],
        timeout=SETTLE_TIMEOUT_SECONDS,
    )
    new = {row["id"] for row in rows}
    made = verdicts if len(new) == len(verdicts) else [one for one in verdicts if one.order in new]
    await _write_rest(connection, show, made, offers)
    return list(made)


async def _write_rest(
    connection: Connection,
    show: ShowId,
    made: Sequence[OrderVerdict],
    offers: dict[int, OfferFacts],
) -> None:
    items = [
        (one, offers[line.slot], line.qty, price)
        for one in made
        for line, price in zip(one.movement.lines, one.prices, strict=True)
    ]
    moves = [
        (one.order, offer.id, offer.sku, kind, qty)
        for one, offer, units, _ in items
        for kind, qty in _moves(one.state, units)
    ]
    sold: dict[str, int] = defaultdict(int)
    for _, offer_id, _, _, qty in moves:
        sold[offer_id] += qty
    jobs = [one for one in made if one.job]
    await connection.execute(
        sql.WRITE_REST,
        show,
        [one.order for one, _, _, _ in items],
        [offer.id for _, offer, _, _ in items],
        [qty for _, _, qty, _ in items],
        [price for _, _, _, price in items],
        [move[0] for move in moves],
        [move[1] for move in moves],
        [move[2] for move in moves],
        [move[3] for move in moves],
        [move[4] for move in moves],
        list(sold),
        list(sold.values()),
        [one.payment for one in jobs],
        [one.job for one in jobs],
        [one.job_amount_minor for one in jobs],
        ["" if one.job == "capture" else f"order {one.state}" for one in jobs],
        ["lost" if one.job == "refund" else None for one in jobs],
        [one.movement.buyer for one in made],
        [_NOTICE.get(one.state, "order.confirmed") for one in made],
        [one.order for one in made],
        timeout=SETTLE_TIMEOUT_SECONDS,
    )


def _moves(state: str, units: int) -> tuple[tuple[str, int], ...]:
    """What an order in this state moves: nothing, its units, or there and back."""
    if state == "rejected":
        return ()
    if state == "cancelled":
        return (("sold", units), ("cancelled", -units))
    return (("sold", units),)


_NOTICE = {"rejected": "order.rejected", "cancelled": "order.cancelled"}


async def _cancel(connection: Connection, show: ShowId, cancelled: Sequence[Movement]) -> int:
    buyers, keys = [one.buyer for one in cancelled], [UUID(bytes=one.key) for one in cancelled]
    seqs = [one.seq for one in cancelled]
    await connection.fetch(sql.LOCK_PAYMENTS, show, buyers, keys, timeout=SETTLE_TIMEOUT_SECONDS)
    arguments = (show, buyers, keys, seqs)
    rows = await connection.fetch(sql.CANCEL_ORDERS, *arguments, timeout=SETTLE_TIMEOUT_SECONDS)
    twice = await connection.fetch(sql.TAKEN_BACK, *arguments, timeout=SETTLE_TIMEOUT_SECONDS)
    if twice:
        # Their units are on the product's shelf: Redis must not sell them as well.
        await connection.execute(sql.DOUBT, show, TAKEN_BACK_TWICE)
    return len(rows)


async def close_offers(connection: Connection, show: ShowId, slots: Sequence[int]) -> None:
    """Give unsold units back to the product; nothing happens to offers that are closed already.

    The caller has made sure that everything before the `closed` entry is settled.
    """
    await connection.execute(sql.LOCK_SHOW_TO_CHANGE, show)
    await connection.fetch(sql.LOCK_OFFERS, show, slots, timeout=SETTLE_TIMEOUT_SECONDS)
    for slot in slots:
        await connection.execute(sql.CLOSE_OFFER, show, slot, timeout=SETTLE_TIMEOUT_SECONDS)
