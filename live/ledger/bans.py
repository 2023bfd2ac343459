"""Who may not speak, or not be there: restrictions, each with its row in the audit log."""

from collections.abc import Sequence
from dataclasses import dataclass

from live.domain.ids import ShowId
from live.ledger.pool import Pool
from live.ledger.show_command import Actor, show_command


@dataclass(frozen=True, slots=True)
class BanRow:
    sub: str
    kind: str  # mute, shadow_ban or ban
    until: int | None  # Unix ms; None: until lifted


class BanRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def in_force(self, show: ShowId) -> list[BanRow]:
        """Restrictions in force."""
        rows = await self._pool.fetch(
            """SELECT sub, kind, floor(extract(epoch FROM until) * 1000)::bigint AS until
               FROM bans WHERE show = $1 AND (until IS NULL OR until > now())""",
            show,
        )
        return [BanRow(row["sub"], row["kind"], row["until"]) for row in rows]

    async def set(
        self, show: ShowId, sub: str, kind: str, seconds: int | None, actor: Actor
    ) -> None:
        """Restrict a person; None: until lifted. A second one of a kind replaces the first."""
        detail: dict[str, object] = {"sub": sub, "seconds": seconds}
        async with show_command(self._pool, show, actor, f"chat.{kind}", detail) as command:
            await command.connection.execute(
                """INSERT INTO bans (show, sub, kind, until)
                   VALUES ($1, $2, $3, now() + make_interval(secs => $4))
                   ON CONFLICT (show, sub, kind) DO UPDATE SET until = excluded.until""",
                show,
                sub,
                kind,
                seconds,
            )

    async def lift(self, show: ShowId, sub: str, kinds: Sequence[str], actor: Actor) -> None:
        detail: dict[str, object] = {"sub": sub, "kinds": list(kinds)}
        async with show_command(self._pool, show, actor, "chat.lift", detail) as command:
            await command.connection.execute(
                "DELETE FROM bans WHERE show = $1 AND sub = $2 AND kind = ANY($3)",
                show,
                sub,
                list(kinds),
            )
