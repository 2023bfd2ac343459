"""The rules of chat: who may say what, how fast, and who hears it.

Always: a refusal tells its reason and how long to wait, except a shadow ban: that author alone sees
their message, on the channel on which everybody else would have. Text is kept as it was typed -
pages show it as text - but without control characters and direction overrides, which could rewrite
other lines. A restriction reaches those who stand below whoever made it, by the token of whom it
meets. Who wrote a line is told to viewers as an opaque author; the desk learns their `sub` before
the line.

For a huge audience chat is a sample: of the lines of one second (Redis' clock, all gateways) the
first LINES_PER_SECOND_MAX reach everybody, each later one its author alone, in the same way as
a line of somebody who is shadow banned: who is has no sign to tell it by. Nobody reads more,
and every line costs one frame a viewer. Lines of hosts and moderators always reach everybody.
"""

import hashlib
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from live.base.decode import read
from live.base.errors import BadField, Banned, Busy, Conflict, Denied
from live.chat.names import looks_like_staff, neutral_name
from live.chat.store import Ban, ChatAdmission, ChatStore, Pace
from live.domain.caller import Caller, Role
from live.domain.channels import Channel, ChannelKind
from live.domain.events import ChatAuthor, ChatMessage, StaffMessage
from live.domain.ids import AuthorId, BuyerId, ShowId, author_of
from live.domain.show import ShowState, ShowStatus
from live.hosting.desk import publish
from live.hosting.projector import UNREACHABLE
from live.ledger.db.pool import DATABASE_ERRORS
from live.ledger.hosting.bans import BanRows
from live.showlog.log import ShowLog

TEXT_CHARS_MAX = 500
NAME_CHARS_MAX = 40
BURST = 5  # messages at once ...
TOKEN_MS = 2_000  # ... and then one in so long: faster nobody reads
DUPLICATE_MS = 30_000
LINES_PER_SECOND_MAX = 10  # twice what a quick eye reads; 10,000 viewers then cost 100,000 frames

_Line = Annotated[str, Meta(max_length=4 * TEXT_CHARS_MAX)]  # before trimming


class ChatInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client publishes."""

    text: _Line
    name: Annotated[str, Meta(max_length=4 * NAME_CHARS_MAX)] = ""
    reply_to: Annotated[str, Meta(pattern=r"^[0-9]{1,20}-[0-9]{1,10}(?![\s\S])")] | None = None


_decoder = msgspec.json.Decoder(ChatInput)


class Chat:
    """`digest_of` makes a buyer id of a `sub`; `state_of` gives the show's latest known state."""

    def __init__(
        self,
        store: ChatStore,
        bans: BanRows,
        show_log: ShowLog,
        *,
        digest_of: Callable[[str], BuyerId],
        state_of: Callable[[ShowId], Awaitable[ShowState]],
    ) -> None:
        self._store = store
        self._bans = bans
        self._log = show_log
        self._digest_of = digest_of
        self._state_of = state_of

    async def accept(
        self, caller: Caller, show: ShowId, kind: ChannelKind, data: bytes
    ) -> ChatMessage | None:
        """Turn a publication into the message to publish; None: nothing is to be published.

        Raises BadField, NotFound, Denied (muted, banned, no such channel), Conflict (said before,
        show over) and Busy (too fast, slow mode, the show is being made again).
        """
        if kind is not ChannelKind.CHAT or caller.buyer is None:
            raise Denied("only people with a name may write, and only to chat")
        said = read_input(data)
        state = await self._state_of(show)
        if state.status is ShowStatus.ENDED:
            raise Conflict("the show is over")
        staff = caller.may_moderate(show)
        if not staff and looks_like_staff(said.name):
            raise BadField("name", "this one is kept for the staff of the show")
        pace = Pace(
            burst=BURST,
            token_ms=TOKEN_MS,
            slow_ms=0 if staff else state.slow_mode_seconds * 1000,
            duplicate_ms=0 if staff else DUPLICATE_MS,
            flow=0 if staff else LINES_PER_SECOND_MAX,
            rank=caller.rank_in(show),
        )
        admission = await self._admit(show, caller.buyer, said.text, pace)
        _refuse(admission)
        message = _message(caller, author_of(caller.buyer, show), said, admission.detail, staff)
        if admission.code in ("shadow", "sampled"):
            await self._log.publish_alone(Channel(kind, show), caller.buyer, message)
            return None
        await self._tell_author(caller, show, message)
        return message

    async def _tell_author(self, caller: Caller, show: ShowId, message: ChatMessage) -> None:
        """First, so that whoever reads the line at the desk knows whose it is. Raises Busy."""
        event = ChatAuthor(at=message.at, author=message.author, sub=caller.sub)
        # With a key: told again only when the desk's log has forgotten it.
        desk = Channel(ChannelKind.DESK, show)
        await publish(self._log, desk, event, key=f"author:{message.author}")

    async def refuse_banned(self, caller: Caller, show: ShowId) -> None:
        """Raises Banned for somebody who was banned from the show; one read of Redis.

        Without an answer from Redis nobody is kept out: a show must not end because of chat.
        """
        if caller.buyer is None:
            return
        try:
            rank = await self._store.banned_by(show, caller.buyer)
        except UNREACHABLE:
            return
        if caller.rank_in(show) < rank:
            raise Banned("you were banned from this show")

    async def load_bans(self, show: ShowId) -> None:
        """Bring Redis' bans in line with Postgres'."""
        rows = await self._bans.in_force(show)
        await self._store.load_bans(
            show, [Ban(self._digest_of(row.sub), row.kind, row.until, row.rank) for row in rows]
        )

    async def _admit(self, show: ShowId, buyer: BuyerId, text: str, pace: Pace) -> ChatAdmission:
        digest = hashlib.blake2b(_folded(text).encode(), digest_size=8).hexdigest()
        for _ in range(2):
            admission = await self._store.admit(
                show, buyer, text=text, digest=digest if pace.duplicate_ms else "", pace=pace
            )
            if admission.code != "unloaded":
                return admission
            try:
                await self.load_bans(show)
            except DATABASE_ERRORS as error:
                # Who is banned is not known: better nobody writes for a moment than everybody.
                raise Busy("chat is starting") from error
        raise Busy("chat is starting")


def read_input(data: bytes) -> ChatInput:
    """Decode and clean a publication. Raises BadField."""
    said = read(_decoder, data)
    text, name = clean(said.text), clean(said.name)
    if not 1 <= len(text) <= TEXT_CHARS_MAX:
        raise BadField("text", f"1-{TEXT_CHARS_MAX} characters")
    if len(name) > NAME_CHARS_MAX:
        raise BadField("name", f"{NAME_CHARS_MAX} characters at most")
    return ChatInput(text, name, said.reply_to)


# Directions that reach beyond the line they stand in. Marks such as U+200F stay: Arabic needs them.
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str) -> str:
    """One line without control characters, composed, without blanks at its ends."""
    kept = "".join(
        " " if char in "\t\r\n\u2028\u2029" else char
        for char in text
        if char not in _OVERRIDES and (unicodedata.category(char) != "Cc" or char in "\t\r\n")
    )
    return unicodedata.normalize("NFC", kept).strip()


def _folded(text: str) -> str:
    """What the duplicate filter compares: "BUY!!" and "buy !" are one message.

    Marks count like letters: in Hindi or Thai they are what tells two words apart.
    """
    return "".join(char for char in text.casefold() if _counts(char)) or text


def _counts(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char).startswith("M")


def _message(
    caller: Caller, author: AuthorId, said: ChatInput, message: str, staff: bool
) -> ChatMessage:
    """The event; of the staff a line says so, in what only the server can write."""
    role = _STAFF[caller.role] if staff else None
    line = ChatMessage(
        at=int(message.partition("-")[0]),
        id=message,
        author=author,
        name=said.name or (neutral_name(author) if role is None else role.capitalize()),
        text=said.text,
        reply_to=said.reply_to,
    )
    return line if role is None else StaffMessage(**asdict(line), role=role)


_STAFF: dict[Role, Literal["host", "moderator", "bot"]] = {
    Role.HOST: "host",
    Role.MODERATOR: "moderator",
    Role.SERVICE: "bot",
}


def _refuse(admission: ChatAdmission) -> None:
    wait_ms = int(admission.detail) if admission.detail.isdecimal() else 0
    match admission.code:
        case "ok" | "shadow" | "sampled":
            return
        case "ban":
            raise Banned("you were banned from this show")
        case "mute":
            raise Denied("you are muted")
        case "duplicate":
            raise Conflict("you said that a moment ago")
        case "slow":
            raise Busy(f"slow mode: wait {-(-wait_ms // 1000)} s", retry_ms=wait_ms)
        case _:
            raise Busy("too many messages", retry_ms=wait_ms)
