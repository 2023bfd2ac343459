"""The JSON wire format from the client's side: what a message of the server means.

Never trusted to be right: what is not the protocol raises `msgspec.DecodeError`. Unknown fields
and pushes are ignored, as the protocol demands.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import get_args

import msgspec
import orjson

from live.protocol.codec import COMMANDS_PER_MESSAGE_MAX
from live.protocol.codec import MESSAGE_BYTES_MAX as SENT_BYTES_MAX
from live.protocol.codes import Failure
from live.protocol.commands import Publication, Result, SubscribeResult, UnsubscribePush

RECEIVED_BYTES_MAX = 1 << 20  # a snapshot with a long recovery
LINES_REMEMBERED = 64  # a broadcast reaches all clients of a process as the same bytes, and at once
PONG = b"{}"


class DisconnectPush(msgspec.Struct, frozen=True):
    code: int = 0
    reason: str = ""


class PushSeen(msgspec.Struct, frozen=True):
    channel: str = ""
    pub: Publication | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: UnsubscribePush | None = None
    disconnect: DisconnectPush | None = None


class Reply(msgspec.Struct, frozen=True):
    """One message: an answer (`id`), a push, or, with neither, a ping."""

    id: int = 0
    error: Failure | None = None
    push: PushSeen | None = None

    def result(self, method: str) -> Result:
        """The answer to a command. Raises msgspec.ValidationError where there is none."""
        found: Result | None = getattr(self, method)
        if found is None:
            raise msgspec.ValidationError(f"the answer to {method} has no {method}")
        return found


_Whole = msgspec.defstruct(
    "_Whole",
    [(result.method, result | None, None) for result in get_args(Result)],
    bases=(Reply,),
    frozen=True,
)
_decode: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(_Whole)


@lru_cache(maxsize=LINES_REMEMBERED)
def _decode_push(line: bytes) -> Reply:
    return _decode.decode(line)


def decode(message: bytes) -> Iterator[Reply]:
    """Read one message of the server, line by line. Raises msgspec.DecodeError."""
    for line in message.split(b"\n"):
        yield _decode_push(line) if line.startswith(b'{"push"') else _decode.decode(line)


def encode_command(number: int, method: str, fields: object) -> bytes:
    """Write one command. Raises ValueError where no server would take it."""
    line = orjson.dumps({"id": number, method: fields})
    if len(line) > SENT_BYTES_MAX:
        raise ValueError(f"{method} has {len(line)} bytes, a message {SENT_BYTES_MAX} at most")
    return line


def messages(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Join commands into as few messages as the server's bounds allow, in order."""
    batch: list[bytes] = []
    length = 0
    for line in lines:
        full = len(batch) == COMMANDS_PER_MESSAGE_MAX or length + len(line) > SENT_BYTES_MAX
        if batch and full:
            yield b"\n".join(batch)
            batch, length = [], 0
        batch.append(line)
        length += len(line) + 1
    if batch:
        yield b"\n".join(batch)
