"""The show log in Redis: every command about it, each with a deadline.

Owns: the connections and the scripts. Always: a publication is appended and announced in one Lua
call, once per key; nothing is repeated that could be applied twice.
Raises Busy wherever Redis does not answer. Called by this package only.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast
from uuid import uuid4

import msgspec
from msgspec import Raw
from redis.asyncio import Redis
from redis.exceptions import RedisError

from live.base.errors import Busy
from live.domain.ids import ShowId
from live.domain.show import ShowState
from live.fanout.retract import MARK
from live.protocol.commands import ClientInfo, Publication
from live.redis.clients import Clients
from live.redis.scripts import read_scripts
from live.showlog import keys

COMMAND_SECONDS = 0.5  # of one Redis command; a viewer's patience is 5 s
DEAD_MS = 2_500  # without a heartbeat; a dead gateway's viewers are gone within 3 s
DISCONNECTS_MAX = 1_000  # kept; a night of bans, and more than one gap will ever hold
DISCONNECTS_KEPT_MS = 600_000  # a gateway that is deaf for longer takes no traffic any more
PRESENCE_OLD_MS = 60_000  # three refreshes
REACTIONS_KEPT_SECONDS = 30 * 86_400  # after the last one

T = TypeVar("T")

decode_info = msgspec.json.Decoder(ClientInfo).decode
decode_state = msgspec.json.Decoder(ShowState).decode


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a log is kept: publications, and seconds after the last one (0: for ever)."""

    entries: int
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """Where all logs of a show stand, and its state, at one instant."""

    epoch: str
    total: int
    tops: dict[str, int]
    state: ShowState | None


class Store:
    """`url` is a redis URL, unix:// and redis+cluster:// too; `seconds` bounds a command."""

    def __init__(self, url: str, *, seconds: float = COMMAND_SECONDS) -> None:
        self._clients = Clients(url, seconds=seconds, connect_seconds=seconds)
        self.nodes = self._clients.nodes
        self._scripts = read_scripts("live.showlog")

    async def open(self) -> None:
        """Connect once. Raises redis' ConnectionError or EngineError where nobody answers."""
        await self._clients.open()

    async def close(self) -> None:
        await self._clients.close()

    # Logs

    async def append(
        self,
        show: ShowId,
        log: str,
        data: bytes,
        *,
        retention: Retention,
        info: bytes = b"",
        key: str = "",
    ) -> int:
        """Append JSON text to a log by its short name; returns the offset."""
        reply = await self._run(
            "publish",
            show,
            [keys.log_key(show, log), keys.logs_key(show), keys.live_channel(show)],
            [log, key, retention.entries, retention.seconds, uuid4().hex, data, info],
        )
        return int(cast(int, reply))

    async def append_with_state(
        self,
        show: ShowId,
        log: str,
        data: bytes,
        *,
        version: int,
        state: bytes,
        retention: Retention,
        key: str = "",
    ) -> int:
        """Append (unless `data` is empty) and store the state if it is newer, in one call."""
        names = [
            keys.log_key(show, log),
            keys.logs_key(show),
            keys.live_channel(show),
            keys.state_key(show),
        ]
        args: list[str | int | bytes] = [log, key, retention.entries, uuid4().hex]
        args += [data, version, state]
        return int(cast(int, await self._run("publish_state", show, names, args)))

    async def retract(
        self, show: ShowId, log: str, data: bytes, *, needle: bytes, retention: Retention
    ) -> int:
        """Append an event, and put it in the place of whatever contains `needle`, in one call."""
        reply = await self._run(
            "retract",
            show,
            [keys.log_key(show, log), keys.logs_key(show), keys.live_channel(show)],
            [log, retention.entries, uuid4().hex, data, needle, MARK],
        )
        return int(cast(int, reply))

    async def announce(self, show: ShowId, message: bytes) -> None:
        """Send a message that no log keeps."""
        channel = keys.live_channel(show)
        await self._ask(show, lambda redis: redis.spublish(channel, message))

    async def disconnect(self, message: bytes) -> None:
        """Tell all gateways, whatever shows they serve, and keep it for those that are cut off."""
        names = [keys.DISCONNECTS_KEY, keys.CONTROL_CHANNEL]
        await self._run(
            "disconnect",
            keys.CONTROL_CHANNEL,
            names,
            [message, DISCONNECTS_MAX, DISCONNECTS_KEPT_MS],
        )

    async def latest_disconnect(self) -> str:
        """The id of the latest disconnect that is kept."""
        key = keys.DISCONNECTS_KEY
        rows = await self._ask(key, lambda redis: redis.xrevrange(key, count=1))
        return _disconnects(rows)[0][0] if rows else "0-0"

    async def disconnects_after(self, entry: str) -> list[tuple[str, bytes]]:
        """All disconnects after this one, as (id, message)."""
        key = keys.DISCONNECTS_KEY
        return _disconnects(await self._ask(key, lambda redis: redis.xrange(key, min=f"({entry}")))

    async def position(self, show: ShowId) -> Position:
        names = [keys.logs_key(show), keys.state_key(show)]
        reply = cast(list[object], await self._run("position", show, names, [uuid4().hex]))
        flat = cast(list[bytes], reply[0])
        row = dict(zip(flat[::2], flat[1::2], strict=True))
        tops = {
            field.decode().removeprefix("t:"): int(value)
            for field, value in row.items()
            if field.startswith(b"t:")
        }
        state = decode_state(cast(bytes, reply[1])) if reply[1] else None
        return Position(row[b"epoch"].decode(), int(row.get(b"total", 0)), tops, state)

    async def renew_epoch(self, show: ShowId, seen: str) -> None:
        """Begin another life of a show's logs, unless the one that was `seen` has ended already."""
        await self._run("renew_epoch", show, [keys.logs_key(show)], [seen, uuid4().hex])

    async def knows(self, show: ShowId) -> bool:
        """Tell whether anything was ever published of this show."""
        names = (keys.state_key(show), keys.logs_key(show))
        return bool(await self._ask(show, lambda redis: redis.exists(*names)))

    async def peek(self, show: ShowId) -> tuple[str, int]:
        """Read epoch and total only: what tells whether announcements were missed."""
        key = keys.logs_key(show)
        reply = await self._ask(show, lambda redis: redis.hmget(key, ["epoch", "total"]))
        row = cast(list[bytes | None], reply)
        return (row[0] or b"").decode(), int(row[1] or 0)

    async def top(self, show: ShowId, log: str) -> int:
        """Read the offset of the latest publication of a log."""
        key = keys.logs_key(show)
        found = await self._ask(
            show, lambda redis: cast(Awaitable[bytes | None], redis.hget(key, f"t:{log}"))
        )
        return int(found or 0)

    async def read_back(self, show: ShowId, log: str, newest: int, count: int) -> list[Publication]:
        """Read up to `count` publications that end at this offset, oldest first."""
        key = keys.log_key(show, log)
        rows = await self._ask(
            show, lambda redis: redis.xrevrange(key, max=f"{newest}-0", count=count)
        )
        return _publications(rows)[::-1]

    async def read_log(
        self, show: ShowId, log: str, *, count: int, since: int | None, reverse: bool
    ) -> list[Publication]:
        """Read a log from its start or its end, or from a position on (not including it)."""
        if count == 0 or (reverse and since == 0):
            return []
        key = keys.log_key(show, log)
        if reverse:
            newest = "+" if since is None else f"({since}-0"
            rows = await self._ask(
                show, lambda redis: redis.xrevrange(key, max=newest, count=count)
            )
        else:
            oldest = "-" if since is None else f"({since}-0"
            rows = await self._ask(show, lambda redis: redis.xrange(key, min=oldest, count=count))
        return _publications(rows)

    async def read_state(self, show: ShowId) -> ShowState | None:
        key = keys.state_key(show)
        found = cast(bytes | None, await self._ask(show, lambda redis: redis.hget(key, "json")))
        return decode_state(found) if found else None

    async def stored_version(self, show: ShowId) -> int | None:
        """Of the state; None where there is none, or where it or the logs are about to end."""

        async def read(redis: Redis) -> list[object]:
            async with redis.pipeline(transaction=False) as pipe:
                pipe.hget(keys.state_key(show), "version")
                pipe.pttl(keys.state_key(show))
                pipe.pttl(keys.logs_key(show))
                return cast(list[object], await pipe.execute())

        version, *ends = await self._ask(show, read)
        if version is None or any(cast(int, ms) > 0 for ms in ends):
            return None
        return int(cast(bytes, version))

    async def expire(self, show: ShowId, names: Sequence[str], seconds: int) -> None:
        """Let keys of a show end by themselves."""

        async def expire(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.expire(name, seconds)
                await pipe.execute()

        await self._ask(show, expire)

    # Who is there

    async def count_viewers(self, show: ShowId, *, gateway: str = "", count: int = 0) -> int:
        """Give this gateway's heartbeat (or none); return the viewers of all living gateways."""
        args: list[str | int | bytes] = [gateway, count, DEAD_MS]
        reply = await self._run("count_viewers", show, [keys.viewers_key(show)], args)
        return int(cast(int, reply))

    async def put_presence(self, show: ShowId, log: str, present: Mapping[str, bytes]) -> None:
        """Say that these clients are on a channel."""
        args: list[str | int | bytes] = [PRESENCE_OLD_MS]
        for client, info in present.items():
            args += [client, info]
        await self._run("presence_put", show, [keys.presence_key(show, log)], args)

    async def drop_presence(self, show: ShowId, log: str, client: str) -> None:
        key = keys.presence_key(show, log)
        await self._ask(show, lambda redis: redis.hdel(key, client))

    async def read_presence(self, show: ShowId, log: str) -> dict[str, ClientInfo]:
        names = [keys.presence_key(show, log)]
        reply = await self._run("presence_read", show, names, [PRESENCE_OLD_MS])
        flat = cast(list[bytes], reply)
        return {
            client.decode(): decode_info(info)
            for client, info in zip(flat[::2], flat[1::2], strict=True)
        }

    async def add_reaction(self, show: ShowId, kind: str, count: int = 1) -> None:
        key = keys.reactions_key(show)

        async def add(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipe:
                pipe.hincrby(key, kind, count)
                pipe.expire(key, REACTIONS_KEPT_SECONDS)
                await pipe.execute()

        await self._ask(show, add)

    async def forget_reactions(self, show: ShowId) -> None:
        key = keys.reactions_key(show)
        await self._ask(show, lambda redis: redis.delete(key))

    async def reactions(self, show: ShowId) -> dict[str, int]:
        key = keys.reactions_key(show)
        reply = await self._ask(show, lambda redis: redis.hgetall(key))
        rows = cast(dict[bytes, bytes], reply)
        return {kind.decode(): int(count) for kind, count in rows.items()}

    # Redis

    async def _run(
        self, script: str, name: str, names: list[str], args: list[str | int | bytes]
    ) -> object:
        """Run a script on the node of a show, or of a channel."""
        # A server that lost the script may have lost the log, too; the log's epoch is in the log
        # itself, so running it again is safe.
        try:
            return await self._clients.run_script(self._scripts[script], name, names, args)
        except (RedisError, OSError) as fault:
            raise Busy("the show's log does not answer") from fault

    async def _ask(self, name: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        """Send one command to the node of a show, or of a channel."""
        try:
            return await self._clients.run(name, call)
        except (RedisError, OSError) as fault:
            raise Busy("the show's log does not answer") from fault


def _disconnects(reply: object) -> list[tuple[str, bytes]]:
    rows = cast(list[tuple[bytes, dict[bytes, bytes]]], reply)
    return [(entry.decode(), fields[b"m"]) for entry, fields in rows]


def _publications(reply: object) -> list[Publication]:
    """Read the entries of a stream, in the order of the reply."""
    # redis-py types replies for every decoding at once; ours are bytes and never deleted entries.
    rows = cast(list[tuple[bytes, dict[bytes, bytes]]], reply)
    found = []
    for entry, fields in rows:
        offset = int(entry.partition(b"-")[0])
        info = fields[b"i"]
        found.append(Publication(Raw(fields[b"d"]), offset, decode_info(info) if info else None))
    return found
