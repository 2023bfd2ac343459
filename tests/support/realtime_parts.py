"""A gateway without sockets for tests: real hub, log and Redis, ports that remember."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from live.connection.admission import DEFAULT as ADMISSION
from live.connection.admission import AdmissionLimits
from live.connection.application import Gateway
from live.connection.policy import Policy
from live.connection.ports import Authenticate, OnEnter, OnJoin
from live.domain.ids import ShowId
from live.fanout.hub import Hub
from live.protocol.codec import Codec
from live.protocol.codec_json import JSON
from live.protocol.codes import Close
from live.protocol.limits import Limits
from live.protocol.session import Session
from live.protocol.shared import Shared
from live.showlog.follower import Follower
from live.showlog.log import ShowLog
from tests.support.answers import Json
from tests.support.realtime_app import PermissivePolicy, authenticate

WAIT_SECONDS = 60  # only a deadline: a busy machine takes its time


class Phone:
    """A viewer's end: sends commands, keeps what it gets, answers pings.

    `owed` pretends an unread buffer.
    """

    compresses = False

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self.writes = 0
        self.closed: Close | None = None
        self.owed = 0
        self.session: Session | None = None
        self._number = 0
        self._news = asyncio.Event()

    # Port

    def write(self, data: bytes) -> None:
        if self.closed is None:
            self.writes += 1
            self.messages += [json.loads(line) for line in data.split(b"\n")]
            self._news.set()
            if data == JSON.ping:  # answered soon: a session is not called while it writes
                asyncio.get_running_loop().call_soon(self._pong)

    def _pong(self) -> None:
        if self.closed is None and self.session is not None:
            self.session.receive(b"{}")

    def write_shared(self, frame: Shared) -> None:
        self.write(frame.payload)

    def close(self, close: Close) -> None:
        self.closed = close
        self._news.set()

    def buffered(self) -> int:
        return self.owed

    # What a test asks

    async def until(
        self, found: "Callable[[Phone], object]", *, seconds: float = WAIT_SECONDS
    ) -> None:
        """Wait until a condition on this phone holds."""
        async with asyncio.timeout(seconds):
            while not found(self):
                self._news.clear()
                await self._news.wait()

    async def ask(self, method: str, **fields: object) -> Json:
        """Send one command and return its reply."""
        self._number += 1
        number = self._number
        assert self.session is not None
        self.session.receive(json.dumps({"id": number, method: fields}).encode())
        await self.until(lambda phone: phone.closed or phone.reply(number))
        reply = self.reply(number)
        assert reply is not None, self.closed
        return reply

    def reply(self, number: int) -> Json | None:
        return next((message for message in self.messages if message.get("id") == number), None)

    def offsets(self, channel: str) -> list[int]:
        """Offsets of all publications of a channel: recovered ones and live ones, as they came."""
        found: list[int] = []
        for message in self.messages:
            for method in ("subscribe", "connect"):
                result = message.get(method)
                if isinstance(result, dict):
                    subs = result.get("subs", {}) if method == "connect" else {channel: result}
                    pubs = subs.get(channel, {}).get("publications", [])
                    found += [pub["offset"] for pub in pubs]
            push = message.get("push")
            if isinstance(push, dict) and push["channel"] == channel and "pub" in push:
                found.append(push["pub"].get("offset", 0))
        return found


@asynccontextmanager
async def gateway(
    redis_url: str,
    show: ShowId,
    *,
    make_policy: Callable[[Follower], Policy] | None = None,
    authenticate: Authenticate = authenticate,
    on_join: OnJoin | None = None,
    on_enter: OnEnter | None = None,
    limits: Limits | None = None,
    admission: AdmissionLimits = ADMISSION,
    known: bool = True,
) -> AsyncIterator[Gateway]:
    """`known`: the show has a log before anybody publishes."""
    hub = Hub()
    follower = Follower(ShowLog(redis_url), hub)
    rules = make_policy(follower) if make_policy else PermissivePolicy(follower, show)
    made = Gateway(
        hub,
        follower,
        rules,
        authenticate,
        on_join=on_join,
        on_enter=on_enter,
        limits=limits or Limits(),
        admission=admission,
    )
    await follower.open()
    await made.open()
    if known:
        await follower.log.store.position(show)
    try:
        yield made
    finally:
        await made.close()
        await follower.close()


def dial(gateway: Gateway, codec: Codec = JSON) -> Phone:
    """Open a connection."""
    phone = Phone()
    phone.session = gateway.session(phone, codec)
    return phone
