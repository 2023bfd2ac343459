"""A rebuild's last step: write a show's stock to staging keys, then swap it in by one script.

Always: nobody reads the staging keys before the swap, and the swap happens only if the new stock
epoch is higher than the one that is there; two rebuilds at once therefore end in one of them.
"""

import itertools
from collections.abc import Iterator
from typing import Final

from live.domain.hold import HoldState
from live.domain.ids import BuyerId, ShowId
from live.domain.offer import Stock
from live.domain.stock import RebuiltWaiting, ShowStock
from live.failpoint import failpoint
from live.stock.calls import RUN_ID, Calls
from live.stock.keys import GROUP, ShowKeys, show_keys, staging_keys
from live.stock.records import (
    COUNTER_BITS,
    HEAD_OF_LINE,
    STATE_CODES,
    pack_offer,
    pack_record,
    pack_slot,
)

CHUNK: Final = 1_000  # pairs a command: blocks Redis for a millisecond
STAGING_SECONDS: Final = 3_600  # what a rebuild that died left behind goes away by itself


async def load_show(calls: Calls, show: ShowId, stock: ShowStock, *, fence: int = 0) -> None:
    """Raises Busy where Redis does not answer; the next try starts over."""
    staged = await stage(calls, show, stock)
    failpoint("rebuild.staged")
    await swap_in(calls, staged, show, stock, fence=fence)


async def stage(calls: Calls, show: ShowId, stock: ShowStock) -> ShowKeys:
    """Write the stock where nobody reads it."""
    staged = staging_keys(show, stock.stock_epoch)
    await _write(calls, show, b"HSET", staged.offers, _offers(stock))
    await _write(calls, show, b"HSET", staged.buyers, _buyers(stock))
    await _write(calls, show, b"ZADD", staged.deadlines, _deadlines(stock))
    await _write(calls, show, b"ZADD", staged.wait, _places(stock))
    return staged


async def swap_in(
    calls: Calls, staged: ShowKeys, show: ShowId, stock: ShowStock, *, fence: int = 0
) -> None:
    """Make what was staged the stock of the show."""
    k = show_keys(show)
    keys = (k.meta, k.offers, k.buyers, k.outbox, k.deadlines, k.wait)
    staging = (staged.offers, staged.buyers, staged.deadlines, staged.wait)
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
    calls: Calls, show: ShowId, command: bytes, key: bytes, pairs: Iterator[tuple[bytes, bytes]]
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
    for hold in stock.holds:
        time = 0 if hold.state is HoldState.CONFIRMED else hold.expires_at
        held_until = hold.held_until or hold.expires_at
        record = pack_record(hold.key, hold.lines, STATE_CODES[hold.state], time, held_until)
        values.setdefault(hold.buyer, []).append(record)
    for place, waiting in enumerate(_in_turn(stock), HEAD_OF_LINE):
        record = pack_record(waiting.key, (waiting.line,), b"W", place)
        values.setdefault(waiting.buyer, []).append(record)
    for buyer, records in values.items():
        yield buyer, b"".join(records)


def _deadlines(stock: ShowStock) -> Iterator[tuple[bytes, bytes]]:
    for hold in stock.holds:
        if hold.state is not HoldState.CONFIRMED:
            yield b"%d" % hold.expires_at, b"h" + hold.buyer + hold.key


def _places(stock: ShowStock) -> Iterator[tuple[bytes, bytes]]:
    for place, waiting in enumerate(_in_turn(stock), HEAD_OF_LINE):
        slot, qty = waiting.line.slot, waiting.line.qty
        score = (slot << COUNTER_BITS) + place
        yield b"%d" % score, pack_slot(slot) + waiting.buyer + qty.to_bytes(2, "big")


def _in_turn(stock: ShowStock) -> list[RebuiltWaiting]:
    return sorted(stock.waiting, key=lambda waiting: waiting.seq)
