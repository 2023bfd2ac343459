"""Log-outs that count: every gateway knows all of them, so no check asks anybody.

Owns: who was logged out, in memory. Postgres is the truth: it is read before traffic is taken and
every POLL_SECONDS from then on. Redis' disconnects only make it faster; their loss costs
those seconds.
Always: what a log-out ended is refused over HTTP, at connect and at a refresh, on every gateway.
Bounded by the people who were logged out within the life of a token, about 300 bytes each.
Runs on: the event loop; one task reads.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

import structlog

from live.aio.loops import repeat
from live.aio.tasks import Tasks
from live.api.auth import TOKEN_LIFE_MAX_SECONDS
from live.domain.caller import ABOVE_ALL, RANKS, Caller
from live.domain.ids import BuyerId, ShowId
from live.hosting.projector import UNREACHABLE
from live.ledger.hosting.revocations import Revocation, RevocationRows
from live.ledger.hosting.show_command import Actor
from live.protocol.codes import FORCED
from live.showlog.disconnects import Disconnect

POLL_SECONDS = 2.0
FORGET_SECONDS = 600.0  # between two looks for what has ended

Tell = Callable[[Disconnect], Awaitable[None]]
"""Tells all gateways, this one too."""

log = structlog.get_logger()


class Revoked:
    """`on_news` hears of each log-out that no disconnect told of, for whoever closes sockets."""

    def __init__(
        self, rows: RevocationRows, *, digest_of: Callable[[str], BuyerId], tell: Tell
    ) -> None:
        self.on_news: Callable[[Disconnect], None] | None = None
        self._rows = rows
        self._digest_of = digest_of
        self._tell = tell
        self._tokens: dict[str, int] = {}  # id -> until
        # buyer -> (show, rank) -> (tokens made until, until)
        self._people: dict[BuyerId, dict[tuple[str, int], tuple[int, int]]] = {}
        self._read_to: datetime | None = None
        self._forget_at = 0.0
        self._tasks = Tasks()

    async def open(self) -> None:
        """Read what counts, then go on reading. Raises DATABASE_ERRORS."""
        await self._read()
        # While Postgres is away what was heard before still counts.
        self._tasks.start("log_outs", repeat("log_outs", self._read_on, every_seconds=POLL_SECONDS))

    async def close(self) -> None:
        await self._tasks.close()

    # What a check asks

    def limit(self, caller: Caller) -> Caller | None:
        """The caller with what is left of their rights; None where the token counts no more."""
        if caller.token in self._tokens or caller.parent in self._tokens:
            return None
        found = None if caller.buyer is None else self._people.get(caller.buyer)
        if not found:
            return caller
        without = set()
        for (show, rank), (before, _) in found.items():
            if caller.issued_at > before or RANKS[caller.role] >= rank:
                continue
            if not show:
                return None
            without.add(show)
        if without and caller.shows <= without:
            return None
        return replace(caller, without=frozenset(without)) if without else caller

    def logged_out_at(self, buyer: BuyerId) -> int:
        """The latest second whose tokens of this person do not count, 0 for none."""
        return max((before for before, _ in self._people.get(buyer, {}).values()), default=0)

    # Log-outs

    async def log_out(self, sub: str, actor: Actor, *, shows: Sequence[ShowId] | None) -> None:
        """Log a person out of these shows, or everywhere. Raises NotFound, DATABASE_ERRORS."""
        now = int(time.time())
        until = now + TOKEN_LIFE_MAX_SECONDS
        await self._publish(
            await self._rows.log_out(sub, actor, shows=shows, before=now, until=until)
        )

    async def end_tokens(self, caller: Caller) -> None:
        """End a console's session and the token that it was made from. Raises DATABASE_ERRORS."""
        now = int(time.time())
        until = max(now, caller.expires_at or 0) + 1
        found = [
            Revocation(sub=caller.sub, token=name, rank=ABOVE_ALL, before=now, until=until)
            for name in (caller.token, caller.parent)
            if name
        ]
        await self._rows.add(found)
        await self._publish(found)

    async def _publish(self, found: Sequence[Revocation]) -> None:
        for one in found:
            disconnect = self._disconnect_of(one)
            self._take(disconnect)  # here and now, whatever Redis does
            try:
                await self._tell(disconnect)
            except UNREACHABLE as error:
                # Postgres has it: every gateway reads it within POLL_SECONDS.
                log.warning("log_out_untold", error=str(error))

    def hear(self, disconnect: Disconnect) -> bool:
        """Take what was told or read; False where it was known, or is no log-out."""
        if not disconnect.until:
            return False
        if disconnect.token:
            new = disconnect.token not in self._tokens
            self._tokens[disconnect.token] = disconnect.until
            return new
        own = self._people.setdefault(BuyerId(bytes.fromhex(disconnect.person)), {})
        known = own.get((disconnect.show, disconnect.rank), (0, 0))
        new = disconnect.before > known[0]
        if new:
            own[disconnect.show, disconnect.rank] = (disconnect.before, disconnect.until)
        return new

    # Reading

    async def _read_on(self) -> None:
        self._forget()
        await self._read()

    async def _read(self) -> None:
        async with aclosing(self._rows.changed_since(self._read_to)) as found:
            async for changed_at, one in found:
                self._take(self._disconnect_of(one))
                self._read_to = changed_at

    def _take(self, disconnect: Disconnect) -> None:
        if self.hear(disconnect) and self.on_news is not None:
            self.on_news(disconnect)

    def _forget(self) -> None:
        """Drop log-outs whose last token has expired."""
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + FORGET_SECONDS
        now = time.time()
        self._tokens = {name: until for name, until in self._tokens.items() if until > now}
        for buyer, own in list(self._people.items()):
            left = {key: times for key, times in own.items() if times[1] > now}
            if left:
                self._people[buyer] = left
            else:
                del self._people[buyer]

    def _disconnect_of(self, one: Revocation) -> Disconnect:
        return Disconnect(
            person=self._digest_of(one.sub).hex(),
            code=FORCED.code,
            reason=FORCED.reason,
            show=one.show,
            token=one.token,
            rank=one.rank,
            before=one.before,
            until=one.until,
        )
