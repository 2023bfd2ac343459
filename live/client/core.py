"""A client of the protocol over all its connections, without any socket: bytes in, events out.

Owns: the handshake, what each frame means, numbers of commands, the position of every recoverable
channel, and the verdict on every end: come back after so many seconds, or never.
Always: a position only moves forward within one epoch, and a repeat of a publication is dropped;
every connection that began ends in one `Disconnected`, after which nothing of it is heard.
Not here: sockets, clocks, waiting (aio.py, green.py). A shell calls `begin`, carries bytes, keeps
`silence_seconds` and `refresh_seconds`, and does as `Disconnected` says.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from live.client.events import (
    Answered,
    Connected,
    Disconnected,
    Event,
    Failed,
    NoAnswer,
    Published,
    Subscribed,
    SubscriptionEnded,
)
from live.client.frames import (
    PONG,
    RECEIVED_BYTES_MAX,
    PushSeen,
    Reply,
    decode,
    encode_command,
    messages,
)
from live.client.positions import Positions
from live.client.retry import may_repeat, may_return, retry_seconds
from live.protocol.codes import EXPIRED, TOKEN_EXPIRED, Failure
from live.protocol.commands import (
    ConnectResult,
    RefreshResult,
    StreamPosition,
    SubscribeResult,
    UnsubscribePush,
)

COMMANDS_MAX = 256  # without an answer; beyond it a call fails at once
PING_GRACE_SECONDS = 10.0  # beyond the server's ping interval, as the SDKs have it
NORMAL_CLOSE = 1000
ABNORMAL_CLOSE = 1006
RESUBSCRIBE_CODE_MIN = 2500  # below, the server ends a subscription for good
STATE_INVALIDATED = 2502  # the position is worth nothing any more


class LineState(Enum):
    """Where the present connection stands."""

    DOWN = auto()
    UPGRADING = auto()
    JOINING = auto()
    UP = auto()
    GONE = auto()  # down, and not to be tried again


@dataclass(frozen=True, slots=True)
class _Asked:
    method: str
    channel: str = ""
    again: bool = False  # a subscription that we renewed ourselves: nobody waits for the answer


class ClientCore:
    """One client. `data` goes with the connect command: `{"show": …}` joins a show.

    `renewable`: the shell can get another token, so an expired one is no reason to stay away.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        data: object = None,
        name: str = "live",
        renewable: bool = False,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self.target = parse_uri(url)
        self.token = token
        self.data = data
        self.name = name  # at most 16 characters; tells the server which client this is
        self.state = LineState.DOWN
        self.positions = Positions()
        self.silence_seconds = 0.0  # what may pass without a byte; 0: no bound
        self.refresh_seconds = 0  # until the token has to be renewed; 0: never
        self._renewable = renewable
        self._spread = spread
        self._tries = 0  # since the last time that we were connected
        self._number = 0
        self._wanted: dict[str, str] = {}  # token by channel that we subscribed ourselves
        self._reset()

    # -- the connection, as the shell reports it

    def begin(self) -> None:
        """Begin an attempt; the upgrade waits in `data_to_send` until there is a socket."""
        self._reset()
        self._ws.send_request(self._ws.connect())
        self.state = LineState.UPGRADING

    def receive(self, data: bytes, at: float | None = None) -> list[Event]:
        """Take what the socket gave, at that time. After a `Disconnected` close the socket."""
        if not self._is_open:
            return []
        events: list[Event] = []
        self._ws.receive_data(data)
        for found in self._ws.events_received():
            if isinstance(found, Frame):
                events += self._on_ws_frame(found, at)
            elif self._ws.handshake_exc is None:
                self.state = LineState.JOINING
                self._send("connect", self._connect_request())
        received, fault = self._ws.close_rcvd, self._ws.handshake_exc or self._ws.parser_exc
        if received is not None:
            events += self._end(received.code, received.reason)
        elif fault is not None:
            events += self._end(ABNORMAL_CLOSE, str(fault))
        return events

    def lost(self, reason: str) -> list[Event]:
        """The socket ended, could not be opened, or fell silent."""
        return self._end(ABNORMAL_CLOSE, reason)

    def leave(self, reason: str = "goodbye") -> list[Event]:
        """Say goodbye, and do not come back; nothing where that is so already."""
        if self.state is LineState.GONE:
            return []
        if self._ws.state is State.OPEN:
            self._ws.send_close(NORMAL_CLOSE, reason)
        was_up, self.state = self.state is LineState.UP, LineState.GONE
        return [Disconnected(NORMAL_CLOSE, reason, False, was_up, None)]

    def data_to_send(self) -> list[bytes]:
        """What the socket has to carry now; commands given since the last time share a frame."""
        if self._ws.state is State.OPEN:
            for message in messages(self._out):
                self._ws.send_text(message)
            self._out.clear()
        return [chunk for chunk in self._ws.data_to_send() if chunk]

    # -- commands: each returns its number and raises NoAnswer where it cannot be sent

    def rpc(self, method: str, data: object) -> int:
        return self._command("rpc", {"method": method, "data": data})

    def publish(self, channel: str, data: object) -> int:
        return self._command("publish", {"channel": channel, "data": data})

    def subscribe(self, channel: str, *, token: str = "") -> int:
        """Subscribe; after each reconnect it is done again, from where we were."""
        number = self._subscribe(channel, token)
        self._wanted[channel] = token
        return number

    def unsubscribe(self, channel: str) -> int:
        number = self._command("unsubscribe", {"channel": channel})
        self._forget_channel(channel)
        return number

    def history(
        self,
        channel: str,
        *,
        limit: int,
        since: StreamPosition | None = None,
        reverse: bool = False,
    ) -> int:
        """`limit`: 0 for the position alone."""
        fields: dict[str, object] = {"channel": channel, "limit": limit, "reverse": reverse}
        if since is not None:
            fields["since"] = {"offset": since.offset, "epoch": since.epoch}
        return self._command("history", fields)

    def presence(self, channel: str) -> int:
        return self._command("presence", {"channel": channel})

    def presence_stats(self, channel: str) -> int:
        return self._command("presence_stats", {"channel": channel})

    def refresh(self, token: str) -> int:
        """Renew the token of this connection and of all later ones."""
        self.token = token
        return self._command("refresh", {"token": token})

    def forget(self, number: int) -> None:
        """Nobody waits for this answer any more; should it still come, it is not told."""
        self._asked.pop(number, None)

    # -- below

    @property
    def _is_open(self) -> bool:
        return self.state not in (LineState.DOWN, LineState.GONE)

    def _reset(self) -> None:
        self._ws = ClientProtocol(self.target, max_size=RECEIVED_BYTES_MAX)
        self._parts: list[bytes] = []
        self._out: list[bytes] = []
        self._asked: dict[int, _Asked] = {}
        self._pong = False
        self.silence_seconds, self.refresh_seconds = 0.0, 0

    def _command(self, method: str, fields: dict[str, object], *, again: bool = False) -> int:
        if self.state is not LineState.UP:
            raise NoAnswer("not connected")
        if len(self._asked) >= COMMANDS_MAX:
            raise NoAnswer(f"{COMMANDS_MAX} commands wait for their answers")
        return self._send(method, fields, again=again)

    def _send(self, method: str, fields: dict[str, object], *, again: bool = False) -> int:
        line = encode_command(self._number + 1, method, fields)
        self._number += 1
        self._asked[self._number] = _Asked(method, str(fields.get("channel", "")), again)
        self._out.append(line)
        return self._number

    def _connect_request(self) -> dict[str, object]:
        request: dict[str, object] = {"name": self.name}
        if self.token:
            request["token"] = self.token
        if self.data is not None:
            request["data"] = self.data
        if subs := self.positions.recovery(but=self._wanted):
            request["subs"] = subs
        return request

    def _subscribe(self, channel: str, token: str, *, again: bool = False) -> int:
        fields: dict[str, object] = {"channel": channel} | self.positions.recovery_of(channel)
        if token:
            fields["token"] = token
        return self._command("subscribe", fields, again=again)

    def _forget_channel(self, channel: str) -> None:
        self._wanted.pop(channel, None)
        self.positions.forget(channel)

    def _end(self, code: int, reason: str, failure: Failure | None = None) -> list[Event]:
        """The connection is over: decide what comes next."""
        if not self._is_open:
            return []
        expired = failure.code == TOKEN_EXPIRED.code if failure else code == EXPIRED.code
        if failure is None:
            stays_away = not may_return(code)
        else:
            stays_away = not (may_repeat(failure) or (expired and self._renewable))
        pause = None if stays_away else retry_seconds(self._tries, self._spread())
        self._tries += 1
        was_up = self.state is LineState.UP
        self.state = LineState.GONE if stays_away else LineState.DOWN
        return [Disconnected(code, reason, failure is not None, was_up, pause, expired)]

    def _on_ws_frame(self, frame: Frame, at: float | None) -> Iterator[Event]:
        if frame.opcode not in DATA_OPCODES:
            return
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return
        message, self._parts = b"".join(self._parts), []
        try:
            for reply in decode(message):
                if self._is_open:
                    yield from self._on_reply(reply, at)
        except msgspec.DecodeError as fault:
            yield from self._end(ABNORMAL_CLOSE, f"the server's frame is not the protocol: {fault}")

    def _on_reply(self, reply: Reply, at: float | None) -> Iterator[Event]:
        if reply.id:
            asked = self._asked.pop(reply.id, None)
            if asked is not None:
                yield from self._on_answer(reply, asked)
        elif reply.push is not None:
            yield from self._on_push(reply.push, at)
        elif reply.error is None and self._pong:
            self._out.append(PONG)

    def _on_answer(self, reply: Reply, asked: _Asked) -> Iterator[Event]:
        if reply.error is not None:
            yield from self._on_error(reply.id, reply.error, asked)
            return
        result = reply.result(asked.method)
        if isinstance(result, ConnectResult):
            yield from self._on_connected(result)
            return
        if not asked.again:
            yield Answered(reply.id, result)
        if isinstance(result, SubscribeResult):
            yield Subscribed(asked.channel, result)
            yield from self._on_subscribed(asked.channel, result)
        elif isinstance(result, RefreshResult):
            self.refresh_seconds = result.ttl if result.expires else 0

    def _on_error(self, number: int, failure: Failure, asked: _Asked) -> Iterator[Event]:
        if asked.method == "connect":
            yield from self._end(failure.code, failure.message, failure)
        elif asked.again and may_repeat(failure):
            # As the SDKs do: the connection begins anew, and its pauses grow.
            yield from self._end(ABNORMAL_CLOSE, f"{asked.channel}: {failure.message}")
        elif asked.method == "subscribe":
            self._forget_channel(asked.channel)
            if asked.again:
                yield SubscriptionEnded(asked.channel, failure.code, failure.message)
        if not asked.again and asked.method != "connect":
            yield Failed(number, failure)

    def _on_connected(self, result: ConnectResult) -> Iterator[Event]:
        self.state, self._tries, self._pong = LineState.UP, 0, result.pong
        self.silence_seconds = result.ping + PING_GRACE_SECONDS if result.ping else 0.0
        self.refresh_seconds = result.ttl if result.expires else 0
        self.positions.keep(result.subs.keys() | self._wanted.keys())
        yield Connected(result)
        for channel, sub in result.subs.items():
            yield from self._on_subscribed(channel, sub)
        for channel, token in self._wanted.items():
            self._subscribe(channel, token, again=True)

    def _on_subscribed(self, channel: str, sub: SubscribeResult) -> Iterator[Event]:
        for publication in self.positions.subscribed(channel, sub):
            yield Published(channel, publication, None)

    def _on_push(self, push: PushSeen, at: float | None) -> Iterator[Event]:
        if push.pub is not None:
            if self.positions.move_on(push.channel, push.pub):
                yield Published(push.channel, push.pub, at)
        elif push.subscribe is not None:
            yield Subscribed(push.channel, push.subscribe)
            yield from self._on_subscribed(push.channel, push.subscribe)
        elif push.unsubscribe is not None:
            yield from self._on_unsubscribed(push.channel, push.unsubscribe)
        elif push.disconnect is not None:
            yield from self._end(push.disconnect.code, push.disconnect.reason)

    def _on_unsubscribed(self, channel: str, push: UnsubscribePush) -> Iterator[Event]:
        if push.code == STATE_INVALIDATED:
            self.positions.forget(channel)
        if push.code >= RESUBSCRIBE_CODE_MIN and channel in self._wanted:
            self._subscribe(channel, self._wanted[channel], again=True)
        else:
            self._forget_channel(channel)
            yield SubscriptionEnded(channel, push.code, push.reason)
