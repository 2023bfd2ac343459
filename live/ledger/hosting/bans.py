"""Who may not speak, or not be there: restrictions, each with its row in the audit log."""

from collections.abc import Sequence
from dataclasses import dataclass

from live.base.errors import Denied
from live.domain.caller import RANKS
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from live.ledger.hosting.show_command import Actor, show_command

_HIGHER = "somebody who stands higher than you decided that"

_LIST = """
SELECT sub, kind, floor(extract(epoch FROM until) * 1000)::bigint AS until, rank
FROM bans WHERE show = $1 AND (until IS NULL OR until > now())"""

_SET = """
INSERT INTO bans (show, sub, kind, until, rank)
VALUES ($1, $2, $3, now() + make_interval(secs => $4), $5)
ON CONFLICT (show, sub, kind) DO UPDATE
    SET until = excluded.until, rank = excluded.rank
    WHERE bans.rank <= excluded.rank OR bans.until < now()
RETURNING true"""

_LIFT = """
DELETE FROM bans WHERE show = $1 AND sub = $2 AND kind = ANY($3)
RETURNING rank, until IS NULL OR until > now() AS counts"""


@dataclass(frozen=True, slots=True)
class BanRow:
    sub: str
    kind: str  # mute, shadow_ban or ban
    until: int | None  # Unix ms; None: until lifted
    rank: int  # of who made it: it reaches those below


class BanRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def in_force(self, show: ShowId) -> list[BanRow]:
        """Restrictions in force."""
        rows = await self._pool.fetch(_LIST, show)
        return [BanRow(**dict(row)) for row in rows]

    async def set(
        self, show: ShowId, sub: str, kind: str, seconds: int | None, actor: Actor
    ) -> None:
        """Restrict a person; None: until lifted. A second one of a kind replaces the first.

        Raises Denied where somebody who stands higher made the first.
        """
        detail: dict[str, object] = {"sub": sub, "seconds": seconds}
        async with show_command(self._pool, show, actor, f"chat.{kind}", detail) as command:
            done = await command.connection.fetchval(
                _SET, show, sub, kind, seconds, RANKS[actor.role]
            )
            if done is None:
                raise Denied(_HIGHER)

    async def lift(self, show: ShowId, sub: str, kinds: Sequence[str], actor: Actor) -> None:
        """End restrictions. Raises Denied where one of them is of somebody who stands higher."""
        detail: dict[str, object] = {"sub": sub, "kinds": list(kinds)}
        async with show_command(self._pool, show, actor, "chat.lift", detail) as command:
            gone = await command.connection.fetch(_LIFT, show, sub, list(kinds))
            if any(row["counts"] and row["rank"] > RANKS[actor.role] for row in gone):
                raise Denied(_HIGHER)
