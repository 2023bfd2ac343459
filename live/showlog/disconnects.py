"""Who has to be closed on all gateways: a person who logged out, or was banned from a show.

Told by pub/sub, which forgets; so Redis keeps the latest ones for a while, and a gateway that was
cut off reads there what it missed.
Always: after a gap each disconnect since the last one that was heard is done, and none from before
it, so who was disconnected and came back stays.
Runs on: the event loop; one task while something is read again.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from live.aio.tasks import Tasks
from live.base.errors import Busy
from live.domain.caller import ABOVE_ALL
from live.showlog.store import Store

READ_TRIES_MAX = 100  # PAUSE_SECONDS apart; a subscription has just worked, so one is usual
PAUSE_SECONDS = 0.25


class Disconnect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told and kept: close this person's connections with this code.

    `person`: the digest, in hex. `show`: there alone; "" everywhere. `rank`: whoever stands as high
    or higher stays. `token`: connections of this token alone. A log-out says as well which tokens
    it ended: those made until `before`, the last of which expires at `until` (Unix seconds).
    """

    person: str
    code: int
    reason: str
    show: str = ""
    token: str = ""
    rank: int = ABOVE_ALL
    before: int = 0
    until: int = 0


OnDisconnect = Callable[[Disconnect], object]

log = structlog.get_logger()
_decode = msgspec.json.Decoder(Disconnect).decode


class Disconnects:
    """Hears every disconnect that is told and calls the listeners with it."""

    def __init__(self, store: Store) -> None:
        self._listeners: list[OnDisconnect] = []
        self._store = store
        self._seen = "0-0"  # the latest disconnect that was heard here
        self._unread: str | None = None  # everything after it is to be read again; None: nothing
        self._tasks = Tasks()
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin with what comes from now on. Raises Busy."""
        self._seen = await self._store.latest_disconnect()

    async def close(self) -> None:
        await self._tasks.close()

    def listen(self, listener: OnDisconnect) -> None:
        """Call it with every disconnect; those who listened first are called first."""
        self._listeners.append(listener)

    def take(self, raw: bytes) -> None:
        """Do what pub/sub tells. Raises msgspec's errors for what is no disconnect."""
        entry, _, message = raw.partition(b" ")
        self._seen = entry.decode()
        self._do(message)

    def missed(self) -> None:
        """Some may be lost: read again what came after the last that was heard."""
        if self._unread is None:
            self._unread = self._seen
        if self._reading is not None:
            self._reading.cancel()  # it may have read too early
        self._reading = self._tasks.start("disconnects", self._read())

    async def _read(self) -> None:
        assert self._unread is not None, "something was missed"
        for _ in range(READ_TRIES_MAX):
            try:
                found = await self._store.disconnects_after(self._unread)
                break
            except Busy as fault:
                log.warning("disconnects not readable", fault=str(fault))
                await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
        for entry, message in found:
            self._do(message)
            self._seen = max(self._seen, entry, key=_order)  # one may have been heard meanwhile
        self._unread = None

    def _do(self, message: bytes) -> None:
        disconnect = _decode(message)
        for listener in self._listeners:
            listener(disconnect)


def _order(entry: str) -> tuple[int, int]:
    at, _, number = entry.partition("-")
    return int(at), int(number)
