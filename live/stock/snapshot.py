"""Everything that Redis has of one show's stock, read for whoever proves it.

Always: it is read in pages beside a running sale, so no command holds Redis up; it counts only if
nothing moved from the first page to the last, which `mark` tells. Nothing is written.
Called by: the audit.
Raises: Busy where Redis does not answer, or has something that nobody here can read.
"""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Final

from live.base.errors import Busy
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.stock import RecordNow, StockSnapshot
from live.stock.calls import StockCalls
from live.stock.keys import ShowKeys, show_keys
from live.stock.letters import Kept
from live.stock.records import COUNTER_BITS, STATES, read_offer, read_records
from live.stock.replies import as_bytes, as_list

PAGE: Final = 1_000  # buyers or members of one command: a millisecond of Redis
LOOKS_AT_ONCE: Final = 100  # entries of the outbox that are asked for at the same time
MARK: Final = b"mark"  # stands in each key, so that a lost one is told from an empty one
PLACE_MASK: Final = (1 << COUNTER_BITS) - 1

_ALARM: Final = Kept.ALARM.encode()
_STATES: Final = {code: state.value for code, state in STATES.items()} | {
    Kept.CANCELLED: "cancelled",
    Kept.WAITING: "waiting",
}


async def read_mark(calls: StockCalls, show: ShowId) -> bytes:
    """A digest of the show's counters and offers: any movement changes one of them."""
    return _mark(*await _heads(calls, show, show_keys(show)))


async def read_snapshot(calls: StockCalls, show: ShowId) -> StockSnapshot | None:
    """None where something moved while it was read."""
    k = show_keys(show)
    meta, offers = await _heads(calls, show, k)
    try:
        records = [one async for one in _records(calls, show, k.buyers)]
        alarms, batches = await _alarms(calls, show, k)
        snapshot = StockSnapshot(
            mark=_mark(meta, offers),
            stock_epoch=int(meta.get(b"stock_epoch", b"0")),
            seq=int(meta.get(b"seq", b"0")),
            offers_known=int(meta.get(b"offers", b"0")),
            longest_hold_seconds=int(meta.get(b"ttl_max", b"0")),
            offers={
                int.from_bytes(slot, "big"): read_offer(packed) for slot, packed in offers.items()
            },
            records=tuple(records),
            alarms=alarms,
            batch_alarms=batches,
            places={place: there async for place, there in _places(calls, show, k.wait)},
        )
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise Busy(f"the stock of this show cannot be read: {error!r}") from error
    return snapshot if await read_mark(calls, show) == snapshot.mark else None


async def _heads(
    calls: StockCalls, show: ShowId, k: ShowKeys
) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    meta = await calls.send(b"HGETALL", k.meta, show=show)
    offers = await calls.send(b"HGETALL", k.offers, show=show)
    return dict(_pairs(meta)), dict(_pairs(offers))


def _mark(*hashes: dict[bytes, bytes]) -> bytes:
    digest = hashlib.sha256()
    for fields in hashes:
        for name, value in sorted(fields.items()):
            digest.update(b"%d:%b%d:%b" % (len(name), name, len(value), value))
    return digest.digest()


def _pairs(reply: object) -> Iterator[tuple[bytes, bytes]]:
    values = [as_bytes(value) for value in as_list(reply)]
    return zip(values[0::2], values[1::2], strict=True)


async def _records(calls: StockCalls, show: ShowId, key: bytes) -> AsyncIterator[RecordNow]:
    seen: set[bytes] = set()  # a scan may tell a buyer twice
    cursor = b"0"
    while True:
        count = b"%d" % PAGE
        cursor_reply, page = as_list(
            await calls.send(b"HSCAN", key, cursor, b"COUNT", count, show=show)
        )
        for buyer, value in _pairs(page):
            if buyer in seen or buyer == MARK:
                continue
            seen.add(buyer)
            for record in read_records(value):
                yield RecordNow(
                    BuyerId(buyer),
                    record.key,
                    _STATES[record.state],
                    record.lines,
                    record.time,
                    record.held_until,
                )
        cursor = as_bytes(cursor_reply)
        if cursor == b"0":
            return


async def _members(calls: StockCalls, show: ShowId, key: bytes) -> AsyncIterator[tuple[bytes, int]]:
    """Members of a sorted set with their scores, a page at a time."""
    first = 0
    while True:
        last = first + PAGE - 1
        page = await calls.send(
            b"ZRANGE", key, b"%d" % first, b"%d" % last, b"WITHSCORES", show=show
        )
        members = list(_pairs(page))
        for member, score in members:
            if member == MARK:
                continue
            yield member, int(float(score))
        if len(members) < PAGE:
            return
        first += PAGE


async def _alarms(
    calls: StockCalls, show: ShowId, k: ShowKeys
) -> tuple[dict[tuple[BuyerId, HoldKey], int], frozenset[int]]:
    single: dict[tuple[BuyerId, HoldKey], int] = {}
    batches: list[tuple[bytes, int]] = []
    async for member, at in _members(calls, show, k.deadlines):
        if member[:1] == _ALARM:
            single[BuyerId(member[1:17]), HoldKey(member[17:33])] = at
        else:
            batches.append((member[1:].partition(b" ")[0], at))

    async def is_there(entry: bytes) -> bool:
        return bool(await calls.send(b"XRANGE", k.outbox, entry, entry, show=show))

    kept: set[int] = set()
    for start in range(0, len(batches), LOOKS_AT_ONCE):
        some = batches[start : start + LOOKS_AT_ONCE]
        there = await asyncio.gather(*(is_there(entry) for entry, _ in some))
        kept.update(at for (_, at), found in zip(some, there, strict=True) if found)
    return single, frozenset(kept)


async def _places(
    calls: StockCalls, show: ShowId, key: bytes
) -> AsyncIterator[tuple[tuple[int, BuyerId], tuple[int, int]]]:
    async for member, score in _members(calls, show, key):
        slot = score >> COUNTER_BITS
        if slot != int.from_bytes(member[:2], "big"):
            slot = -1  # a place in nobody's line; told as one that no record knows
        qty = int.from_bytes(member[18:20], "big")
        yield (slot, BuyerId(member[2:18])), (score & PLACE_MASK, qty)
