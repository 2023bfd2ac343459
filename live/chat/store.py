"""Chat's part of Redis: who may not speak, how fast everybody speaks, the last messages.

Owns: the keys below and `admit.lua`. Always: every decision is one call to Redis, so a person with
ten connections on five gateways has one pace, and a ban counts everywhere at once. Nothing here is
the truth: bans live in Postgres and are loaded again when Redis has lost them.
"""

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from live.aio.coalesce import Coalescer
from live.base.errors import Busy
from live.domain.ids import BuyerId, ShowId
from live.redis.clients import Clients
from live.redis.scripts import read_scripts

COMMAND_SECONDS = 0.5  # of one Redis command; a chatter's patience is 5 s
BANS_A_READ_MAX = 512
BANS_ASKED_MAX = 20_000  # of one show; as many as a process takes connections
RECENT_MAX = 1_000  # messages that can still be pinned; a moderator acts on what they see

LOADED = "loaded"


@dataclass(frozen=True, slots=True)
class Ban:
    """One restriction of one person; `until` is Unix ms, None: until lifted."""

    buyer: BuyerId
    kind: str  # mute, shadow_ban or ban
    until: int | None
    rank: int  # of who made it: it reaches those below


@dataclass(frozen=True, slots=True)
class RecentLine:
    """One of the last messages; `rank` is its author's."""

    text: str
    rank: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one person may speak."""

    burst: int
    token_ms: int
    slow_ms: int
    duplicate_ms: int
    flow: int  # lines a second of the whole show; 0: this person's lines always pass
    rank: int  # restrictions of those who stand no higher do not reach this person


@dataclass(frozen=True, slots=True)
class ChatAdmission:
    """`code` as in admit.lua; `detail` is the message's id, or milliseconds."""

    code: str
    detail: str


class ChatStore:
    def __init__(self, url: str) -> None:
        # Nothing is repeated: a message whose answer was lost would be counted twice.
        self._clients = Clients(
            url, seconds=COMMAND_SECONDS, connect_seconds=COMMAND_SECONDS, decode=True
        )
        self._admit = read_scripts("live.chat")["admit"]
        # By show, while somebody asks: a crowd that joins at once asks once.
        self._bans: dict[ShowId, Coalescer[str, str | None]] = {}

    async def close(self) -> None:
        await self._clients.close()

    async def admit(
        self, show: ShowId, buyer: BuyerId, *, text: str, digest: str, pace: Pace
    ) -> ChatAdmission:
        """Raises Busy where Redis does not answer."""
        try:
            reply = await self._ask(show, buyer, text, digest, pace)
        except (RedisError, OSError, TimeoutError) as error:
            # Not repeated here: if only the answer was lost, it would count as a second message.
            raise Busy("chat cannot be reached") from error
        code, detail = cast(list[str], reply)
        return ChatAdmission(code, detail)

    async def _ask(
        self, show: ShowId, buyer: BuyerId, text: str, digest: str, pace: Pace
    ) -> object:
        return await self._clients.run_script(
            self._admit,
            show,
            [_bans_key(show), _pace_key(show, buyer), _recent_key(show), _flow_key(show)],
            [
                buyer.hex(),
                text,
                digest,
                pace.burst,
                pace.token_ms,
                pace.slow_ms,
                pace.duplicate_ms,
                RECENT_MAX,
                pace.flow,
                pace.rank,
            ],
        )

    async def load_bans(self, show: ShowId, bans: Sequence[Ban]) -> None:
        """Replace what Redis knows with these."""
        entries: dict[str, list[str]] = {}
        for ban in bans:
            entries.setdefault(ban.buyer.hex(), []).append(
                f"{ban.kind}:{ban.until or 0}:{ban.rank}"
            )
        fields = {LOADED: "1"} | {buyer: " ".join(kinds) for buyer, kinds in entries.items()}
        items = [part for field in fields.items() for part in field]

        async def replace(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.delete(_bans_key(show))
                pipe.hset(_bans_key(show), items=items)
                await pipe.execute()

        await self._clients.run(show, replace)

    async def banned_by(self, show: ShowId, buyer: BuyerId) -> int:
        """The rank of who banned this person from the show; 0: nobody, or the ban is over.

        By our own clock: a second more or less at a door costs nobody anything.
        """
        entry = await self._ban_entry(show, buyer)
        for kind in (entry or "").split():
            name, until, rank = kind.split(":")
            if name == "ban" and (until == "0" or int(until) > time.time() * 1000):
                return int(rank)
        return 0

    async def _ban_entry(self, show: ShowId, buyer: BuyerId) -> str | None:
        bans = self._bans.get(show)
        if bans is None:
            read = partial(self._read_bans, show)
            bans = Coalescer(read, batch_max=BANS_A_READ_MAX, waiting_max=BANS_ASKED_MAX)
            self._bans[show] = bans
        try:
            return await bans.ask(buyer.hex())
        finally:
            if bans.idle:
                self._bans.pop(show, None)

    async def _read_bans(self, show: ShowId, buyers: Sequence[str]) -> list[str | None]:
        # redis-py's types do not know of decode_responses.
        async def read(redis: Redis) -> object:
            return await cast(Awaitable[object], redis.hmget(_bans_key(show), list(buyers)))

        return cast(list[str | None], await self._clients.run(show, read))

    async def find_message(self, show: ShowId, message: str) -> RecentLine | None:
        """One of the last messages."""
        if not _is_message(message):
            return None

        async def read(redis: Redis) -> object:
            return await redis.xrange(_recent_key(show), message, message)

        found = cast(list[tuple[str, dict[str, str]]], await self._clients.run(show, read))
        return RecentLine(found[0][1]["text"], int(found[0][1]["rank"])) if found else None

    async def drop_message(self, show: ShowId, message: str) -> None:
        """Forget a deleted message, so that it cannot be pinned."""
        if _is_message(message):
            await self._clients.run(show, lambda redis: redis.xdel(_recent_key(show), message))


def _is_message(message: str) -> bool:
    left, dash, right = message.partition("-")
    return bool(dash) and left.isdecimal() and right.isdecimal() and len(message) < 40


def lasting_keys(show: ShowId) -> list[str]:
    """Keys of a show that have no end of their own."""
    return [_bans_key(show), _recent_key(show)]


def _bans_key(show: ShowId) -> str:
    return f"live:{{{show}}}:chat:bans"


def _pace_key(show: ShowId, buyer: BuyerId) -> str:
    return f"live:{{{show}}}:chat:pace:{buyer.hex()}"


def _flow_key(show: ShowId) -> str:
    return f"live:{{{show}}}:chat:flow"


def _recent_key(show: ShowId) -> str:
    return f"live:{{{show}}}:chat:recent"
