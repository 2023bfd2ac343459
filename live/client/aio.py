"""The client on asyncio: one task that keeps it connected, and calls that wait for their answers.

Always: every call ends in an answer, `CallFailed`, or `NoAnswer` within `COMMAND_SECONDS`; nothing
that this keeps grows without a bound.
Why not `websockets.connect`: an arrival is stamped in `data_received`, before any task is switched
to, so that a measured latency is the server's and not this process' queue of tasks.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Self, TypeVar

from live.base.errors import reason_of
from live.client.core import ABNORMAL_CLOSE, ClientCore
from live.client.events import CallFailed, Connected, Disconnected, Event, News, NoAnswer
from live.client.shell import COMMAND_SECONDS, Listener, ending, settle
from live.protocol.commands import (
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublishResult,
    RefreshResult,
    Result,
    RpcResult,
    StreamPosition,
    SubscribeResult,
    UnsubscribeResult,
)

NEWS_MAX = 1_024  # unread; who reads more slowly than that is disconnected
REFRESH_AGAIN_SECONDS = (5.0, 10.0)  # after a refresh that failed for now, as the SDKs have it

GetToken = Callable[[], Awaitable[str]]
R = TypeVar("R", bound=Result)


class Client:
    """A connection that comes back by itself, without missing what its channels carried.

        async with Client(url, token=token, data={"show": "demo"}) as client:
            snapshot = json.loads((await client.connected()).data)
            answer = await client.rpc("offer.hold", {"offer": offer, "qty": 1, "key": key})
            async for news in client: ...

    Made where a loop runs. `url`: `ws://` or `wss://`, with the path `/connection/websocket`; else
    websockets' `InvalidURI` is raised. Without a `token` one watches without a name, where the
    service has guests. `get_token` is asked for another token when the present one ends; an error
    of its own ends the client. `listener` hears each event as it is read from the socket, in place
    of `async for`, and must neither block nor raise. `gate`, a semaphore for example, is held while
    a connection is made, so that the clients of a process come in so many at a time.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        data: object = None,
        name: str = "live",
        get_token: GetToken | None = None,
        listener: Listener | None = None,
        gate: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        self.core = ClientCore(
            url, token=token, data=data, name=name, renewable=get_token is not None
        )
        self._get_token = get_token
        self._hear = listener or self._keep
        self._gate = gate or nullcontext()
        self._loop = asyncio.get_running_loop()
        self._line: _Line | None = None
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._joined: asyncio.Future[Connected] = self._loop.create_future()
        self._over: asyncio.Future[Disconnected] = self._loop.create_future()  # this connection
        self._end: Disconnected | None = None  # of it, once it has ended
        self._fault: BaseException | None = None  # what `get_token` raised
        self._news: asyncio.Queue[News] = asyncio.Queue()  # at most NEWS_MAX and the last word
        self._is_read = False
        self._heard_at = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._staying: asyncio.Task[None] | None = None

    # -- its life

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._staying = self._loop.create_task(self._stay())
        self._staying.add_done_callback(self._on_done)

    async def connected(self) -> Connected:
        """Wait for a connection and return how it began. Raises Gone where none will come."""
        return await asyncio.shield(self._joined)

    async def close(self) -> None:
        """Say goodbye and end. Raises what `get_token` raised, if that was the end."""
        self._take(self.core.leave())
        if self._staying is not None:
            self._staying.cancel()
            await asyncio.wait((self._staying,))
        if self._fault is not None:
            raise self._fault

    def cut(self) -> None:
        """End the connection as a lost network does; the client comes back by itself."""
        if self._line is not None:
            self._line.transport.abort()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> News:
        """The next event; the last one is the `Disconnected` without a return."""
        self._is_read = True
        if self._news.empty() and self._end is not None and self._end.retry_seconds is None:
            raise StopAsyncIteration
        return await self._news.get()

    # -- calls: each raises CallFailed, or NoAnswer where the outcome is unknown

    async def rpc(self, method: str, data: object) -> bytes:
        """Call a method; the answer's data, as JSON."""
        result = await self._answer(RpcResult, lambda core: core.rpc(method, data))
        return bytes(result.data) if result.data else b"null"

    async def publish(self, channel: str, data: object) -> None:
        """Publish to a channel; the publisher hears it as well."""
        await self._answer(PublishResult, lambda core: core.publish(channel, data))

    async def subscribe(self, channel: str, *, token: str = "") -> SubscribeResult:
        """Subscribe to a channel; it is done again, from where we were, after each reconnect."""
        return await self._answer(
            SubscribeResult, lambda core: core.subscribe(channel, token=token)
        )

    async def unsubscribe(self, channel: str) -> None:
        """End a subscription and forget where it was."""
        await self._answer(UnsubscribeResult, lambda core: core.unsubscribe(channel))

    async def history(
        self,
        channel: str,
        *,
        limit: int,
        since: StreamPosition | None = None,
        reverse: bool = False,
    ) -> HistoryResult:
        """Publications of a channel's log; `limit` 0 asks for its position alone."""
        return await self._answer(
            HistoryResult,
            lambda core: core.history(channel, limit=limit, since=since, reverse=reverse),
        )

    async def presence(self, channel: str) -> PresenceResult:
        """Who is subscribed, by connection, where the server tells that."""
        return await self._answer(PresenceResult, lambda core: core.presence(channel))

    async def presence_stats(self, channel: str) -> PresenceStatsResult:
        """How many connections and people are subscribed."""
        return await self._answer(PresenceStatsResult, lambda core: core.presence_stats(channel))

    async def refresh(self, token: str) -> None:
        """Go on with another token of the same person."""
        await self._answer(RefreshResult, lambda core: core.refresh(token))

    async def _answer(self, kind: type[R], send: Callable[[ClientCore], int]) -> R:
        promise: asyncio.Future[Result] = self._loop.create_future()
        number = 0
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                await self.connected()
                number = send(self.core)
                self._waiting[number] = promise
                self._flush()
                result = await promise
        except TimeoutError:
            raise NoAnswer(f"no answer in {COMMAND_SECONDS:.0f} s") from None
        finally:
            self._waiting.pop(number, None)
            self.core.forget(number)
        assert isinstance(result, kind), "the core has checked it"
        return result

    # -- staying connected

    async def _stay(self) -> None:
        while True:
            await self._attempt()
            end = await self._over
            if end.retry_seconds is None:
                return
            await asyncio.sleep(end.retry_seconds)
            if end.token_expired and self._get_token is not None:
                self.core.token = await self._get_token()

    async def _attempt(self) -> None:
        """Begin a connection; return when it is accepted or has ended."""
        target = self.core.target
        secure = ssl.create_default_context() if target.secure else None
        async with self._gate:
            self._end, self._over = None, self._loop.create_future()
            self.core.begin()
            try:
                async with asyncio.timeout(COMMAND_SECONDS):
                    await self._loop.create_connection(
                        lambda: _Line(self), target.host, target.port, ssl=secure
                    )
                    await asyncio.wait((self._joined, self._over), return_when="FIRST_COMPLETED")
            except OSError as fault:  # TimeoutError is one
                self._take(self.core.lost(f"not connected: {reason_of(fault)}"))

    def _on_done(self, task: asyncio.Task[None]) -> None:
        """End where `get_token` did."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fault = fault
            self._take(self.core.leave("no token"))

    async def _refresh(self) -> None:
        """Renew the token whenever it is time."""
        assert self._get_token is not None, "asked for by `_take` alone then"
        while seconds := self.core.refresh_seconds:
            await asyncio.sleep(seconds)
            while True:
                try:
                    await self.refresh(await self._get_token())
                    break
                except NoAnswer:
                    pass
                except CallFailed as refusal:
                    if not refusal.temporary:
                        self._take(self.core.leave(str(refusal)))
                        return
                await asyncio.sleep(random.uniform(*REFRESH_AGAIN_SECONDS))

    # -- what the line brings

    def _take(self, events: list[Event]) -> None:
        for event in events:
            news = settle(self._waiting, event)
            if isinstance(event, Connected):
                self._on_connected(event)
            elif isinstance(event, Disconnected):
                self._on_end(event)
            if news is not None:
                self._hear(news)
            if self._end is not None:  # also where the listener left: nothing is told after that
                break
        self._flush()
        if self._end is not None and self._line is not None:
            line, self._line = self._line, None
            line.transport.close()
            if self._end.code == ABNORMAL_CLOSE:  # nobody takes what is still to be sent
                line.transport.abort()

    def _on_connected(self, event: Connected) -> None:
        if not self._joined.done():
            self._joined.set_result(event)
        self._watch()
        if self.core.refresh_seconds and self._get_token is not None:
            self._refreshing = self._loop.create_task(self._refresh())
            self._refreshing.add_done_callback(self._on_done)

    def _on_end(self, event: Disconnected) -> None:
        self._end = event
        if self._alarm is not None:
            self._alarm.cancel()
        if self._refreshing is not None:
            self._refreshing.cancel()
        if self._joined.done():
            self._joined = self._loop.create_future()
        if event.retry_seconds is None:
            self._joined.set_exception(ending(event))
            self._joined.exception()  # nobody may be waiting; that is no bug
        if not self._over.done():
            self._over.set_result(event)

    def _watch(self) -> None:
        """End a line on which nothing was heard for too long."""
        if not self.core.silence_seconds:
            return
        left = self._heard_at + self.core.silence_seconds - self._loop.time()
        if left > 0:
            self._alarm = self._loop.call_later(left, self._watch)
        else:
            self._take(self.core.lost("no ping"))

    def _keep(self, news: News) -> None:
        last_word = isinstance(news, Disconnected) and news.retry_seconds is None
        if last_word or self._news.qsize() < NEWS_MAX:
            self._news.put_nowait(news)
        elif self._is_read:
            self._take(self.core.leave("too slow a reader"))
        else:  # nobody ever read: only the newest are worth keeping
            self._news.get_nowait()
            self._news.put_nowait(news)

    def _flush(self) -> None:
        line = self._line
        if line is not None and not line.transport.is_closing():
            line.transport.write(b"".join(self.core.data_to_send()))


class _Line(asyncio.Protocol):
    """One connection; what comes of an older one is not heard."""

    transport: asyncio.Transport

    def __init__(self, client: Client) -> None:
        self._client = client

    # uvloop's transports have the methods of Transport but are no subclass of it.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        if self._client._end is not None:  # too late
            transport.abort()
            return
        self._client._line = self
        self._client._flush()

    def data_received(self, data: bytes) -> None:
        client = self._client
        if client._line is self:
            client._heard_at = client._loop.time()
            client._take(client.core.receive(data, time.time() * 1000))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._client._line is self:
            self._client._take(self._client.core.lost(str(exc or "cut off")))
