"""Moderators' commands: Postgres and its audit log first, then Redis, then chat and desk.

Always: a restriction counts on every gateway with the next message, because every message asks
Redis; whoever is banned also loses their connections to the show. It reaches those below whoever
made it, and nobody else: who is known to stand as high is refused here, and the others are told
apart by their own tokens wherever the restriction is applied. A deleted line is taken out of the
log and of the memory of every gateway, with its pin. Every command is told on the desk.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from live.base.errors import Denied, NotFound
from live.chat.rules import Chat
from live.chat.store import ChatStore
from live.domain.caller import RANKS, Role
from live.domain.channels import Channel, ChannelKind
from live.domain.events import ChatDeleted, ChatPinned, ModerationEvent
from live.domain.ids import ShowId, Sub
from live.hosting.desk import publish
from live.hosting.projector import UNREACHABLE
from live.ledger.hosting.bans import BanRows
from live.ledger.hosting.show_command import Actor, DoneBefore
from live.ledger.hosting.shows import ShowRows
from live.showlog.log import ShowLog

log = structlog.get_logger()

Action = Literal["delete", "pin", "unpin", "mute", "unmute", "shadow_ban", "ban", "unban"]
MUTE_SECONDS_DEFAULT = 300

CloseShowSockets = Callable[[Sub, ShowId, int], Awaitable[None]]
"""Ends a person's connections to a show, unless they stand as high there as the rank given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModerationCommand:
    """`message` for delete, pin and unpin, else `sub`. `seconds` None: for good, a mute 5 min."""

    action: Action
    message: str = ""
    sub: str = ""
    seconds: int | None = None


class Moderation:
    """`now` is Unix ms."""

    def __init__(
        self,
        chat: Chat,
        store: ChatStore,
        bans: BanRows,
        shows: ShowRows,
        show_log: ShowLog,
        *,
        close_sockets: CloseShowSockets,
        now: Callable[[], int],
    ) -> None:
        self._chat = chat
        self._store = store
        self._bans = bans
        self._shows = shows
        self._log = show_log
        self._close_sockets = close_sockets
        self._now = now

    async def run(self, show: ShowId, command: ModerationCommand, actor: Actor) -> None:
        """Raises Denied towards those who stand as high, or higher where it is about a line.

        Raises NotFound for an unknown show, or a message that is too old to be pinned.
        """
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
                await self._refuse_upwards(show, command.sub, actor)
                with _once():
                    await self._bans.set(show, command.sub, command.action, command.seconds, actor)
                await self._renew(show)
                if command.action == "ban":
                    await self._close_sockets(Sub(command.sub), show, RANKS[actor.role])

    async def _refuse_upwards(self, show: ShowId, sub: str, actor: Actor) -> None:
        """Raises Denied for oneself, and for those at the desk who do not stand below."""
        try:
            role = (await self._log.at_desk(show)).get(sub, Role.VIEWER)
        except UNREACHABLE as error:
            log.warning("desk_unread", show=show, error=str(error))
            return
        if sub == actor.sub or RANKS[role] >= RANKS[actor.role]:
            raise Denied("this person stands as high as you, or higher")

    async def _on_message(self, show: ShowId, command: ModerationCommand, actor: Actor) -> None:
        line = await self._store.find_message(show, command.message)
        if command.action == "pin" and line is None:
            raise NotFound(f"unknown message {command.message}")
        if command.action == "delete" and line is not None and line.rank > RANKS[actor.role]:
            raise Denied("this line is of somebody who stands higher than you")
        with _once():
            await self._shows.log_action(
                show, actor, f"chat.{command.action}", {"message": command.message}
            )
        if command.action == "delete":
            await self._store.drop_message(show, command.message)
            await self._take_back(show, command.message)
        else:
            text = line.text if line is not None and command.action == "pin" else ""
            await self._pin(show, command.message, text)

    async def _pin(self, show: ShowId, message: str, text: str) -> None:
        event = ChatPinned(at=self._now(), id=message, text=text)
        await self._log.publish(Channel(ChannelKind.CHAT, show), event)
        if text and await self._store.find_message(show, message) is None:
            # Deleted since we read it: what another moderator took away must not come back.
            await self._take_back(show, message)

    async def _take_back(self, show: ShowId, message: str) -> None:
        event = ChatDeleted(at=self._now(), id=message)
        await self._log.retract(Channel(ChannelKind.CHAT, show), event)

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
            await publish(self._log, Channel(ChannelKind.DESK, show), event)
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
