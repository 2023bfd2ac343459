"""Names of the show log's keys. All keys of a show share one hash tag, hence one cluster slot."""

from live.domain.channels import Channel, ChannelKind
from live.domain.ids import ShowId


def log_name(channel: Channel) -> str:
    """The short name of a channel's log inside its show."""
    if channel.kind is ChannelKind.PERSONAL:
        assert channel.buyer is not None, "a personal channel belongs to a buyer"
        return f"me:{channel.buyer.hex()}"
    return channel.kind.value


def log_key(show: ShowId, log: str) -> str:
    """Stream: one entry a publication, its id is `<offset>-0`."""
    return f"live:{{{show}}}:log:{log}"


def logs_key(show: ShowId) -> str:
    """Hash: `epoch`, `total` (announcements so far) and the top offset of each log (`t:<log>`)."""
    return f"live:{{{show}}}:logs"


def state_key(show: ShowId) -> str:
    """Hash: `version` and `json` of the latest ShowState."""
    return f"live:{{{show}}}:state"


def live_channel(show: ShowId) -> str:
    """The one pub/sub channel of a show."""
    return f"live:{{{show}}}:live"


def viewers_key(show: ShowId) -> str:
    """Hash: gateway -> `<viewers>:<Unix ms of its last heartbeat>`."""
    return f"live:{{{show}}}:viewers"


def reactions_key(show: ShowId) -> str:
    """Hash: kind of reaction -> count."""
    return f"live:{{{show}}}:reactions"


def presence_key(show: ShowId, log: str) -> str:
    """Hash: client id -> when it was last seen, and its public info."""
    return f"live:{{{show}}}:presence:{log}"


def lasting_keys(show: ShowId) -> list[str]:
    """Keys of a show that have no end of their own; the logs of buyers and whoever is there do."""
    kinds = (ChannelKind.SHOW, ChannelKind.CHAT, ChannelKind.DESK, ChannelKind.STAFF)
    logs = [log_key(show, kind.value) for kind in kinds]
    return [logs_key(show), state_key(show), reactions_key(show), *logs]


CONTROL_CHANNEL = "live:control"
"""Pub/sub channel that all gateways hear: who has to be closed everywhere."""

DISCONNECTS_KEY = f"live:{{{CONTROL_CHANNEL}}}:disconnects"
"""Stream: what was told on CONTROL_CHANNEL of late; in the slot of that channel."""
