"""Reading the outbox: what the engine decided, on its way to the ledger.

Owns: nothing but its connections. The outbox is a Redis stream per show, written by the same Lua
call that moves the stock; the consumer group `settlers` shares it among settlers.
Always: an entry is delivered at least once until it is acknowledged; `trim` frees only what is
acknowledged and what no deadline of a batch needs any more.
Raises: Busy where a show has no stream or group (Redis lost it: rebuild) or Redis is silent.
"""

import asyncio
import struct
from collections.abc import Sequence
from time import time
from typing import Final

import hiredis

from live.base.errors import Busy, EngineError, OutboxLost, reason_of
from live.domain.ids import ShowId
from live.domain.stock import OutboxBacklog, OutboxBatch
from live.redis.connection import Address, Lost, Wire
from live.stock.calls import CALL_SECONDS, REBUILDING, StockCalls
from live.stock.keys import GROUP, show_keys
from live.stock.records import read_entry
from live.stock.replies import as_bytes, as_list, as_number

POLL_SECONDS: Final = 0.01  # between looks at the streams of a cluster's node, or longer:
POLLS_A_SECOND_MAX: Final = 2_000  # streams looked at in a second; 4 % of a core

_GROUP: Final = GROUP.encode()


class Outbox:
    def __init__(self, url: str) -> None:
        self._calls = StockCalls(url)
        self._reader: Wire | None = None  # reads block, so they have a connection of their own

    async def open(self) -> None:
        """Connect once, so that a wrong URL is found at the start. Raises EngineError."""
        await self._calls.open()

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.abort()
        await self._calls.close()

    def place_of(self, show: ShowId) -> str:
        """What shows of one server have in common: only these may be read together."""
        return self._calls.nodes.of(show)

    async def read(
        self, shows: Sequence[ShowId], *, consumer: str, entries_max: int, block_ms: int
    ) -> list[OutboxBatch]:
        """Entries that no settler had yet, of all shows; waits up to `block_ms` (0: not at all).

        What a lost reply carried comes back through `claim`. Raises OutboxLost for the first show
        without a group; the caller goes on with the others.
        """
        if not shows:
            return []
        group = (b"GROUP", _GROUP, consumer.encode(), b"COUNT", b"%d" % entries_max)
        if self._calls.nodes.clustered:
            return await self._poll(shows, group, block_ms / 1000)
        by_key = {show_keys(show).outbox: show for show in shows}
        parts = [b"XREADGROUP", *group]
        if block_ms > 0:
            parts += [b"BLOCK", b"%d" % block_ms]
        parts += [b"STREAMS", *by_key, *[b">"] * len(by_key)]
        reply = await self._read(tuple(parts), CALL_SECONDS + block_ms / 1000)
        if isinstance(reply, hiredis.ReplyError):
            for stream_key, show in by_key.items():
                if str(reply).startswith("NOGROUP") and f"'{stream_key.decode()}'" in str(reply):
                    raise OutboxLost(show)
            raise Busy(f"the outbox cannot be read: {str(reply).partition(' ')[0]}")
        batches: list[OutboxBatch] = []
        for stream in as_list(reply or []):
            key, entries = as_list(stream)
            batches += _batches(by_key[as_bytes(key)], entries)
        return batches

    async def _poll(
        self, shows: Sequence[ShowId], group: tuple[bytes, ...], seconds: float
    ) -> list[OutboxBatch]:
        """Look until there is something: one command can wait in one slot of a cluster only.

        A blocking read per show would take a connection for each; this takes none, costs a quiet
        show a bounded number of small commands and a busy one no wait.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        pause = max(POLL_SECONDS, len(shows) / POLLS_A_SECOND_MAX)
        while True:
            looks = [self._look(show, group) for show in shows]
            found = await asyncio.gather(*looks, return_exceptions=True)
            batches = [one for batch in found if isinstance(batch, list) for one in batch]
            if batches:
                return batches  # delivered to us; a show that failed will fail again next time
            for fault in found:
                if isinstance(fault, BaseException):
                    raise fault
            left = deadline - clock()
            if left <= 0:
                return []
            await asyncio.sleep(min(pause, left))

    async def _look(self, show: ShowId, group: tuple[bytes, ...]) -> list[OutboxBatch]:
        key = show_keys(show).outbox
        try:
            reply = await self._calls.send(b"XREADGROUP", *group, b"STREAMS", key, b">", show=show)
        except Busy as error:
            if "NOGROUP" in str(error):
                raise OutboxLost(show) from error
            raise
        return [
            one for stream in as_list(reply or []) for one in _batches(show, as_list(stream)[1])
        ]

    async def claim(
        self, show: ShowId, *, consumer: str, idle_ms_min: int, entries_max: int
    ) -> list[OutboxBatch]:
        """Entries that some settler took at least `idle_ms_min` ago and never acknowledged."""
        idle, count = b"%d" % idle_ms_min, b"%d" % entries_max
        key = show_keys(show).outbox
        reply = await self._calls.send(
            b"XAUTOCLAIM", key, _GROUP, consumer.encode(), idle, b"0-0", b"COUNT", count, show=show
        )
        return _batches(show, as_list(reply)[1])

    async def ack(self, show: ShowId, entries: Sequence[str]) -> None:
        if entries:
            ids = [entry.encode() for entry in entries]
            await self._calls.send(b"XACK", show_keys(show).outbox, _GROUP, *ids, show=show)

    async def trim(self, show: ShowId) -> int:
        """Free what is acknowledged and no longer needed by the reaper; returns how many."""
        k = show_keys(show)
        reply = await self._calls.run_bare("trim", show, (k.meta, k.outbox, k.deadlines), _GROUP)
        if reply == REBUILDING:
            raise OutboxLost(show)
        return as_number(reply)

    async def forget_consumers(self, show: ShowId, *, idle_ms: int) -> None:
        """Take out of the group who was silent for so long and owes nothing: dead settlers."""
        key = show_keys(show).outbox
        await self._calls.run_bare("forget", show, (key,), _GROUP, b"%d" % idle_ms)

    async def backlog(self, show: ShowId) -> OutboxBacklog:
        key = show_keys(show).outbox
        pending, oldest, *_ = as_list(await self._calls.send(b"XPENDING", key, _GROUP, show=show))
        facts = await self._group_facts(show)
        undelivered = facts.get(b"lag")
        if undelivered is None:  # Redis cannot tell after some trims: an upper bound then
            undelivered = await self._calls.send(b"XLEN", key, show=show)
        if oldest is None and facts:
            oldest = await self._first_after(show, facts)
        age_ms = 0
        if oldest is not None:
            age_ms = int(time() * 1000) - int(as_bytes(oldest).partition(b"-")[0])
        waiting = as_number(pending)
        return OutboxBacklog(as_number(undelivered) + waiting, waiting, max(0, age_ms))

    async def first_unsettled(self, show: ShowId) -> str | None:
        """The oldest entry that is not acknowledged, delivered or not; None: all is settled."""
        key = show_keys(show).outbox
        # Undelivered before pending: an entry that is delivered in between is found twice, and one
        # that is acknowledged in between is named once too often, never the other way round.
        found: list[str] = []
        facts = await self._group_facts(show)
        undelivered = await self._first_after(show, facts) if facts else None
        if undelivered is not None:
            found.append(undelivered.decode())
        _, oldest, *_ = as_list(await self._calls.send(b"XPENDING", key, _GROUP, show=show))
        if oldest is not None:
            found.append(as_bytes(oldest).decode())
        return min(found, key=_entry_order, default=None)

    async def recreate_group(self, show: ShowId) -> None:
        """Start over at the first entry that survived, so that a rebuild can drain the outbox."""
        key = show_keys(show).outbox
        try:
            await self._calls.send(b"XGROUP", b"CREATE", key, _GROUP, b"0", b"MKSTREAM", show=show)
        except Busy as error:
            if "BUSYGROUP" not in str(error):
                raise
            await self._calls.send(b"XGROUP", b"SETID", key, _GROUP, b"0", show=show)

    async def _group_facts(self, show: ShowId) -> dict[bytes, object]:
        """What Redis tells of the consumer group; empty where it is gone."""
        key = show_keys(show).outbox
        for group in as_list(await self._calls.send(b"XINFO", b"GROUPS", key, show=show)):
            fields = as_list(group)
            facts = dict(zip(map(as_bytes, fields[0::2]), fields[1::2], strict=True))
            if facts[b"name"] == _GROUP:
                return facts
        return {}

    async def _first_after(self, show: ShowId, facts: dict[bytes, object]) -> bytes | None:
        """The oldest entry that was never delivered."""
        after = b"(" + as_bytes(facts[b"last-delivered-id"])
        key = show_keys(show).outbox
        reply = await self._calls.send(b"XRANGE", key, after, b"+", b"COUNT", b"1", show=show)
        rest = as_list(reply)
        return as_bytes(as_list(rest[0])[0]) if rest else None

    async def _read(self, parts: tuple[bytes, ...], seconds: float) -> object:
        try:
            if self._reader is None or not self._reader.alive:  # which has limits of its own
                address = Address(self._calls.nodes.of(""))
                self._reader = await address.connect(lambda wire: None)
            async with asyncio.timeout(seconds):
                reply = await self._reader.call(*parts)
        except (OSError, TimeoutError, EngineError) as error:
            self._drop_reader()
            raise Busy(f"Redis does not answer: {reason_of(error)}") from error
        except asyncio.CancelledError:
            self._drop_reader()  # its late reply would be taken for the next one's
            raise
        if isinstance(reply, Lost):
            raise Busy("Redis does not answer")
        return reply

    def _drop_reader(self) -> None:
        if self._reader is not None:
            self._reader.abort()


def _entry_order(entry: str) -> tuple[int, int]:
    ms, _, number = entry.partition("-")
    return int(ms), int(number)


def _batches(show: ShowId, entries: object) -> list[OutboxBatch]:
    batches = []
    for item in as_list(entries):
        entry, fields = as_list(item)
        values = [as_bytes(value) for value in as_list(fields)]
        batches.append(_batch(show, as_bytes(entry).decode(), values))
    return batches


def _batch(show: ShowId, entry: str, values: list[bytes]) -> OutboxBatch:
    fields = dict(zip(values[0::2], values[1::2], strict=True))
    try:
        return OutboxBatch(show, entry, read_entry(show, entry, fields))
    except (ValueError, KeyError, IndexError, struct.error) as error:
        # An entry that nobody can read must not stop the ones behind it.
        return OutboxBatch(show, entry, (), fault=f"{type(error).__name__}: {error}")
