"""What clients ask and what we answer, as typed structs that know no wire format.

Field names are the protocol's. `data`, `conn_info` and `chan_info` stay raw: JSON text that only
the one who needs it parses. Unknown fields are ignored, as the protocol demands.
"""

from typing import Annotated, ClassVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

NO_DATA = Raw(b"")

OFFSET_MAX = 2**63 - 1  # no log gets there; beyond it Redis refuses, with an error that is not ours
Offset = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]
"""A place in a log, as clients give it."""


class Request(Struct, frozen=True):
    """Base of all requests; `method` is the key that carries it on the wire."""

    method: ClassVar[str]


class SubscribeRequest(Request, frozen=True):
    method = "subscribe"
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Offset = 0
    data: Raw = NO_DATA
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: Raw = NO_DATA
    flag: int = 0
    type: int = 0


class ConnectRequest(Request, frozen=True):
    method = "connect"
    token: str = ""
    data: Raw = NO_DATA
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}
    subs: dict[str, SubscribeRequest] = {}


class UnsubscribeRequest(Request, frozen=True):
    method = "unsubscribe"
    channel: str = ""


class PublishRequest(Request, frozen=True):
    method = "publish"
    channel: str = ""
    data: Raw = NO_DATA
    type: int = 0
    key: str = ""
    removed: bool = False


class PresenceRequest(Request, frozen=True):
    method = "presence"
    channel: str = ""


class PresenceStatsRequest(Request, frozen=True):
    method = "presence_stats"
    channel: str = ""


class StreamPosition(Struct, frozen=True):
    offset: Offset = 0
    epoch: str = ""


class HistoryRequest(Request, frozen=True):
    method = "history"
    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class PingRequest(Request, frozen=True):
    method = "ping"


class SendRequest(Request, frozen=True):
    method = "send"
    data: Raw = NO_DATA


class RpcRequest(Request, frozen=True):
    method = "rpc"
    data: Raw = NO_DATA
    # Not `method`: the class says with that name which command it is.
    name: str = msgspec.field(default="", name="method")


class RefreshRequest(Request, frozen=True):
    method = "refresh"
    token: str = ""


class SubRefreshRequest(Request, frozen=True):
    method = "sub_refresh"
    channel: str = ""
    token: str = ""


REQUESTS: tuple[type[Request], ...] = (
    ConnectRequest,
    SubscribeRequest,
    UnsubscribeRequest,
    PublishRequest,
    PresenceRequest,
    PresenceStatsRequest,
    HistoryRequest,
    PingRequest,
    SendRequest,
    RpcRequest,
    RefreshRequest,
    SubRefreshRequest,
)
"""In the order in which the reference server looks for them: the first one set counts."""


class Pong(Struct, frozen=True):
    """The empty command."""


class Unknown(Struct, frozen=True):
    """A command of a later protocol: it has an id and nothing that we know."""


class Malformed(Struct, frozen=True):
    """A known command whose fields are not what it needs.

    `in_data`: the fault is in what the application would have read, so it is told as its own.
    """

    fault: str
    in_data: bool = False


Body = Request | Pong | Unknown | Malformed


class Command(Struct, frozen=True):
    """One command; `id` is 0 for `send` and pong only."""

    id: int
    body: Body


class ClientInfo(Struct, frozen=True, omit_defaults=True):
    user: str = ""
    client: str = ""
    conn_info: Raw | UnsetType = UNSET
    chan_info: Raw | UnsetType = UNSET


class Publication(Struct, frozen=True, omit_defaults=True):
    """`offset` is 0 on channels without a log; the SDKs then do not move their position."""

    data: Raw
    offset: int = 0
    info: ClientInfo | None = None


class SubscribeResult(Struct, frozen=True, omit_defaults=True, kw_only=True):
    method: ClassVar[str] = "subscribe"
    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    was_recovering: bool = False
    recovered: bool = False
    publications: tuple[Publication, ...] = ()
    data: Raw | UnsetType = UNSET
    expires: bool = False
    ttl: int = 0


class ConnectResult(Struct, frozen=True, omit_defaults=True, kw_only=True):
    method: ClassVar[str] = "connect"
    client: str = ""
    version: str = ""
    ping: int = 0
    pong: bool = False
    expires: bool = False
    ttl: int = 0
    time: int = 0
    data: Raw | UnsetType = UNSET
    subs: dict[str, SubscribeResult] = {}


class UnsubscribeResult(Struct, frozen=True):
    method: ClassVar[str] = "unsubscribe"


class PublishResult(Struct, frozen=True):
    method: ClassVar[str] = "publish"


class PresenceResult(Struct, frozen=True):
    method: ClassVar[str] = "presence"
    presence: dict[str, ClientInfo] = {}


class PresenceStatsResult(Struct, frozen=True):
    """Both counters are always written: the JavaScript SDK reads a missing one as undefined."""

    method: ClassVar[str] = "presence_stats"
    num_clients: int = 0
    num_users: int = 0


class HistoryResult(Struct, frozen=True):
    method: ClassVar[str] = "history"
    publications: tuple[Publication, ...] = ()
    epoch: str = ""
    offset: int = 0


class RpcResult(Struct, frozen=True, omit_defaults=True):
    method: ClassVar[str] = "rpc"
    data: Raw | UnsetType = UNSET


class RefreshResult(Struct, frozen=True, omit_defaults=True):
    method: ClassVar[str] = "refresh"
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class SubRefreshResult(Struct, frozen=True, omit_defaults=True):
    method: ClassVar[str] = "sub_refresh"
    expires: bool = False
    ttl: int = 0


Result = (
    ConnectResult
    | SubscribeResult
    | UnsubscribeResult
    | PublishResult
    | PresenceResult
    | PresenceStatsResult
    | HistoryResult
    | RpcResult
    | RefreshResult
    | SubRefreshResult
)


class UnsubscribePush(Struct, frozen=True):
    kind: ClassVar[str] = "unsubscribe"
    code: int
    reason: str


class JoinPush(Struct, frozen=True):
    kind: ClassVar[str] = "join"
    info: ClientInfo


class LeavePush(Struct, frozen=True):
    kind: ClassVar[str] = "leave"
    info: ClientInfo


Push = UnsubscribePush | JoinPush | LeavePush
"""Pushes that are rare; publications have an encoder of their own."""
