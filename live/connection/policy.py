"""Who may do what on which channel: the domain's rules.

Viewers with a `sub` get show, chat, pulse and their own channel; anonymous ones the first three;
hosts and moderators the desk as well, where a moderator sees no money (log `staff`). Nobody gets
another person's channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from live.base.errors import Denied, NotFound
from live.connection.ports import OnPublish
from live.domain.caller import Caller
from live.domain.channels import (
    RECOVERABLE,
    Channel,
    ChannelKind,
    parse_wire_name,
    personal_name,
    wire_name,
)
from live.domain.ids import ShowId, is_id
from live.domain.show import ShowState, ShowStatus
from live.fanout.topic import RECOVERY_MAX
from live.protocol import codes
from live.protocol.codes import Failure
from live.protocol.commands import ClientInfo, ConnectRequest, SubscribeRequest
from live.showlog import keys
from live.showlog.follower import Follower

ONE_WAY_CHANNELS_MAX = 16  # a URL holds no more names


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A channel that a caller may listen to: its public name, and where it lives.

    `direct`: few listeners, so publications skip the cohorts. `keep`: how many publications a
    recovery may bring. `presence`: the channel is small
    enough to list who is there; `join_leave`: and to tell everybody.
    """

    name: str
    show: ShowId
    log: str
    direct: bool = False
    has_log: bool = True
    keep: int = RECOVERY_MAX
    presence: bool = False
    join_leave: bool = False


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks: the caller, the show that the connection joined, the connection's public info."""

    caller: Caller
    show: ShowId | None
    info: ClientInfo


class Policy(Protocol):
    """A refusal is returned, not raised."""

    def show_of(self, caller: Caller, request: ConnectRequest) -> ShowId | Failure | None:
        """Read which show a connection wants to join; None for no show yet."""
        ...

    def at_connect(self, caller: Caller, show: ShowId | None) -> list[Grant]:
        """Channels that the server subscribes the connection to."""
        ...

    def subscribe(self, asking: Asking, request: SubscribeRequest) -> Grant | Failure: ...

    def admits(self, asking: Asking, state: ShowState | None) -> bool:
        """Whether the caller may listen to the show as it is now; asked with every channel."""
        ...

    async def publish(self, asking: Asking, channel: str, data: bytes) -> None:
        """Publish for a client. Raises CallError."""
        ...


def asked_grants(
    policy: Policy, asking: Asking, subs: Mapping[str, SubscribeRequest], given: list[Grant]
) -> list[Grant] | Failure:
    """Grant what a one-way client names in its connect request: it cannot subscribe later."""
    known = {grant.name for grant in given}
    asked: list[Grant] = []
    for name, position in subs.items():
        if name in known:
            continue
        if len(asked) >= ONE_WAY_CHANNELS_MAX:
            return codes.LIMIT_EXCEEDED
        wanted = SubscribeRequest(channel=name, token=position.token)
        grant = policy.subscribe(asking, wanted)
        if isinstance(grant, Failure):
            return grant
        if any(grant.show != other.show for other in given + asked):
            return codes.LIMIT_EXCEEDED  # one show a connection
        asked.append(grant)
    return asked


class DomainPolicy:
    """The rules of docs/concepts/access.md, and of the channels in docs/reference/api.md."""

    def __init__(self, follower: Follower, on_publish: OnPublish) -> None:
        self._follower = follower
        self._on_publish = on_publish

    def show_of(self, caller: Caller, request: ConnectRequest) -> ShowId | Failure | None:
        wanted = read_show(bytes(request.data))
        if wanted is None or isinstance(wanted, Failure):
            return wanted
        return wanted if caller.may_see(wanted) else codes.PERMISSION_DENIED

    def at_connect(self, caller: Caller, show: ShowId | None) -> list[Grant]:
        if show is None:
            return []
        kinds = [ChannelKind.SHOW, ChannelKind.CHAT, ChannelKind.PULSE]
        if caller.may_moderate(show):
            kinds.append(_desk_of(caller, show))
        grants = [_grant(kind, show) for kind in kinds]
        if caller.buyer is not None:
            grants.append(_personal_grant(caller, show))
        return grants

    def subscribe(self, asking: Asking, request: SubscribeRequest) -> Grant | Failure:
        name, caller = request.channel, asking.caller
        if name.startswith("#"):
            own = caller.buyer is not None and name == personal_name(caller.sub)
            if not own or asking.show is None:
                return codes.PERMISSION_DENIED
            return _personal_grant(caller, asking.show)
        parsed = parse_wire_name(name)
        if parsed is None:
            return codes.UNKNOWN_CHANNEL
        kind, show = parsed
        allowed = caller.may_see(show)
        if kind is ChannelKind.DESK:
            kind, allowed = _desk_of(caller, show), caller.may_moderate(show)
        return _grant(kind, show) if allowed else codes.PERMISSION_DENIED

    def admits(self, asking: Asking, state: ShowState | None) -> bool:
        """A rehearsal is for its staff and for those who joined it, which takes the passcode."""
        if state is None or state.status is not ShowStatus.REHEARSAL:
            return True
        return asking.show == state.id or asking.caller.may_moderate(state.id)

    async def publish(self, asking: Asking, channel: str, data: bytes) -> None:
        parsed = parse_wire_name(channel)
        if parsed is None:
            raise NotFound("unknown channel")
        kind, show = parsed
        if kind is not ChannelKind.CHAT or not asking.caller.sub or not asking.caller.may_see(show):
            raise Denied("this channel is not open for you to publish on")
        followed = self._follower.followed(show)
        if followed is not None and not self.admits(asking, followed.state):
            raise Denied("the show is being rehearsed")
        event = await self._on_publish(asking.caller, show, kind, data)
        if event is not None:
            await self._follower.log.publish(Channel(kind, show), event)


class _ConnectData(msgspec.Struct, frozen=True):
    """What `connect` may carry: `{"show": "<id>"}`."""

    show: str | None = None


_connect_data = msgspec.json.Decoder(_ConnectData | None)


def read_show(data: bytes) -> ShowId | Failure | None:
    """Read the show that a `connect` names."""
    if not data:
        return None
    try:
        wanted = _connect_data.decode(data)
    except msgspec.MsgspecError as fault:
        return Failure(codes.BAD_REQUEST.code, f"bad request: connect data: {fault}")
    if wanted is None or wanted.show is None:
        return None
    if not is_id(wanted.show):
        return Failure(NotFound.code, "unknown show")
    return ShowId(wanted.show)


def _grant(kind: ChannelKind, show: ShowId) -> Grant:
    return Grant(
        name=wire_name(kind, show),
        show=show,
        log=kind.value,
        has_log=kind in RECOVERABLE,
        # The one small audience of a show: hosts see who else is at the desk.
        presence=kind in (ChannelKind.DESK, ChannelKind.STAFF),
    )


def _desk_of(caller: Caller, show: ShowId) -> ChannelKind:
    return ChannelKind.DESK if caller.may_host(show) else ChannelKind.STAFF


def _personal_grant(caller: Caller, show: ShowId) -> Grant:
    log = keys.log_name(Channel(ChannelKind.PERSONAL, show, caller.buyer))
    return Grant(name=personal_name(caller.sub), show=show, log=log, direct=True)
