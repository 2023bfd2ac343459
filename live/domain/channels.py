"""Channel names on the wire and what they mean. All channels of a show share its Redis slot."""

from dataclasses import dataclass
from enum import StrEnum

from live.domain.ids import BuyerId, ShowId, is_id


class ChannelKind(StrEnum):
    SHOW = "show"
    CHAT = "chat"
    PULSE = "pulse"
    DESK = "desk"
    STAFF = "staff"  # the desk without money: what moderators get under the name `desk:<show>`
    PERSONAL = "me"


RECOVERABLE = frozenset(
    {
        ChannelKind.SHOW,
        ChannelKind.CHAT,
        ChannelKind.DESK,
        ChannelKind.STAFF,
        ChannelKind.PERSONAL,
    }
)
"""Kinds with a log; `pulse` carries only the latest figures, so catching up means nothing there."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of one show; `buyer` is set on personal channels only."""

    kind: ChannelKind
    show: ShowId
    buyer: BuyerId | None = None


def wire_name(kind: ChannelKind, show: ShowId) -> str:
    """The public name of a show's channel, such as `chat:demo`; both desks have one name."""
    if kind is ChannelKind.STAFF:
        kind = ChannelKind.DESK
    return f"{kind.value}:{show}"


def personal_name(sub: str) -> str:
    """The public name of a person's own channel; the server subscribes them to it."""
    return f"#{sub}"


def parse_wire_name(name: str) -> tuple[ChannelKind, ShowId] | None:
    """Read a show channel's name; None for anything else, personal channels included."""
    kind, colon, show = name.partition(":")
    if not colon or not is_id(show) or kind not in _PUBLIC:
        return None
    return ChannelKind(kind), ShowId(show)


_PUBLIC = frozenset({"show", "chat", "pulse", "desk"})
