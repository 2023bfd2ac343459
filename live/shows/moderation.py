"""Moderators' commands: Postgres and its audit log first, then Redis, then chat and desk.

Always: a restriction counts on every gateway with the next message, because every message asks
Redis; whoever is banned also loses his connections to the show. Every command is told on the desk.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from live.domain.channels import Channel, ChannelKind
from live.domain.events import ChatDeleted, ChatPinned, Event, ModerationEvent
from live.domain.ids import ShowId, Sub
from live.errors import NotFound
from live.ledger.bans import BanRows
from live.ledger.show_command import Actor, DoneBefore
from live.ledger.shows import ShowRows
from live.shows.chat import Chat
from live.shows.chat_store import ChatStore
from live.shows.desk import publish
from live.shows.ports import UNREACHABLE, BrokerPort

log = structlog.get_logger()

Action = Literal["delete", "pin", "unpin", "mute", "unmute", "shadow_ban", "ban", "unban"]
MUTE_SECONDS_DEFAULT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ModerationCommand:
    """`message` for delete, pin and unpin, else `sub`. `seconds` None: for good, a mute 5 min."""

    action: Action
    message: str = ""
    sub: str = ""
    seconds: int | None = None


class Moderation:
    """`close_sockets` ends a person's connections to a show; `now` is Unix ms."""

    def __init__(
        self,
        chat: Chat,
        store: ChatStore,
        bans: BanRows,
        shows: ShowRows,
        broker: BrokerPort,
        *,
        close_sockets: Callable[[Sub, ShowId], Awaitable[None]],
        now: Callable[[], int],
    ) -> None:
        self._chat = chat
        self._store = store
        self._bans = bans
        self._shows = shows
        self._broker = broker
        self._close_sockets = close_sockets
        self._now = now

    async def run(self, show: ShowId, command: ModerationCommand, actor: Actor) -> None:
        """Raises NotFound for an unknown show, or a message that is too old to be pinned."""
        if command.action == "mute" and command.seconds is None:
            command = replace(command, seconds=MUTE_SECONDS_DEFAULT)
        await self._do(show, command, actor)
        await self._tell_desk(show, command, actor)

    async def _do(self, show: ShowId, command: ModerationCommand, actor: Actor) -> None:
        match command.action:
            case "delete" | "pin" | "unpin":
                await self._on_message(show, command, actor)
            case "unban":
                # One word lifts both: a moderator cannot know which kind another one chose.
                with _once():
                    await self._bans.lift(show, command.sub, ("ban", "shadow_ban"), actor)
                await self._renew(show)
            case "unmute":
                with _once():
                    await self._bans.lift(show, command.sub, ("mute",), actor)
                await self._renew(show)
            case "mute" | "shadow_ban" | "ban":
                with _once():
                    await self._bans.set(show, command.sub, command.action, command.seconds, actor)
                await self._renew(show)
                if command.action == "ban":
                    await self._close_sockets(Sub(command.sub), show)

    async def _on_message(self, show: ShowId, command: ModerationCommand, actor: Actor) -> None:
        event: Event
        at = self._now()
        if command.action == "pin":
            text = await self._store.find_message(show, command.message)
            if text is None:
                raise NotFound(f"unknown message {command.message}")
            event = ChatPinned(at=at, id=command.message, text=text)
        elif command.action == "unpin":
            event = ChatPinned(at=at, id=command.message, text="")
        else:
            event = ChatDeleted(at=at, id=command.message)
        with _once():
            await self._shows.log_action(
                show, actor, f"chat.{command.action}", {"message": command.message}
            )
        if command.action == "delete":
            await self._store.drop_message(show, command.message)
        await self._broker.publish(Channel(ChannelKind.CHAT, show), event)

    async def _tell_desk(self, show: ShowId, command: ModerationCommand, actor: Actor) -> None:
        event = ModerationEvent(
            at=self._now(),
            action=command.action,
            by=actor.sub,
            message=command.message,
            sub=command.sub,
            seconds=command.seconds,
        )
        try:
            await publish(self._broker, Channel(ChannelKind.DESK, show), event)
        except UNREACHABLE as error:
            # The audit log has it; the feed is there so that two moderators see one another.
            log.warning("desk_untold", show=show, error=str(error))

    async def _renew(self, show: ShowId) -> None:
        try:
            await self._chat.load_bans(show)
        except UNREACHABLE as error:
            # Postgres has it; the keeper loads it again when Redis is back.
            log.warning("bans_delayed", show=show, error=str(error))


@contextmanager
def _once() -> Iterator[None]:
    """Around what Postgres does: a repeat changes nothing there, but goes on to Redis.

    Nothing else would bring a deletion or a closed socket there after a death in between.
    """
    try:
        yield
    except DoneBefore:
        pass
