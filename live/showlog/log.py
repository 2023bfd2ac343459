"""The show log: append and announce, keep the state, send what no log keeps.

Always: an event is appended and announced in one step, once per key; a stored state never grows
older. Whoever only publishes needs nothing else: no hub, no subscription, no task.
Raises: Busy wherever Redis does not answer.
Not here: Redis commands (store.py), what other processes published (follower.py).
"""

from collections.abc import Sequence

import msgspec
import orjson

from live.domain.caller import ABOVE_ALL, Role
from live.domain.channels import Channel, ChannelKind
from live.domain.events import ChatDeleted, Event, Pulse
from live.domain.ids import BuyerId, ShowId
from live.domain.show import ShowState
from live.fanout.retract import takes_back
from live.protocol.codes import Close
from live.showlog import keys
from live.showlog.disconnects import Disconnect
from live.showlog.store import COMMAND_SECONDS, Retention, Store

PERSONAL_SECONDS = 86_400  # a buyer who comes back the next day reads orders from the ledger

RETENTION = {
    ChannelKind.SHOW: Retention(1_000),
    ChannelKind.CHAT: Retention(500),
    ChannelKind.DESK: Retention(500),
    ChannelKind.STAFF: Retention(500),
    ChannelKind.PERSONAL: Retention(64, PERSONAL_SECONDS),
}


class ShowLog:
    """`url`, `seconds`: as for Store."""

    def __init__(self, url: str, *, seconds: float = COMMAND_SECONDS) -> None:
        self.url = url
        self.store = Store(url, seconds=seconds)

    async def open(self) -> None:
        """Connect. Raises redis' ConnectionError where nobody answers."""
        await self.store.open()

    async def close(self) -> None:
        await self.store.close()

    async def publish(self, channel: Channel, event: Event, *, key: str = "") -> int:
        """Append an event to the channel's log and announce it; returns its offset.

        Repeats with the same key give the first offset while the log remembers it. Raises Busy.
        """
        if channel.kind is ChannelKind.PULSE:
            raise ValueError("pulse has no log: use publish_pulse")
        return await self.store.append(
            channel.show,
            keys.log_name(channel),
            orjson.dumps(event),
            retention=RETENTION[channel.kind],
            key=key,
        )

    async def publish_state(self, state: ShowState, event: Event | None, *, key: str = "") -> int:
        """Store the state if it is newer and append the event to the show's log, in one call.

        Returns the event's offset, or the log's top where there is no event. Raises Busy.
        """
        return await self.store.append_with_state(
            state.id,
            ChannelKind.SHOW.value,
            b"" if event is None else orjson.dumps(event),
            version=state.version,
            state=orjson.dumps(state),
            retention=RETENTION[ChannelKind.SHOW],
            key=key,
        )

    async def retract(self, channel: Channel, event: ChatDeleted) -> int:
        """Publish that something is gone, and take it out of the log. Raises Busy."""
        data = orjson.dumps(event)
        needle = takes_back(data)
        assert needle is not None, "the event names what it takes back"
        return await self.store.retract(
            channel.show,
            keys.log_name(channel),
            data,
            needle=needle,
            retention=RETENTION[channel.kind],
        )

    async def publish_alone(self, channel: Channel, buyer: BuyerId, event: Event) -> None:
        """Publish to one person's connections to a channel, on all gateways; nothing is kept.

        Raises Busy.
        """
        head = f"o {keys.log_name(channel)} {buyer.hex()}\n"
        await self.store.announce(channel.show, head.encode() + orjson.dumps(event))

    async def publish_pulse(self, show: ShowId, pulse: Pulse) -> None:
        """Announce the latest figures; nothing is kept. Raises Busy."""
        await self.publish_figures(show, ChannelKind.PULSE.value, orjson.dumps(pulse))

    async def publish_figures(self, show: ShowId, name: str, data: bytes) -> None:
        await self.store.announce(show, b"f %s\n%s" % (name.encode(), data))

    async def disconnect(
        self, buyer: BuyerId, close: Close, *, show: ShowId | None = None, rank: int = ABOVE_ALL
    ) -> None:
        """Close a person's connections on all gateways (of one show or of all). Raises Busy.

        `rank`: connections of those who stand as high or higher in the show stay.
        """
        disconnect = Disconnect(
            person=buyer.hex(), code=close.code, reason=close.reason, show=show or "", rank=rank
        )
        await self.tell(disconnect)

    async def tell(self, disconnect: Disconnect) -> None:
        """Tell all gateways who has to be closed. Raises Busy."""
        await self.store.disconnect(msgspec.json.encode(disconnect))

    async def read_state(self, show: ShowId) -> ShowState | None:
        """Read the stored state of a show. Raises Busy."""
        return await self.store.read_state(show)

    async def stored_version(self, show: ShowId) -> int | None:
        """The version of the state that Redis keeps of a show, None where it does not. Raises
        Busy."""
        return await self.store.stored_version(show)

    async def retire(self, show: ShowId, *, seconds: int, also: Sequence[str]) -> None:
        """Let the logs and the state of a show that is over end by themselves, and keys that
        others keep of it. Raises Busy."""
        await self.store.expire(show, [*keys.lasting_keys(show), *also], seconds)

    async def at_desk(self, show: ShowId) -> dict[str, Role]:
        """Who sits at a show's desk now, on all gateways: `sub` -> role. Raises Busy."""
        found: dict[str, Role] = {}
        for kind, role in ((ChannelKind.STAFF, Role.MODERATOR), (ChannelKind.DESK, Role.HOST)):
            present = await self.store.read_presence(show, kind.value)
            found |= {info.user: role for info in present.values()}
        return found

    async def viewers(self, show: ShowId) -> int:
        """Viewers of a show on all gateways, as of the last second. Raises Busy."""
        return await self.store.count_viewers(show)

    async def add_reaction(self, show: ShowId, kind: str, count: int = 1) -> None:
        await self.store.add_reaction(show, kind, count)

    async def forget_reactions(self, show: ShowId) -> None:
        """A rehearsal is over: the show's own audience begins at nothing."""
        await self.store.forget_reactions(show)

    async def reactions(self, show: ShowId) -> dict[str, int]:
        return await self.store.reactions(show)
