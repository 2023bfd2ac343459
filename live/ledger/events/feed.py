"""The events for whoever polls, in the order of their positions.

Always: a page goes through a bounded number of positions, so it may be empty and have a next one;
whoever goes on from its cursor misses none that is kept.
Called by: the HTTP API.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from live.base.errors import BadField
from live.domain.outgoing.webhooks import EventView, name_event
from live.ledger.db.pool import Pool

LOOKED_AT_MAX = 10_000  # positions of one page


@dataclass(frozen=True, slots=True)
class EventPart:
    """`last`: the position up to which was looked; `more`: there are some behind it; `complete`:
    none behind the cursor was deleted before it was read."""

    events: tuple[EventView, ...]
    last: int
    more: bool
    complete: bool


class EventFeed:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, *, after: int, types: Sequence[str], shows: Sequence[str] | None, limit: int
    ) -> EventPart:
        """Events behind a position. `shows` None: of all, and those of none.

        Raises BadField for a position that was never given.
        """
        ends = await self._pool.fetchrow(_ENDS)
        assert ends is not None, "the sequence has one row"
        last, first = ends["last"], ends["first"]
        if after > last:
            raise BadField("after", "not a cursor of these events: none had this position yet")
        begin = max(after, (last if first is None else first - 1))
        end = min(begin + LOOKED_AT_MAX, last)
        rows = await self._pool.fetch(
            _PAGE, begin, end, list(types), None if shows is None else list(shows), limit
        )
        reached = rows[-1]["position"] if len(rows) == limit else end
        events = tuple(
            EventView(
                id=name_event(row["id"], row["at_us"]),
                type=row["type"],
                timestamp=iso(row["at_us"]),
                data=orjson.loads(row["data"]),
            )
            for row in rows
        )
        return EventPart(events, reached, reached < last, complete=after in (0, begin))


def iso(at_us: int) -> str:
    """A time as webhooks and events tell it: ISO 8601 with milliseconds, in UTC."""
    at = datetime.fromtimestamp(at_us // 1_000 / 1_000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_ENDS = """
SELECT s.position AS last, (SELECT min(e.position) FROM events e) AS first FROM event_sequence s"""

_PAGE = """
SELECT id, position, type, data::text AS data,
       floor(extract(epoch FROM at) * 1000000)::bigint AS at_us
FROM events
WHERE position > $1 AND position <= $2 AND type = ANY($3::text[])
  AND ($4::text[] IS NULL OR show = ANY($4::text[]))
ORDER BY position LIMIT $5"""
