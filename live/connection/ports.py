"""What fan-out wants from the packages above it; wiring hands it in."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from live.domain.caller import Caller
from live.domain.channels import ChannelKind
from live.domain.events import Event
from live.domain.ids import ShowId

Authenticate = Callable[[str], Caller]
"""Verify a connection token. Raises a CallError: code 109 for an expired token, any other code for
an invalid one. An empty token is the callee's to judge: guests may watch, or not."""

OnJoin = Callable[[Caller, ShowId, bytes, str | None], Awaitable[object]]
"""Make the `data` of the connect answer (orjson encodes it, or bytes as they are). The last two
arguments are what the client sent as its own, and their address. Raises CallError, NotFound for an
unknown show."""

OnEnter = Callable[[Caller, ShowId], Awaitable[None]]
"""Asked once, before a connection first hears a show that its connect did not name. Raises
CallError for who may not come in."""

OnPublish = Callable[[Caller, ShowId, ChannelKind, bytes], Awaitable[Event | None]]
"""Turn a client's publication into the event to publish, None for nobody to hear it. Raises
CallError."""


class RpcCall(Protocol):
    """One rpc on its way; answered once, by `reply` or by `fail`, later calls do nothing."""

    caller: Caller
    show: ShowId | None  # the show that the connection joined
    connection: str  # the connection's id, random
    address: str | None  # the client's; None for a unix socket
    data: bytes  # JSON text, b"" where the client sent none

    def reply(self, answer: object) -> None:
        """Answer with an object that orjson encodes, or with bytes of JSON."""
        ...

    def fail(self, error: Exception) -> None:
        """Answer with an error; anything but a CallError is told as an internal error."""
        ...


RpcHandler = Callable[[RpcCall], Awaitable[object] | None]
"""An awaitable is run with a deadline and its result replied; None: the handler answers itself."""
