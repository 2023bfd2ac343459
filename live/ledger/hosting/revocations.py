"""Who was logged out: the rows that outlive every Redis and every process.

Always: a row is kept until the last token that it concerns has expired, and is then deleted
(housekeeping.py). A later log-out of the same kind replaces the earlier one.
Called by: live/api/revoked.py, which keeps all of them in the memory of each gateway.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime

from live.base.errors import NotFound
from live.domain.caller import ALL_SHOWS, RANKS
from live.domain.ids import ShowId
from live.ledger.db.pool import Connection, Pool
from live.ledger.hosting import actions
from live.ledger.hosting.show_command import Actor, command_on

PAGE_ROWS = 5_000
OVERLAP_SECONDS = 30  # a row is stamped when its transaction begins; none here is open for longer

_ADD = """
INSERT INTO revocations (sub, token, show, rank, before, until)
VALUES ($1, $2, $3, $4, $5, to_timestamp($6))
ON CONFLICT (sub, token, show, rank) DO UPDATE SET
    before = greatest(revocations.before, excluded.before),
    until = greatest(revocations.until, excluded.until),
    changed_at = now()"""

_CHANGED = """
SELECT sub, token, show, rank, before, changed_at,
       floor(extract(epoch FROM until))::bigint AS until
FROM revocations
WHERE until > now() AND ($1::timestamptz IS NULL
      OR changed_at > $1::timestamptz - make_interval(secs => $2))
ORDER BY changed_at"""

_SWEEP = """
WITH old AS (
    SELECT ctid FROM revocations WHERE until < now() LIMIT $1
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM revocations r USING old WHERE r.ctid = old.ctid RETURNING 1
)
SELECT count(*) FROM gone"""

_RUNNING = "SELECT id FROM shows WHERE status IN ('rehearsal', 'live', 'paused') ORDER BY id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Tokens that count no more: `token` by its id, else those of `sub` made until `before`.

    `show`: where; "" everywhere. `rank`: of roles below it. Times are Unix seconds.
    """

    sub: str
    before: int
    until: int
    rank: int
    token: str = ""
    show: str = ""


class RevocationRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def log_out(
        self, sub: str, actor: Actor, *, shows: Sequence[ShowId] | None, before: int, until: int
    ) -> list[Revocation]:
        """Log a person out of these shows, or everywhere (None), and note it in their logs.

        Of the shows those that exist; raises NotFound if none does. Everywhere: it is noted in the
        log of the catalogue, which belongs to no show, and in those of the shows that run.
        """
        detail: dict[str, object] = {"sub": sub}
        async with self._pool.acquire() as connection, connection.transaction():
            if shows is None:
                await _note_everywhere(connection, actor, detail)
                places: list[str] = [""]
            else:
                places = [*await _note(connection, sorted(shows), actor, detail)]
            rank = RANKS[actor.role]
            found = [
                Revocation(sub=sub, show=place, rank=rank, before=before, until=until)
                for place in places
            ]
            if not found:
                raise NotFound("your token covers no show that exists")
            await self.add(found, on=connection)
        return found

    async def add(self, found: Sequence[Revocation], *, on: Connection | None = None) -> None:
        """Note them; `on` the connection of a transaction that says more about it, if given."""
        await (on or self._pool).executemany(
            _ADD, [(one.sub, one.token, one.show, one.rank, one.before, one.until) for one in found]
        )

    async def changed_since(
        self, since: datetime | None
    ) -> AsyncGenerator[tuple[datetime, Revocation]]:
        """All that count still, or those that changed since then and a little before.

        Only in pages from the server, so a night of log-outs is never in memory twice.
        """
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            cursor = connection.cursor(_CHANGED, since, OVERLAP_SECONDS, prefetch=PAGE_ROWS)
            async for row in cursor:
                values = dict(row)
                changed_at = values.pop("changed_at")
                yield changed_at, Revocation(**values)

    async def sweep(self, limit: int) -> int:
        """Delete up to `limit` of those that concern no living token; returns how many."""
        gone = await self._pool.fetchval(_SWEEP, limit)
        return int(gone)


async def _note(
    connection: Connection, shows: Sequence[ShowId], actor: Actor, detail: dict[str, object]
) -> list[ShowId]:
    """Write it into the logs of these shows, given in order; returns those that exist."""
    there: list[ShowId] = []
    for show in shows:
        try:
            async with command_on(connection, show, actor, "user.logout", detail):
                there.append(show)
        except NotFound:
            continue  # a token may name a show before it is made
    return there


async def _note_everywhere(connection: Connection, actor: Actor, detail: dict[str, object]) -> None:
    running = await connection.fetch(_RUNNING)
    await _note(connection, [ShowId(row["id"]) for row in running], actor, detail)
    await actions.append(
        connection,
        show=ShowId(ALL_SHOWS),
        caller=actor.sub,
        role=actor.role,
        action="user.logout",
        detail=detail,
        address=actor.address,
    )
