"""Who has to be closed on all gateways: a person who logged out, or was banned from a show.

Told by pub/sub, which forgets; so Redis keeps the latest ones for a while, and a gateway that was
cut off reads there what it missed.
Always: after a gap each kick since the last one that was heard is done, and none from before it, so
who was kicked and came back stays.
Runs on: the event loop; one task while something is read again.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from live.domain.ids import ShowId
from live.errors import Busy
from live.protocol.codes import Close
from live.realtime.store import Store
from live.realtime.tasks import cancel_all

READ_TRIES_MAX = 100  # PAUSE_SECONDS apart; a subscription has just worked, so one is usual
PAUSE_SECONDS = 0.25

OnKick = Callable[[str, str, Close], None]
"""(sub, show or "" for all shows, how to close)"""


class _Kick(msgspec.Struct):
    """What is told and kept: close this person's connections with this code."""

    sub: str
    code: int
    reason: str
    show: str = ""  # "": on every show


log = structlog.get_logger()
_decode = msgspec.json.Decoder(_Kick).decode


class Kicks:
    """`on_kick` is set by whoever has connections to close."""

    def __init__(self, store: Store) -> None:
        self.on_kick: OnKick | None = None
        self._store = store
        self._seen = "0-0"  # the latest kick that was heard here
        self._unread: str | None = None  # everything after it is to be read again; None: nothing
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin with what comes from now on. Raises Busy."""
        self._seen = await self._store.latest_kick()

    async def close(self) -> None:
        if self._reading is not None:
            await cancel_all([self._reading])

    async def kick(self, sub: str, close: Close, *, show: ShowId | None = None) -> None:
        """Tell all gateways, this one too. Raises Busy."""
        kick = _Kick(sub, close.code, close.reason, show or "")
        await self._store.kick(msgspec.json.encode(kick))

    def take(self, raw: bytes) -> None:
        """Do what pub/sub tells. Raises msgspec's errors for what is no kick."""
        entry, _, message = raw.partition(b" ")
        self._seen = entry.decode()
        self._do(message)

    def missed(self) -> None:
        """Some may be lost: read again what came after the last that was heard."""
        if self._unread is None:
            self._unread = self._seen
        if self._reading is not None:
            self._reading.cancel()  # it may have read too early
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._unread is not None, "something was missed"
        for _ in range(READ_TRIES_MAX):
            try:
                found = await self._store.kicks_after(self._unread)
                break
            except Busy as fault:
                log.warning("kicks not readable", fault=str(fault))
                await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
        for entry, message in found:
            self._do(message)
            self._seen = max(self._seen, entry, key=_order)  # one may have been heard meanwhile
        self._unread = None

    def _do(self, message: bytes) -> None:
        kick = _decode(message)
        if self.on_kick is not None:
            self.on_kick(kick.sub, kick.show, Close(kick.code, kick.reason))


def _order(entry: str) -> tuple[int, int]:
    at, _, number = entry.partition("-")
    return int(at), int(number)
