"""A show's stock in Redis held against the ledger, hold by hold.

Always: the two are compared as of one instant: what Redis has was read while nothing moved, all of
its outbox is settled, and nothing had moved when the ledger had been read. A show that never
stands still long enough is named as under way and compared when it does, at the latest at its end.
Called by: the audit and the repair, through show.py.
Not here: figures of offers, which can be compared in a running sale (show.py).
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

import asyncpg

from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import OfferTerms, Phase
from live.domain.stock import OfferNow, RecordNow, StockSnapshot
from live.ledger.audit.findings import Finding, finding
from live.ledger.db.pool import Connection
from live.ledger.db.states import UNDECIDED, sold
from live.ledger.settle.rebuild import read_terms

COUNTER_BITS = 40  # of `seq`: above them stands the life of the stock
NAMED_MAX = 20  # of a kind; a lost key makes thousands
PAGE = 1_000  # rows that are read at a time: decoding all at once would hold the loop up
READ_TIMEOUT_SECONDS = 60.0
LIVE = ("held", "paying")
ON_SALE = (Phase.SCHEDULED, Phase.OPEN, Phase.PAUSED)

Identity = tuple[BuyerId, HoldKey]
Units = tuple[tuple[int, int], ...]

_STOCK_EPOCH = "SELECT stock_epoch FROM shows WHERE id = $1"


@dataclass(frozen=True, slots=True)
class HoldRow:
    """The journal's word on a hold. `moot`: the ledger lets it go whatever Redis has."""

    state: str
    units: Units
    expires_at: int
    seq: int
    moot: bool


@dataclass(frozen=True, slots=True)
class Journal:
    """What the ledger says about holds, sales and lines of one show."""

    stock_epoch: int
    terms: tuple[OfferTerms, ...]
    drafts: frozenset[int]  # slots of offers that nobody opened
    holds: dict[Identity, HoldRow]
    orders: dict[Identity, Units]  # that stand
    paying: frozenset[Identity]  # with an undecided payment
    waiting: dict[Identity, tuple[Units, int]]
    top_seq: int


async def read_journal(connection: Connection, show: ShowId) -> Journal:
    """Called in a transaction that sees one instant."""
    epoch = await connection.fetchval(_STOCK_EPOCH, show)
    holds: dict[Identity, HoldRow] = {}
    orders: dict[Identity, Units] = {}
    paying: set[Identity] = set()
    waiting: dict[Identity, tuple[Units, int]] = {}
    async for buyer, key, state, slots, quantities, expires_ms, seq, moot in _rows(
        connection, _HOLDS, show
    ):
        units = _units(zip(slots, quantities, strict=True))
        holds[buyer, key] = HoldRow(state, units, expires_ms, seq, moot)
    async for buyer, key, slots, quantities in _rows(connection, _ORDERS, show):
        orders[buyer, key] = _units(zip(slots, quantities, strict=True))
    async for buyer, key in _rows(connection, _PAYING, show):
        paying.add((buyer, key))
    async for buyer, key, slot, qty, seq in _rows(connection, _WAITING, show):
        waiting[buyer, key] = (((slot, qty),), seq)
    top = await connection.fetchval(_TOP_SEQ, show, (epoch or 0) << COUNTER_BITS)
    return Journal(
        stock_epoch=epoch or 0,
        terms=await read_terms(connection, show),
        drafts=frozenset(row["slot"] for row in await connection.fetch(_DRAFTS, show)),
        holds=holds,
        orders=orders,
        paying=frozenset(paying),
        waiting=waiting,
        top_seq=top,
    )


async def _rows(connection: Connection, query: str, show: ShowId) -> AsyncIterator[asyncpg.Record]:
    cursor = connection.cursor(query, show, prefetch=PAGE, timeout=READ_TIMEOUT_SECONDS)
    async for row in cursor:
        yield row


def compare_stock(show: ShowId, now: StockSnapshot, ledger: Journal) -> list[Finding]:
    """Everything in which a rebuilt show would differ from the one that is there."""
    found = [
        *_bounded(_life(show, now, ledger)),
        *_bounded(_terms(show, now, ledger)),
        *_bounded(_sums(show, now, ledger)),
        *_bounded(_records(show, now, ledger)),
        *_bounded(_alarms(show, now)),
        *_bounded(_lines(show, now, ledger)),
    ]
    return found


def _bounded(found: Iterator[Finding]) -> Iterator[Finding]:
    for count, one in enumerate(found):
        if count >= NAMED_MAX:
            return
        yield one


def _life(show: ShowId, now: StockSnapshot, ledger: Journal) -> Iterator[Finding]:
    name = f"show {show}"
    if now.stock_epoch != ledger.stock_epoch:
        text = f"Redis has life {now.stock_epoch} of its stock, the ledger {ledger.stock_epoch}"
        yield finding("stock_life", "P1", name, text)
    elif now.seq < ledger.top_seq:
        text = f"Redis counts {now.seq} movements, the journal has number {ledger.top_seq}"
        yield finding("stock_life", "P2", name, text)
    if now.offers_known != len(now.offers):
        text = f"Redis has {len(now.offers)} offers and was given {now.offers_known}"
        yield finding("stock_life", "P1", name, text)
    longest = max((offer.hold_seconds for offer in now.offers.values()), default=0)
    if now.longest_hold_seconds < longest:
        text = f"Redis keeps batches for holds of {now.longest_hold_seconds} s, one has {longest} s"
        yield finding("stock_life", "P1", name, text)


def _terms(show: ShowId, now: StockSnapshot, ledger: Journal) -> Iterator[Finding]:
    known = {terms.slot for terms in ledger.terms} | ledger.drafts
    for slot in now.offers.keys() - known:
        name, text = f"offer {slot} of show {show}", "Redis has it, the ledger does not"
        yield finding("offer_unknown", "P1", name, text)
    for terms in ledger.terms:
        there = now.offers.get(terms.slot)
        if there is None:
            if terms.phase is not Phase.CLOSED:
                yield finding("offer_unknown", "P1", f"offer {terms.id}", "Redis does not know it")
        elif (fields := _differing(terms, there)) != "":
            yield finding("offer_terms", "P1", f"offer {terms.id}", fields)


def _differing(terms: OfferTerms, there: OfferNow) -> str:
    if terms.phase is Phase.CLOSED:
        closed = there.phase in (Phase.CLOSING, Phase.CLOSED)
        return "" if closed else f"is closed, in Redis {there.phase.value}"
    if there.version != terms.version:
        return f"has version {terms.version}, in Redis {there.version}"
    # A closing one may have closed in Redis: its last entry is on its way.
    ended = terms.phase is Phase.CLOSING and there.phase is Phase.CLOSED
    pairs = {
        "phase": (terms.phase.value, there.phase.value, ended or terms.phase is there.phase),
        "mode": (terms.mode.value, there.mode.value, terms.mode is there.mode),
        "waitlist": (terms.waitlist, there.waitlist, terms.waitlist == there.waitlist),
        "per_buyer_limit": _pair(terms.per_buyer_limit, there.per_buyer_limit),
        "hold_seconds": _pair(terms.hold_seconds, there.hold_seconds),
        "opens_at": _pair(terms.opens_at, there.opens_at),
        "closes_at": _pair(terms.closes_at, there.closes_at),
    }
    return ", ".join(
        f"has {name} {ours}, in Redis {theirs}"
        for name, (ours, theirs, same) in pairs.items()
        if not same
    )


def _pair(ours: int | None, theirs: int | None) -> tuple[int | None, int | None, bool]:
    return ours, theirs, ours == theirs


def _sums(show: ShowId, now: StockSnapshot, ledger: Journal) -> Iterator[Finding]:
    """An offer's figures are the sums of the records, and what is reserved is for somebody."""
    sums: dict[tuple[str, int], int] = defaultdict(int)
    for record in now.records:
        for line in record.lines:
            sums["held" if record.state in LIVE else record.state, line.slot] += line.qty
    names = {terms.slot: terms.id for terms in ledger.terms}
    for slot, offer in now.offers.items():
        name = f"offer {names.get(slot, f'{slot} of show {show}')}"
        held, sold = sums["held", slot], sums["confirmed", slot]
        if (offer.stock.held, offer.stock.sold) != (held, sold):
            text = (
                f"Redis counts {offer.stock.held} held and {offer.stock.sold} sold, "
                f"its records say {held} and {sold}"
            )
            yield finding("offer_figures", "P1", name, text)
        if offer.phase in ON_SALE:
            yield from _reserved(name, offer, slot, now)


def _reserved(name: str, offer: OfferNow, slot: int, now: StockSnapshot) -> Iterator[Finding]:
    line = [(place, qty) for (of, _), (place, qty) in now.places.items() if of == slot]
    if offer.stock.left <= 0:
        return
    if offer.reserved and not line:
        text = f"{offer.stock.left} units are reserved, and nobody waits for them"
        yield finding("stock_line", "P1", name, text)
    first = offer.reserved or 1 << COUNTER_BITS
    passed = [qty for place, qty in line if place < first and qty <= offer.stock.left]
    if passed and offer.waitlist and offer.phase is Phase.OPEN:
        text = f"{offer.stock.left} units are free, and {len(passed)} who wait for them are passed"
        yield finding("stock_line", "P1", name, text)


def _records(show: ShowId, now: StockSnapshot, ledger: Journal) -> Iterator[Finding]:
    seen: dict[Identity, RecordNow] = {}
    for record in now.records:
        identity = (record.buyer, record.key)
        if identity in seen:
            yield _hold(show, identity, "is in Redis twice")
        seen[identity] = record
        text = _record_differs(record, identity, ledger)
        if text:
            yield _hold(show, identity, text)
    for identity, row in ledger.holds.items():
        if row.state in LIVE and not row.moot and identity not in seen:
            yield _hold(show, identity, f"is {row.state} in the journal, unknown in Redis")
    for identity in ledger.orders:
        if identity not in seen:
            yield _hold(show, identity, "is an order's, unknown in Redis")


def _record_differs(record: RecordNow, identity: Identity, ledger: Journal) -> str:
    """Why this record is not what the ledger knows, "" if it is."""
    units = _units((line.slot, line.qty) for line in record.lines)
    row = ledger.holds.get(identity)
    if record.state == "waiting":
        return ""  # `_lines` looks at those
    if record.state == "confirmed":
        if identity not in ledger.orders:
            return "is sold in Redis, and no order stands for it"
        return "" if ledger.orders[identity] == units else "is an order's, for other units in Redis"
    if identity in ledger.orders:
        return f"is an order's, {record.state} in Redis"
    if row is None:
        paid_for = record.state in LIVE and identity in ledger.paying
        return "" if paid_for or record.state not in LIVE else "is live in Redis, not journaled"
    if row.units != units:
        return "is for other units in the journal"
    if record.state not in LIVE:
        return "" if row.state == record.state else f"is {record.state}, {row.state} in the journal"
    if record.state == "paying" and identity in ledger.paying:
        return "" if record.time >= row.expires_at else "ends before its time in the journal"
    if row.state not in LIVE:
        return f"is live, {row.state} in the journal"
    return "" if record.time == row.expires_at else "ends at another time in the journal"


def _alarms(show: ShowId, now: StockSnapshot) -> Iterator[Finding]:
    """The reaper looks at each live hold when it ends: nobody else would end it."""
    for record in now.records:
        if record.state not in LIVE:
            continue
        identity = (record.buyer, record.key)
        alone = now.alarms.get(identity) == record.time
        if not alone and not (record.state == "held" and record.time in now.batch_alarms):
            text = "would never end: Redis has no deadline of it"
            yield finding("stock_alarms", "P1", _name(show, identity), text)


def _lines(show: ShowId, now: StockSnapshot, ledger: Journal) -> Iterator[Finding]:
    """Who waits is in the line, at the place that the record says, and in the journal's order."""
    in_turn: list[tuple[int, int]] = []
    known = set()
    for record in now.records:
        if record.state != "waiting":
            continue
        identity = (record.buyer, record.key)
        (line,) = record.lines[:1] or (Line(-1, 0),)
        place = now.places.get((line.slot, record.buyer))
        known.add((line.slot, record.buyer))
        row = ledger.waiting.get(identity)
        if place != (record.time, line.qty):
            yield _place(show, identity, "stands at another place in the line")
        elif row is None or row[0] != ((line.slot, line.qty),):
            yield _place(show, identity, "is not what the waitlist's row says")
        else:
            in_turn.append((record.time, row[1]))
    waiting = {(record.buyer, record.key) for record in now.records if record.state == "waiting"}
    twice = _second_places(ledger)
    for identity in twice:
        yield _place(show, identity, "waits by the ledger in a line where its buyer has a place")
    for identity in ledger.waiting.keys() - waiting - twice:
        yield _place(show, identity, "waits by the ledger, unknown in Redis")
    for slot, buyer in now.places.keys() - known:
        yield _place(show, (buyer, HoldKey(b"")), f"stands in the line for slot {slot} alone")
    in_turn.sort()
    if [seq for _, seq in in_turn] != sorted(seq for _, seq in in_turn):
        text = "people wait in another order than they came"
        yield finding("stock_line", "P1", f"show {show}", text)


def _second_places(ledger: Journal) -> set[Identity]:
    """All but the first place of each buyer in each line."""
    first: dict[tuple[BuyerId, int], tuple[int, Identity]] = {}
    for identity, (units, seq) in ledger.waiting.items():
        line = (identity[0], units[0][0])
        known = first.get(line)
        if known is None or seq < known[0]:
            first[line] = (seq, identity)
    return ledger.waiting.keys() - {identity for _, identity in first.values()}


def _units(pairs: Iterable[tuple[int, int]]) -> Units:
    return tuple(sorted(pairs))


def _name(show: ShowId, identity: Identity) -> str:
    buyer, key = identity
    return f"hold {buyer.hex()}/{key.hex()} of show {show}"


def _hold(show: ShowId, identity: Identity, text: str) -> Finding:
    return finding("stock_records", "P1", _name(show, identity), text)


def _place(show: ShowId, identity: Identity, text: str) -> Finding:
    return finding("stock_line", "P1", _name(show, identity), text)


_CLOSED = """EXISTS (SELECT FROM offers f WHERE f.show = h.show AND f.slot = ANY(h.slots)
                        AND f.phase IN ('draft', 'closed'))"""

# A key that has an order row of any state is the order's; so the rebuild reads it.
_HOLDS = f"""
SELECT h.buyer, uuid_send(h.key), h.state, h.slots, h.quantities,
       coalesce(floor(extract(epoch FROM h.expires_at) * 1000), 0)::bigint, h.seq,
       {_CLOSED} OR EXISTS (SELECT FROM orders o WHERE o.show = h.show AND o.buyer = h.buyer
                            AND o.key = h.key)
FROM holds h WHERE h.show = $1 AND h.state <> 'confirmed'"""

_ORDERS = f"""
SELECT o.buyer, uuid_send(o.key), array_agg(f.slot), array_agg(i.qty)
FROM orders o JOIN order_items i ON i.order_id = o.id JOIN offers f ON f.id = i.offer
WHERE o.show = $1 AND {sold("o")} GROUP BY o.id"""

_DRAFTS = "SELECT slot FROM offers WHERE show = $1 AND phase = 'draft'"

_PAYING = f"""
SELECT buyer, uuid_send(hold) FROM payments
WHERE show = $1 AND mode = 'hold' AND state IN {UNDECIDED}"""

_WAITING = """
SELECT w.buyer, uuid_send(w.key), f.slot, w.qty, w.seq
FROM waitlist w JOIN offers f ON f.id = w.offer
WHERE w.show = $1 AND w.state = 'waiting' AND f.phase NOT IN ('closing', 'closed')"""

_TOP_SEQ = """
SELECT greatest(0, max(seq) - $2)::bigint FROM (
    SELECT max(seq) AS seq FROM holds WHERE show = $1
    UNION ALL SELECT max(seq) FROM orders WHERE show = $1
    UNION ALL SELECT max(seq) FROM waitlist WHERE show = $1) n"""
