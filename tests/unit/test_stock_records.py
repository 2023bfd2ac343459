"""The byte layouts: what is packed is read back, whatever it is."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.api.schema.http_requests import OfferBody
from live.base.errors import BadField
from live.domain.hold import Line, MovementKind
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.offer import PURCHASES_MAX, Mode, Phase, Stock
from live.domain.stock import OfferNow
from live.redis.scripts import read_scripts
from live.stock.records import (
    COUNTER_BITS,
    UNITS_MAX,
    HoldRecord,
    number6,
    pack_lines,
    pack_offer,
    pack_record,
    pack_request,
    pack_slot,
    read_entry,
    read_offer,
    read_offers_now,
    read_records,
    read_requests,
    read_stock,
    sum_lines,
)
from tests.support.stock_kit import terms

SHOW = ShowId("s")
sixteen = st.binary(min_size=16, max_size=16)
line = st.builds(Line, st.integers(0, 999), st.integers(1, 1000))
lines = st.lists(line, min_size=1, max_size=8, unique_by=lambda line: line.slot).map(tuple)
time = st.integers(0, 2**48 - 1)


@given(st.lists(st.tuples(sixteen.map(BuyerId), sixteen.map(HoldKey), lines), max_size=20))
def test_requests_are_read_back_as_packed(
    requests: list[tuple[BuyerId, HoldKey, tuple[Line, ...]]],
) -> None:
    """Any batch of requests, carts among them, survives the blob."""
    blob = b"".join(pack_request(*request) for request in requests)
    assert list(read_requests(blob)) == requests


record = st.builds(HoldRecord, sixteen.map(HoldKey), lines, st.sampled_from("HSREXW"), time)
paying = st.builds(HoldRecord, sixteen.map(HoldKey), lines, st.just("P"), time, time)


@given(st.lists(record | paying))
def test_records_are_read_back_as_packed(records: list[HoldRecord]) -> None:
    """Any row of a buyer's records survives the hash value."""
    value = b"".join(
        pack_record(r.key, r.lines, r.state.encode(), r.time, r.held_until) for r in records
    )
    assert list(read_records(value)) == records


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_stock_is_read_back_as_packed(left: int, held: int, sold: int) -> None:
    """Units survive, also a `left` below zero after the ledger took some away."""
    stock = Stock(left, held, sold)
    assert read_stock(pack_offer(terms(SHOW), stock)) == stock


def test_bound_on_purchases_is_the_one_that_is_published() -> None:
    """Lua enforces what the API's description of `per_buyer_limit` says."""
    [bound] = re.findall(
        r"RECORDS_PER_OFFER_MAX, .+ = (\d+), ", read_scripts("live.stock")["hold"].text.decode()
    )
    schema = msgspec.json.schema(OfferBody)
    [offer_body] = [one for name, one in schema["$defs"].items() if name == "OfferBody"]
    assert int(bound) == PURCHASES_MAX
    assert f"at most {bound}" in offer_body["properties"]["per_buyer_limit"]["description"]


def test_one_request_takes_37_bytes() -> None:
    """The layout is the price of a hold in the outbox and in the buyers' hash."""
    assert len(pack_request(BuyerId(bytes(16)), HoldKey(bytes(16)), [Line(0, 1)])) == 37
    assert len(pack_record(HoldKey(bytes(16)), [Line(0, 1)], b"H", 0)) == 28
    assert len(pack_record(HoldKey(bytes(16)), [Line(0, 1)], b"P", 0)) == 34


@given(st.lists(line, min_size=1, max_size=8))
def test_lines_of_one_offer_are_summed(cart: list[Line]) -> None:
    """No slot twice, no unit lost, first appearance first."""
    summed = sum_lines(cart)
    assert [line.slot for line in summed] == list(dict.fromkeys(line.slot for line in cart))
    assert sum(line.qty for line in summed) == sum(line.qty for line in cart)


@pytest.mark.parametrize(
    "cart",
    [
        [],
        [Line(0, 0)],
        [Line(0, -1)],
        [Line(0, 2), Line(0, 0)],
        [Line(0, UNITS_MAX + 1)],
        [Line(0, UNITS_MAX), Line(0, 1)],
        [Line(slot, 1) for slot in range(9)],
    ],
)
def test_lines_out_of_range_are_refused(cart: list[Line]) -> None:
    """Nothing out of range reaches Redis."""
    with pytest.raises(BadField):
        sum_lines(cart)


def test_lines_at_their_bounds_are_taken() -> None:
    """Eight offers, and the highest number of units that the layout carries."""
    assert len(sum_lines([Line(slot, 1) for slot in range(8)])) == 8
    assert sum_lines([Line(0, UNITS_MAX)]) == (Line(0, UNITS_MAX),)


def test_entry_of_a_batch_tells_held_requests_only() -> None:
    """Refused requests stand in the blob but are no movements; seq counts by place."""
    first = (BuyerId(b"a" * 16), HoldKey(b"k" * 16), (Line(1, 2), Line(2, 1)))
    second = (BuyerId(b"b" * 16), HoldKey(b"l" * 16), (Line(1, 1),))
    head = b"H" + (3).to_bytes(4, "big") + number6(7) + number6(1_000)
    head += b"".join(
        slot.to_bytes(2, "big") + ttl.to_bytes(4, "big") + bytes(4)
        for slot, ttl in [(1, 60), (2, 9)]
    )
    fields = {b"h": head, b"s": b"HO", b"b": pack_request(*first) + pack_request(*second)}
    [movement] = read_entry(SHOW, "1-0", fields)
    assert movement.kind is MovementKind.HELD
    assert (movement.buyer, movement.key, movement.lines) == first
    assert movement.seq == (3 << COUNTER_BITS) + 8
    assert movement.expires_at == 1_000 + 9_000
    assert (movement.show, movement.entry, movement.at) == (SHOW, "1-0", 1_000)
    assert read_offers_now(head[17:]) == {1: (60, 0), 2: (9, 0)}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"h": b""},
        {b"h": b"?" + bytes(16), b"m": b""},
        {b"h": b"M" + bytes(16), b"m": b"G" + bytes(20)},
        {b"h": b"M" + bytes(16), b"m": b"G" + bytes(16) + bytes(16) + b"\x09"},
        {  # a paying record without its last six bytes
            b"h": b"M" + bytes(16),
            b"m": b"B" + bytes(16) + pack_record(HoldKey(bytes(16)), [Line(0, 1)], b"P", 1)[:-6],
        },
        {
            b"h": b"H" + bytes(16),
            b"s": b"HH",
            b"b": bytes(32) + b"\x01" + pack_lines([Line(0, 1)])[1:],
        },
        *(  # more statuses than requests, and fewer
            {b"h": b"H" + bytes(16), b"s": told, b"b": bytes(32) + pack_lines([Line(0, 1)])}
            for told in (b"OO", b"")
        ),
    ],
)
def test_broken_entry_is_an_error_and_never_half_read(fields: dict[bytes, bytes]) -> None:
    """Whatever is wrong, reading raises one of the errors that the outbox reader expects."""
    with pytest.raises((ValueError, KeyError, IndexError)):
        read_entry(SHOW, "1-0", fields)


def test_entry_of_movements_tells_each_in_its_order() -> None:
    """Seq counts on; only what still lives has a deadline."""
    buyers = [BuyerId(bytes([n]) * 16) for n in range(4)]
    keys = [HoldKey(bytes([n]) * 16) for n in range(10, 14)]
    cart = (Line(1, 2), Line(2, 1))
    records = [
        (b"G", pack_record(keys[0], [Line(0, 1)], b"H", 9_000)),
        (b"B", pack_record(keys[1], cart, b"P", 8_000, 7_000)),
        (b"C", pack_record(keys[2], [Line(3, 4)], b"S", 0)),
        (b"W", pack_record(keys[3], [Line(0, 1)], b"W", 5)),
    ]
    head = b"M" + (3).to_bytes(4, "big") + number6(7) + number6(1_000)
    blob = b"".join(kind + buyers[n] + body for n, (kind, body) in enumerate(records))

    found = read_entry(SHOW, "2-1", {b"h": head, b"m": blob})

    K = MovementKind
    assert [one.kind for one in found] == [K.GRANTED, K.BEGAN, K.CONFIRMED, K.WAITLISTED]
    assert [one.seq - (3 << COUNTER_BITS) for one in found] == [8, 9, 10, 11]
    assert [one.expires_at for one in found] == [9_000, 8_000, 0, 0]
    assert [one.buyer for one in found] == buyers
    assert [one.key for one in found] == keys
    assert [one.lines for one in found] == [(Line(0, 1),), cart, (Line(3, 4),), (Line(0, 1),)]
    assert {(one.show, one.entry, one.at) for one in found} == {(SHOW, "2-1", 1_000)}


@pytest.mark.parametrize("reserved", [False, True])
@pytest.mark.parametrize(
    ("phase", "mode", "opens_at", "closes_at"),
    [(Phase.OPEN, Mode.HOLD, 5, 2**46), (Phase.SCHEDULED, Mode.FIRST_PAID, None, None)],
)
def test_offer_is_read_back_as_packed(
    phase: Phase, mode: Mode, opens_at: int | None, closes_at: int | None, reserved: bool
) -> None:
    """What Redis decides by, field by field."""
    waitlist = mode is Mode.HOLD
    told = terms(SHOW, phase=phase, mode=mode, opens_at=opens_at, closes_at=closes_at, version=9,
                 waitlist=waitlist)  # fmt: skip
    assert read_offer(pack_offer(told, Stock(-1, 2, 3), reserved=reserved)) == OfferNow(
        phase=phase,
        mode=mode,
        waitlist=waitlist,
        version=9,
        per_buyer_limit=told.per_buyer_limit,
        hold_seconds=told.hold_seconds,
        opens_at=opens_at,
        closes_at=closes_at,
        reserved=int(reserved),
        stock=Stock(-1, 2, 3),
    )


def test_offers_name_in_redis_is_its_slot() -> None:
    """Two bytes, the high one first."""
    assert (pack_slot(0), pack_slot(258)) == (b"\0\0", b"\1\2")
