"""A rebuild's last step: write a show's stock to staging keys, then swap it in by one script.

Always: nobody reads the staging keys before the swap, and the swap happens only if the new stock
epoch is higher than the one that is there; two rebuilds at once therefore end in one of them.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Final

from live.base.failpoint import failpoint
from live.domain.hold import HoldState
from live.domain.ids import GUEST, GUEST_RANGE_END, BuyerId, ShowId
from live.domain.offer import Phase, Stock
from live.domain.stock import RebuiltEnd, RebuiltWaiting, ShowStock
from live.stock.calls import RUN_ID, StockCalls
from live.stock.keys import GROUP, ShowKeys, show_keys, staging_keys
from live.stock.letters import Kept
from live.stock.records import (
    COUNTER_BITS,
    DROPPED,
    HEAD_OF_LINE,
    RECORDS_MAX,
    RECORDS_PER_OFFER_MAX,
    STATE_CODES,
    pack_offer,
    pack_record,
    pack_slot,
)

CHUNK: Final = 1_000  # pairs a command: blocks Redis for a millisecond
ENDED_SPACE: Final = 16  # of a buyer's records, kept free of purchases that are over
STAGING_SECONDS: Final = 3_600  # what a rebuild that died left behind goes away by itself


async def load_show(calls: StockCalls, show: ShowId, stock: ShowStock, *, fence: int = 0) -> None:
    """Raises Busy where Redis does not answer; the next try starts over."""
    staged = await stage(calls, show, stock)
    failpoint("rebuild.staged")
    await swap_in(calls, staged, show, stock, fence=fence)


async def stage(calls: StockCalls, show: ShowId, stock: ShowStock) -> ShowKeys:
    """Write the stock where nobody reads it."""
    staged = staging_keys(show, stock.stock_epoch)
    await _write(calls, show, b"HSET", staged.offers, _offers(stock))
    await _write(calls, show, b"HSET", staged.buyers, _buyers(stock))
    await _write(calls, show, b"ZADD", staged.deadlines, _deadlines(stock))
    await _write(calls, show, b"ZADD", staged.wait, _places(stock))
    await _write(calls, show, b"HSET", staged.guests, _guests(stock))
    return staged


async def swap_in(
    calls: StockCalls, staged: ShowKeys, show: ShowId, stock: ShowStock, *, fence: int = 0
) -> None:
    """Make what was staged the stock of the show."""
    k = show_keys(show)
    keys = (k.meta, k.offers, k.buyers, k.outbox, k.deadlines, k.wait, k.guests, k.refused)
    staging = (staged.offers, staged.buyers, staged.deadlines, staged.wait, staged.guests)
    longest = max((terms.hold_seconds for terms in stock.offers), default=0)
    args = (
        b"%d" % stock.stock_epoch,
        RUN_ID,
        GROUP.encode(),
        b"%d" % longest,
        b"%d" % len(stock.waiting),
        b"%d" % fence,
    )
    await calls.run_bare("swap", show, (*keys, *staging), *args)


async def _write(
    calls: StockCalls,
    show: ShowId,
    command: bytes,
    key: bytes,
    pairs: Iterator[tuple[bytes, bytes]],
) -> None:
    while chunk := list(itertools.islice(pairs, CHUNK)):
        await calls.send(command, key, *itertools.chain.from_iterable(chunk), show=show)
        await calls.send(b"EXPIRE", key, b"%d" % STAGING_SECONDS, show=show)


def _offers(stock: ShowStock) -> Iterator[tuple[bytes, bytes]]:
    held: dict[int, int] = {}
    sold: dict[int, int] = {}
    for hold in stock.holds:
        units = sold if hold.state is HoldState.CONFIRMED else held
        for line in hold.lines:
            units[line.slot] = units.get(line.slot, 0) + line.qty
    waited_for = {waiting.line.slot for waiting in stock.waiting}
    for terms in stock.offers:
        h, s = held.get(terms.slot, 0), sold.get(terms.slot, 0)
        # Below zero when the ledger holds more than is allotted: nothing is sold until it is not.
        left = terms.allotted - h - s
        stock_now = Stock(left=left, held=h, sold=s)
        reserved = left > 0 and terms.slot in waited_for
        yield pack_slot(terms.slot), pack_offer(terms, stock_now, reserved=reserved)


def _buyers(stock: ShowStock) -> Iterator[tuple[bytes, bytes]]:
    values: dict[BuyerId, list[bytes]] = {}
    closed = {terms.slot for terms in stock.offers if terms.phase is Phase.CLOSED}
    finished: dict[BuyerId, list[bytes]] = {}
    for hold in stock.holds:
        if hold.state is HoldState.CONFIRMED:
            record = pack_record(hold.key, hold.lines, Kept.SOLD.encode(), 0)
            over = closed and all(line.slot in closed for line in hold.lines)
            (finished if over else values).setdefault(hold.buyer, []).append(record)
            continue
        held_until = hold.held_until or hold.expires_at
        code = STATE_CODES[hold.state]
        record = pack_record(hold.key, hold.lines, code, hold.expires_at, held_until)
        values.setdefault(hold.buyer, []).append(record)
    for place, waiting in enumerate(_in_turn(stock), HEAD_OF_LINE):
        record = pack_record(waiting.key, (waiting.line,), Kept.WAITING.encode(), place)
        values.setdefault(waiting.buyer, []).append(record)
    ended = _ended_of(stock)
    past = finished.keys() | ended.keys()
    for buyer in past:
        yield buyer, _join(finished.get(buyer, []), ended.get(buyer, []), values.pop(buyer, []))
    for buyer, live in values.items():  # by far the most have nothing but what is live
        yield buyer, b"".join(live)


def _join(finished: list[bytes], ended: list[bytes], live: list[bytes]) -> bytes:
    """One buyer's value: all that is live, and of the rest the newest for which there is space."""
    space = max(0, RECORDS_MAX - ENDED_SPACE - len(live))
    dropped = DROPPED if len(finished) > space else b""
    kept = finished[len(finished) - min(space, len(finished)) :]
    space = max(0, RECORDS_MAX - len(live) - len(kept))
    return dropped + b"".join([*kept, *ended[len(ended) - min(space, len(ended)) :], *live])


def _ended_of(stock: ShowStock) -> dict[BuyerId, list[bytes]]:
    """What a repeat may still ask for: of each offer at most what Redis would have kept."""
    buyers = {end.buyer for end in stock.ended}
    counts: Counter[tuple[BuyerId, int]] = Counter()
    for hold in stock.holds:
        if hold.buyer in buyers:
            counts.update((hold.buyer, line.slot) for line in hold.lines)
    for end in stock.ended:
        counts.update((end.buyer, line.slot) for line in end.lines)
    found: dict[BuyerId, list[bytes]] = {}
    for end in stock.ended:
        places = [(end.buyer, line.slot) for line in end.lines]
        if not end.late_until and any(counts[place] > RECORDS_PER_OFFER_MAX for place in places):
            counts.subtract(places)
            continue
        found.setdefault(end.buyer, []).append(_end_record(end))
    return found


def _end_record(end: RebuiltEnd) -> bytes:
    over = Kept.EXPIRED if end.state is HoldState.EXPIRED else Kept.RELEASED
    code = Kept.CANCELLED if end.cancelled else over
    return pack_record(end.key, end.lines, code.encode(), end.late_until)


def _guests(stock: ShowStock) -> Iterator[tuple[bytes, bytes]]:
    units: Counter[bytes] = Counter()
    live = [hold for hold in stock.holds if hold.state is not HoldState.CONFIRMED]
    have = [(hold.buyer, line) for hold in live for line in hold.lines]
    have += [(waiting.buyer, waiting.line) for waiting in stock.waiting]
    for buyer, line in have:
        if buyer.startswith(GUEST):
            slot = pack_slot(line.slot)
            units[slot] += line.qty
            units[slot + buyer[len(GUEST) : GUEST_RANGE_END]] += line.qty
    for field, count in units.items():
        yield field, b"%d" % count


def _deadlines(stock: ShowStock) -> Iterator[tuple[bytes, bytes]]:
    for hold in stock.holds:
        if hold.state is not HoldState.CONFIRMED:
            yield b"%d" % hold.expires_at, Kept.ALARM.encode() + hold.buyer + hold.key


def _places(stock: ShowStock) -> Iterator[tuple[bytes, bytes]]:
    for place, waiting in enumerate(_in_turn(stock), HEAD_OF_LINE):
        slot, qty = waiting.line.slot, waiting.line.qty
        score = (slot << COUNTER_BITS) + place
        yield b"%d" % score, pack_slot(slot) + waiting.buyer + qty.to_bytes(2, "big")


def _in_turn(stock: ShowStock) -> list[RebuiltWaiting]:
    return sorted(stock.waiting, key=lambda waiting: waiting.seq)
