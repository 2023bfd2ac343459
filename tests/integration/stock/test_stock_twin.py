"""The codec and its Lua twin read each other's bytes."""

from collections.abc import AsyncIterator
from random import Random

import pytest
import redis.asyncio

from live.domain.hold import Line
from live.domain.ids import HoldKey, ShowId
from live.domain.offer import Mode, Phase, Stock
from live.redis import scripts
from live.stock.records import (
    HEAD_OF_LINE,
    MODES,
    PHASES,
    HoldRecord,
    pack_lines,
    pack_offer,
    pack_record,
    read_records,
    read_stock,
)
from tests.support.servers import Valkey
from tests.support.stock_kit import terms

SHOW = ShowId("s")


class Twin:
    """Runs a piece of Lua with the shared parts in front."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def __call__(self, body: str, *args: bytes | int) -> list[object]:
        reply = await self.client.eval(
            scripts.read_source("live.stock", "_records") + body, 0, *args
        )
        assert isinstance(reply, list)
        return reply


@pytest.fixture
async def twin(stock_server: Valkey) -> AsyncIterator[Twin]:
    client = redis.asyncio.Redis.from_url(stock_server.url)
    yield Twin(client)
    await client.aclose()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("mode", MODES)
async def test_offer_packed_in_python_is_read_in_lua(twin: Twin, phase: Phase, mode: Mode) -> None:
    """Each figure arrives, the largest that are allowed and a `left` below zero among them."""
    offer = terms(
        SHOW,
        phase=phase,
        mode=mode,
        version=2**32 - 1,
        per_buyer_limit=1000,
        hold_seconds=86_400,
        opens_at=2**48 - 1,
        closes_at=1,
        waitlist=False,
    )
    packed = pack_offer(offer, Stock(-5, 2**32 - 1, 7), reserved=True)

    read = await twin(
        "local o = read_offer(ARGV[1]) return {o.phase, o.mode, o.waitlist, o.reserved, o.version,"
        " o.limit, o.ttl, o.opens, o.closes, o.left, o.held, o.sold, write_offer(o)}",
        packed,
    )

    figures = [
        PHASES.index(phase),
        MODES.index(mode),
        0,
        HEAD_OF_LINE,
        2**32 - 1,
        1000,
        86_400,
        2**48 - 1,
        1,
    ]
    assert read == [*figures, -5, 2**32 - 1, 7, packed]


async def test_offer_written_in_lua_is_read_in_python(twin: Twin) -> None:
    """Units that Lua moved are what the facade reports."""
    packed = pack_offer(terms(SHOW), Stock(10, 0, 0))

    [moved] = await twin(
        "local o = read_offer(ARGV[1]) o.left = o.left - 13 o.held = o.held + 12 o.sold = 1"
        " return {write_offer(o)}",
        packed,
    )

    assert read_stock(moved) == Stock(-3, 12, 1)  # type: ignore[arg-type]  # bytes


async def test_records_are_found_and_summed_alike(twin: Twin) -> None:
    """For random rows of records Lua finds each key, its lines, state and time, and the units."""
    random = Random(5)
    for _ in range(30):
        records = [
            HoldRecord(
                HoldKey(random.randbytes(16)),
                tuple(
                    Line(slot, random.randint(1, 1000))
                    for slot in random.sample(range(1000), random.randint(1, 8))
                ),
                random.choice("HPSREXW"),
                random.getrandbits(48),
            )
            for _ in range(random.randint(1, 20))
        ]
        packed = {r.key: pack_record(r.key, r.lines, r.state.encode(), r.time, 9) for r in records}
        value = b"".join(packed.values())
        wanted = random.choice(records)
        slot = random.choice(wanted.lines).slot

        found = await twin(
            "local p, n, s = find_record(ARGV[1], ARGV[2])"
            " local all, named = count_records(ARGV[1], tonumber(ARGV[3]))"
            " return {n, sub(ARGV[1], p + 16, s - 1), sub(ARGV[1], s, s),"
            " unpack_bytes('>I6', ARGV[1], s + 1), units_of(ARGV[1], tonumber(ARGV[3])),"
            " all, named, record_of(ARGV[1], p, s)}",
            value,
            wanted.key,
            slot,
        )

        units = sum(
            line.qty for r in records if r.state in "HPS" for line in r.lines if line.slot == slot
        )
        named = sum(any(line.slot == slot for line in r.lines) for r in records)
        assert found == [
            len(wanted.lines),
            pack_lines(wanted.lines),
            wanted.state.encode(),
            wanted.time,
            units,
            len(records),
            named,
            packed[wanted.key],
        ]


async def test_record_changed_in_lua_is_read_in_python(twin: Twin) -> None:
    """A new state and time in the middle of a row leave its neighbours alone."""
    records = [
        HoldRecord(HoldKey(bytes([n]) * 16), (Line(n, n + 1), Line(9, 1)), "H", 100)
        for n in range(3)
    ]
    value = b"".join(pack_record(r.key, r.lines, b"H", 100) for r in records)

    [changed] = await twin(
        "local p, n, s = find_record(ARGV[1], ARGV[2])"
        " return {sub(ARGV[1], 1, s - 1) .. 'P' .. pack('>I6I6', 281474976710655, 7)"
        " .. sub(ARGV[1], behind(ARGV[1], s))}",
        value,
        records[1].key,
    )

    second = HoldRecord(records[1].key, records[1].lines, "P", 2**48 - 1, 7)
    assert list(read_records(changed)) == [records[0], second, records[2]]  # type: ignore[arg-type]  # bytes
