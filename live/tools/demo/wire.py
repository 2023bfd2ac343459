"""The viewer's side of the Centrifuge protocol (JSON), without any socket.

Owns: what a frame means, and what a client must remember between two connections: the position of
every recoverable channel. Used by the audience (asyncio) and by the load tests (gevent).
Always: a position only moves forward within one log epoch; a repeat of a publication is dropped.
Not here: sockets, time-outs, reconnecting (link.py, loadtests/client.py).
"""

from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
import orjson

CLIENT_NAME = "demo"
MESSAGE_BYTES_MAX = 1 << 20  # a snapshot with a long recovery; the server's own bound is the same
LINES_REMEMBERED = 512  # a broadcast reaches every viewer of a process as the same bytes


class WireError(msgspec.Struct, frozen=True):
    code: int
    message: str
    temporary: bool = False


class Publication(msgspec.Struct, frozen=True):
    data: msgspec.Raw
    offset: int = 0


class CloseNote(msgspec.Struct, frozen=True):
    code: int = 0
    reason: str = ""


class Push(msgspec.Struct, frozen=True):
    channel: str = ""
    pub: Publication | None = None
    disconnect: CloseNote | None = None


class Subscription(msgspec.Struct, frozen=True):
    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    publications: list[Publication] = []


class Connected(msgspec.Struct, frozen=True):
    client: str = ""
    ping: int = 0
    pong: bool = False
    data: msgspec.Raw = msgspec.Raw(b"null")
    subs: dict[str, Subscription] = {}


class Payload(msgspec.Struct, frozen=True):
    data: msgspec.Raw = msgspec.Raw(b"null")


class Frame(msgspec.Struct, frozen=True):
    """One message from the server: a reply (`id`), a push, or, with neither, a ping."""

    id: int = 0
    error: WireError | None = None
    push: Push | None = None
    connect: Connected | None = None
    rpc: Payload | None = None


_decoder = msgspec.json.Decoder(Frame)


@lru_cache(maxsize=LINES_REMEMBERED)
def _decode_push(line: bytes) -> Frame:
    return _decoder.decode(line)


def decode(message: bytes) -> list[Frame]:
    """Read one WebSocket message. Raises msgspec.DecodeError where it is not the protocol."""
    return [
        _decode_push(line) if line.startswith(b'{"push"') else _decoder.decode(line)
        for line in message.split(b"\n")
    ]


def encode_command(number: int, method: str, params: object) -> bytes:
    return orjson.dumps({"id": number, method: params})


PONG = b"{}"


@dataclass(slots=True)
class Position:
    epoch: str
    offset: int


@dataclass(slots=True)
class Memory:
    """What a client keeps of its channels, so that it can come back without missing anything."""

    positions: dict[str, Position] = field(default_factory=dict)

    def connect_request(self, token: str, show: str) -> dict[str, object]:
        """The connect command's parameters, with the positions to recover from."""
        request: dict[str, object] = {
            "token": token,
            "name": CLIENT_NAME,
            "data": {"show": show},
        }
        if self.positions:
            request["subs"] = {
                channel: {"recover": True, "epoch": position.epoch, "offset": position.offset}
                for channel, position in self.positions.items()
            }
        return request

    def joined(self, connected: Connected) -> list[tuple[str, Publication]]:
        """Take over the positions of a connect reply; return what was missed, in order."""
        missed: list[tuple[str, Publication]] = []
        for channel, sub in connected.subs.items():
            if not sub.recoverable:
                continue
            if sub.recovered:
                # `offset` is the one we asked from; the publications move it on.
                self.positions.setdefault(channel, Position(sub.epoch, sub.offset))
                missed += [(channel, pub) for pub in sub.publications if self.accept(channel, pub)]
            else:
                self.positions[channel] = Position(sub.epoch, sub.offset)
        return missed

    def accept(self, channel: str, publication: Publication) -> bool:
        """Move on to this publication; False for one that was seen before."""
        position = self.positions.get(channel)
        if position is None or not publication.offset:
            return True
        if publication.offset <= position.offset:
            return False
        position.offset = publication.offset
        return True


def may_reconnect(close_code: int) -> bool:
    """Whether a client returns after this close code (the ranges are the protocol's)."""
    final = 3500 <= close_code < 4000 or 4500 <= close_code < 5000 or close_code == 1009
    return not final


RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX = 0.5, 20.0


def reconnect_seconds(tries: int, spread: float) -> float:
    """The browser SDK's delay before try `tries` (from 0); `spread` is random in 0..1."""
    window = min(RECONNECT_SECONDS_MAX, RECONNECT_SECONDS_MIN * 2.0 ** min(tries, 10))
    return min(RECONNECT_SECONDS_MAX, RECONNECT_SECONDS_MIN + spread * window)
