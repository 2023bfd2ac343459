"""What the console reads: shows to choose from, who is restricted, what was done, the last audit.

Read only, but for `note_audit`, with which the settler's schedule leaves its result here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from live.domain.ids import ShowId
from live.domain.show import ShowStatus
from live.ledger.db.pool import Pool
from live.ledger.hosting import actions
from live.ledger.hosting.bans import BanRow, BanRows

_SHOWS = """
SELECT id, title, status,
       floor(extract(epoch FROM starts_at) * 1000)::bigint AS starts_at,
       floor(extract(epoch FROM created_at) * 1000)::bigint AS created_at
FROM shows
WHERE ($1::text[] IS NULL OR id = ANY($1))
  AND ($2::text IS NULL OR (shows.created_at, id) <
       (SELECT c.created_at, c.id FROM shows c WHERE c.id = $2))
ORDER BY shows.created_at DESC, id DESC LIMIT $3"""

_LATEST_AUDIT = """
SELECT floor(extract(epoch FROM at) * 1000)::bigint AS at, findings, in_flight
FROM audit_results"""

_NOTE_AUDIT = """
INSERT INTO audit_results (findings, in_flight) VALUES ($1, $2)
ON CONFLICT (only_one) DO UPDATE
SET at = now(), findings = excluded.findings, in_flight = excluded.in_flight"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowSummary:
    """`starts_at` and `created_at` are Unix ms."""

    id: ShowId
    title: str
    status: ShowStatus
    starts_at: int | None
    created_at: int


@dataclass(frozen=True, slots=True)
class AuditResult:
    """The latest audit on the schedule, of all shows together; `at` is Unix ms."""

    at: int
    findings: int
    in_flight: int


class DeskRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._bans = BanRows(pool)

    async def list_shows(
        self, *, only: Sequence[str] | None, after: ShowId | None, limit: int
    ) -> list[ShowSummary]:
        """Shows, the newest first, from behind `after` on. `only` None: all there are."""
        rows = await self._pool.fetch(_SHOWS, only, after, limit)
        return [
            ShowSummary(
                id=ShowId(row["id"]),
                title=row["title"],
                status=ShowStatus(row["status"]),
                starts_at=row["starts_at"],
                created_at=row["created_at"],
            )
            for row in rows
        ]

    async def restrictions(self, show: ShowId) -> list[BanRow]:
        """Mutes and bans in force."""
        return await self._bans.in_force(show)

    async def actions(
        self, show: ShowId, *, after: int, limit: int, newest_first: bool = False
    ) -> list[actions.HostAction]:
        """What hosts and moderators did, from behind the row `after` on."""
        async with self._pool.acquire() as connection:
            return await actions.read(
                connection, show, after=after, limit=limit, newest_first=newest_first
            )

    async def last_audit(self) -> AuditResult | None:
        """None before the first one."""
        row = await self._pool.fetchrow(_LATEST_AUDIT)
        return None if row is None else AuditResult(row["at"], row["findings"], row["in_flight"])


async def note_audit(pool: Pool, *, findings: int, in_flight: int) -> None:
    await pool.execute(_NOTE_AUDIT, findings, in_flight)
