"""The engine's byte layouts; their Lua twin is lua/_records.lua, their letters are in letters.py.

request   buyer 16 | key 16 | lines n 1 | n x (slot 2, qty 2)                one hold asked for
record    key 16 | lines n 1 | n x (slot 2, qty 2) | state 1 | time 6        one hold in Redis
          and behind a paying one (state P): held_until 6
          one without lines, state D, at the head: older ones were dropped
buyer     records, oldest first                                              hash value, by buyer
guests    units that guests hold or wait for, in decimal     hash value, by slot 2, and by slot 2
          and the addresses 4 that their digests begin with behind GUEST (domain/ids.py)
offer     phase 1 | mode 1 | waitlist 1 | reserved 6 | version 4 | limit 2 | hold seconds 4 |
          opens 6 | closes 6 | left 4 (signed) | held 4 | sold 4             hash value, by slot
entry     h: kind "H" | epoch 4 | base 6 | time 6 | offers x (slot 2, hold seconds 4, left 4)
          s: a status per request, b: the requests                          a batch of holds
          h: kind "M" | epoch 4 | base 6 | time 6
          m: movements x (kind 1 | buyer 16 | record)                        everything else

All numbers are big-endian. Always: no slot twice in one request (`sum_lines`), so Lua may check a
cart line by line; movement i of an entry has seq `epoch << 40 | base + i + 1`.
`reserved` is 0, or the place in the waitlist from which on somebody may still fit into what is
left: until the reaper came to the end of the line, no newcomer may have it.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from live.base.errors import BadField
from live.domain.hold import CART_LINES_MAX, HoldState, Line, Movement, MovementKind
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import Mode, OfferTerms, Phase, Stock
from live.domain.stock import OfferNow
from live.stock.letters import Kept

COUNTER_BITS: Final = 40  # 10^12 movements in one life; with the epoch it fits Postgres' bigint
EPOCH_MAX: Final = 2**23 - 1
HEAD_OF_LINE: Final = 1  # places in a waitlist count from here
UNITS_MAX: Final = 0xFFFF  # of one offer in one request

_LINE = struct.Struct(">HH")
_ONE_LINE = struct.Struct(">BHH")
_OFFER = struct.Struct(">BBB6sIHI6s6siII")
_HEAD = struct.Struct(">cI6s6s")
_OFFER_NOW = struct.Struct(">HIi")

PHASES: Final = (
    Phase.DRAFT,
    Phase.SCHEDULED,
    Phase.OPEN,
    Phase.PAUSED,
    Phase.CLOSING,
    Phase.CLOSED,
)
MODES: Final = (Mode.HOLD, Mode.FIRST_PAID)
NOBODY: Final = bytes(16)
REFUSED: Final = 1
RECORDS_PER_OFFER_MAX: Final = 16
RECORDS_MAX: Final = 128
DROPPED: Final = bytes(17) + b"D" + bytes(6)

STATES: Final[Mapping[str, HoldState]] = {
    Kept.HELD: HoldState.HELD,
    Kept.PAYING: HoldState.PAYING,
    Kept.SOLD: HoldState.CONFIRMED,
    Kept.RELEASED: HoldState.RELEASED,
    Kept.EXPIRED: HoldState.EXPIRED,
    Kept.CANCELLED: HoldState.RELEASED,  # the order says so, the hold's units are back
}
STATE_CODES: Final = {
    HoldState.HELD: b"H",
    HoldState.PAYING: b"P",
    HoldState.CONFIRMED: b"S",
}
KINDS: Final[Mapping[str, MovementKind]] = {
    Kept.GRANTED: MovementKind.GRANTED,
    Kept.BEGAN: MovementKind.BEGAN,
    Kept.REVERTED: MovementKind.REVERTED,
    Kept.CONFIRMED: MovementKind.CONFIRMED,
    Kept.RELEASED: MovementKind.RELEASED,
    Kept.EXPIRED: MovementKind.EXPIRED,
    Kept.CANCELLED: MovementKind.CANCELLED,
    Kept.RETAKEN: MovementKind.RETAKEN,
    Kept.SOLD: MovementKind.SOLD,
    Kept.WAITING: MovementKind.WAITLISTED,
    Kept.LEFT_LINE: MovementKind.LEFT_WAITLIST,
    Kept.CLOSING: MovementKind.CLOSING,
    Kept.CLOSED: MovementKind.CLOSED,
}
_HELD: Final = ord(Kept.HELD)
_PAYING: Final = b"P"


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """One hold or place in a waitlist; `time` is its deadline or its place.

    Once it ended: 0; REFUSED, where its money goes back; or until when money may still come for it.
    `held_until`: the deadline of a paying hold from before its payment began; 0 for any other.
    """

    key: HoldKey
    lines: tuple[Line, ...]
    state: str
    time: int
    held_until: int = 0


def number6(value: int) -> bytes:
    return value.to_bytes(6, "big")


def pack_slot(slot: int) -> bytes:
    return slot.to_bytes(2, "big")


def sum_lines(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Join lines of the same offer, in order of first appearance. Raises BadField."""
    if len(lines) == 1 and 1 <= lines[0].qty <= UNITS_MAX:  # nearly every hold: no dict, no sum
        return lines if type(lines) is tuple else tuple(lines)
    units: dict[int, int] = {}
    for line in lines:
        if line.qty < 1:
            raise BadField("qty", "1 at least")
        units[line.slot] = units.get(line.slot, 0) + line.qty
    if not 1 <= len(units) <= CART_LINES_MAX:
        raise BadField("items", f"1-{CART_LINES_MAX} offers")
    if max(units.values()) > UNITS_MAX:
        raise BadField("qty", f"{UNITS_MAX} at most")
    return tuple(Line(slot, qty) for slot, qty in units.items())


def pack_lines(lines: Sequence[Line]) -> bytes:
    """Encode lines that name each offer once."""
    if len(lines) == 1:
        line = lines[0]
        return _ONE_LINE.pack(1, line.slot, line.qty)
    return bytes((len(lines),)) + b"".join([_LINE.pack(line.slot, line.qty) for line in lines])


def pack_request(buyer: BuyerId, key: HoldKey, lines: Sequence[Line]) -> bytes:
    return buyer + key + pack_lines(lines)


def read_requests(blob: bytes) -> Iterator[tuple[BuyerId, HoldKey, tuple[Line, ...]]]:
    at = 0
    while at < len(blob):
        buyer, key = blob[at : at + 16], blob[at + 16 : at + 32]
        lines, at = _read_lines(blob, at + 32)
        yield BuyerId(buyer), HoldKey(key), lines


def pack_record(
    key: HoldKey, lines: Sequence[Line], state: bytes, time: int, held_until: int = 0
) -> bytes:
    tail = number6(held_until) if state == _PAYING else b""
    return key + pack_lines(lines) + state + number6(time) + tail


def read_records(value: bytes) -> Iterator[HoldRecord]:
    """The mark of those that were dropped is none."""
    at = len(DROPPED) if value.startswith(DROPPED) else 0
    while at < len(value):
        record, at = _read_record(value, at)
        yield record


def pack_offer(terms: OfferTerms, stock: Stock, *, reserved: bool = False) -> bytes:
    """`reserved`: what is left belongs to waiters, from the head of the line on."""
    return _OFFER.pack(
        PHASES.index(terms.phase),
        MODES.index(terms.mode),
        terms.waitlist,
        number6(HEAD_OF_LINE if reserved else 0),
        terms.version,
        terms.per_buyer_limit,
        terms.hold_seconds,
        number6(terms.opens_at or 0),
        number6(terms.closes_at or 0),
        stock.left,
        stock.held,
        stock.sold,
    )


def read_stock(value: bytes) -> Stock:
    left, held, sold = _OFFER.unpack(value)[-3:]
    return Stock(left=left, held=held, sold=sold)


def read_offer(value: bytes) -> OfferNow:
    """Raises struct.error or IndexError for anything that is no offer."""
    phase, mode, waitlist, reserved, version, limit, ttl, opens, closes, *units = _OFFER.unpack(
        value
    )
    left, held, sold = units
    return OfferNow(
        phase=PHASES[phase],
        mode=MODES[mode],
        waitlist=bool(waitlist),
        version=version,
        per_buyer_limit=limit,
        hold_seconds=ttl,
        opens_at=int.from_bytes(opens, "big") or None,
        closes_at=int.from_bytes(closes, "big") or None,
        reserved=int.from_bytes(reserved, "big"),
        stock=Stock(left=left, held=held, sold=sold),
    )


def read_offers_now(blob: bytes) -> dict[int, tuple[int, int]]:
    """Offers that a batch touched: slot -> (hold seconds, left after the batch)."""
    return {slot: (ttl, left) for slot, ttl, left in _OFFER_NOW.iter_unpack(blob)}


def read_entry(show: ShowId, entry: str, fields: dict[bytes, bytes]) -> tuple[Movement, ...]:
    """Decode one outbox entry. Raises ValueError or KeyError for anything that is not one."""
    head = fields[b"h"]
    if len(head) < _HEAD.size:
        raise ValueError("the head of an outbox entry is too short")
    kind, epoch, base_bytes, time_bytes = _HEAD.unpack_from(head)
    base, at = int.from_bytes(base_bytes, "big"), int.from_bytes(time_bytes, "big")
    seq = (epoch << COUNTER_BITS) + base
    if kind == b"H":
        ttls = read_offers_now(head[_HEAD.size :])
        return tuple(_held(show, entry, seq, at, ttls, fields[b"s"], fields[b"b"]))
    if kind == b"M":
        return tuple(_moved(show, entry, seq, at, fields[b"m"]))
    raise ValueError(f"unknown kind of outbox entry: {kind!r}")


def _held(
    show: ShowId,
    entry: str,
    seq: int,
    at: int,
    offers: dict[int, tuple[int, int]],
    statuses: bytes,
    blob: bytes,
) -> Iterator[Movement]:
    for status, (buyer, key, lines) in zip(statuses, read_requests(blob), strict=True):
        seq += 1
        if status == _HELD:
            expires_at = at + 1000 * min(offers[line.slot][0] for line in lines)
            yield Movement(show, seq, entry, at, MovementKind.HELD, buyer, key, lines, expires_at)


def _moved(show: ShowId, entry: str, seq: int, at: int, blob: bytes) -> Iterator[Movement]:
    place = 0
    while place < len(blob):
        kind = KINDS[chr(blob[place])]
        buyer = BuyerId(blob[place + 1 : place + 17])
        record, place = _read_record(blob, place + 17)
        seq += 1
        expires_at = record.time if record.state in ("H", "P") else 0
        yield Movement(show, seq, entry, at, kind, buyer, record.key, record.lines, expires_at)


def _read_lines(blob: bytes, at: int) -> tuple[tuple[Line, ...], int]:
    stop = at + 1 + 4 * blob[at]
    if stop > len(blob):
        raise ValueError("a packed hold ends too early")
    lines = tuple(Line(slot, qty) for slot, qty in _LINE.iter_unpack(blob[at + 1 : stop]))
    return lines, stop


def _read_record(blob: bytes, at: int) -> tuple[HoldRecord, int]:
    lines, stop = _read_lines(blob, at + 16)
    if stop + 7 > len(blob):
        raise ValueError("a packed record ends too early")
    key, time = HoldKey(blob[at : at + 16]), int.from_bytes(blob[stop + 1 : stop + 7], "big")
    if blob[stop : stop + 1] != _PAYING:
        return HoldRecord(key, lines, chr(blob[stop]), time), stop + 7
    if stop + 13 > len(blob):
        raise ValueError("a packed record ends too early")
    held_until = int.from_bytes(blob[stop + 7 : stop + 13], "big")
    return HoldRecord(key, lines, "P", time, held_until), stop + 13
