"""The seam between a session and its transport."""

from typing import Protocol

from live.protocol.codes import Close
from live.protocol.shared import Shared


class Port(Protocol):
    """The way out of one connection. No method blocks or raises, also when the peer is gone."""

    @property
    def compresses(self) -> bool:
        """Whether it takes the packed form of what many get."""
        ...

    def write(self, data: bytes) -> None:
        """Send one message."""
        ...

    def write_shared(self, frame: Shared) -> None:
        """Send one message that many connections get; the port takes the form it needs."""
        ...

    def close(self, close: Close) -> None: ...

    def buffered(self) -> int:
        """Bytes that the peer has not taken yet."""
        ...
