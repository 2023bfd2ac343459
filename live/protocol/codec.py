"""What the session and the hub want from a wire format. Two exist: JSON and Protobuf."""

from collections.abc import Sequence
from typing import Protocol

from live.protocol.codes import Failure
from live.protocol.commands import Command, Publication, Push, Result

MESSAGE_BYTES_MAX = 65_536  # of one client message; the reference server's limit
COMMANDS_PER_MESSAGE_MAX = 256  # the SDKs send connect and all subscribes in one (<= 128 channels)


class FrameError(Exception):
    """The bytes are no frame of this codec: the connection is closed 3501."""


class TextError(FrameError):
    """The text is not UTF-8: the connection is closed 1007."""


class Codec(Protocol):
    """Stateless, so one instance serves all connections and names their cohort."""

    name: str
    binary: bool
    ping: bytes

    def at_epoch(self, epoch: str) -> "Codec":
        """Return the codec for a connection with one log only; differs where events have ids."""
        ...

    def decode(self, frame: bytes) -> list[Command]:
        """Read all commands of one message. Raises FrameError."""
        ...

    def reply(self, command: int, result: Result) -> bytes: ...

    def rpc_reply(self, command: int, data: bytes) -> bytes:
        """The hot one: `data` is JSON text."""
        ...

    def error(self, command: int, failure: Failure) -> bytes: ...

    def publication(self, channel: str, publication: Publication) -> bytes: ...

    def push(self, channel: str, push: Push) -> bytes: ...

    def join(self, messages: Sequence[bytes]) -> bytes:
        """Make one WebSocket message of several replies and pushes."""
        ...
