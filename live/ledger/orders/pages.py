"""Pages of orders: by whom, of which show, in which state, and in which order they are told.

Always: with the oldest first, by when they were made or by their last change, none is told before
all that come before it are committed (`orders_whole_to`): who goes on from a cursor, whenever that
is, misses none. An order that changes moves to the end of the order by changes, so it is told once
more, and as it is then. A cursor belongs to its query and to no other.
Called by: orders.py.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

import orjson

from live.base.errors import BadField
from live.domain.ids import ShowId
from live.domain.order import OrderState
from live.domain.orders.fulfilment import Fulfilment
from live.ledger.db.pool import Pool
from live.ledger.orders.reading import ORDER, REFERENCE, OrderRow, order_of
from live.ledger.orders.units import TO_SHIP

PAGE_MAX = 200
CLOCK_SECONDS = (
    120  # by which times may disagree with positions: a transaction's length, a clock set
)
NEAR_ENOUGH = 1_000  # changes before a time that are read for nothing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Sorting(StrEnum):
    """Of a list of orders: when they were made, or when they changed last, the oldest first."""

    OLDEST = "oldest"
    NEWEST = "newest"
    UPDATED = "updated"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderQuery:
    """Which orders, and how sorted; None: any. `updated_since`: Unix ms. `to_ship`: units of them
    may leave now, or none may. `reference`: the shop's own number."""

    show: ShowId | None = None
    sub: str | None = None
    state: OrderState | None = None
    fulfilment: Fulfilment | None = None
    updated_since: int | None = None
    sorting: Sorting = Sorting.OLDEST
    to_ship: bool | None = None
    reference: str | None = None

    @property
    def mark(self) -> str:
        """What its cursors say of it: nothing of filters that are younger than some cursors."""
        said = asdict(self)
        for younger in ("to_ship", "reference"):
            if said[younger] is None:
                del said[younger]
        text = orjson.dumps(said)
        return hashlib.sha256(text).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class FoundOrders:
    """`cursor` is where the next page begins; `more` tells whether there is one now."""

    orders: tuple[OrderRow, ...]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an order stands: by its position, and rows from before positions by time and id."""

    position: int
    at: datetime
    order: UUID


async def find_orders(
    pool: Pool, query: OrderQuery, *, cursor: str | None, limit: int
) -> FoundOrders:
    """A page of orders behind a cursor. Raises BadField, also for the cursor of another query."""
    place = None if cursor is None else _read_cursor(query, cursor)
    size = min(limit, PAGE_MAX)
    # A statement of its own: the rows must be read in a younger snapshot.
    newest_first = query.sorting is Sorting.NEWEST
    whole_to = None if newest_first else await pool.fetchval("SELECT orders_whole_to()")
    start = None
    if query.updated_since is not None and place is None and whole_to is not None:
        start = await _before(pool, _time(query.updated_since * 1_000), whole_to)
    statement, arguments = _statement(query, place, start, whole_to, size + 1)
    rows = await pool.fetch(statement, *arguments)
    if rows[:size]:
        last = rows[:size][-1]
        position, at = _columns(query.sorting)
        place = _Place(last[position], last[at], last["id"])
    return FoundOrders(
        tuple(order_of(row) for row in rows[:size]),
        _write_cursor(query, place),
        len(rows) > size,
    )


async def _before(pool: Pool, since: datetime, whole_to: int) -> int:
    """A position before all changes since then, found by halving: times grow with positions.

    Each step is one row of the index by changes, and 31 bits of positions are 21 steps at most.
    """
    low, high = -1, whole_to
    while high - low > NEAR_ENOUGH:
        middle = (low + high) // 2
        row = await pool.fetchrow(_FIRST_FROM, middle)
        if row is not None and row["at"] < since - timedelta(seconds=CLOCK_SECONDS):
            low = row["place"]
        else:
            high = middle
    return low


def _time(us: int) -> datetime:
    """To the microsecond, as Postgres keeps it; a float would round."""
    return _EPOCH + timedelta(microseconds=us)


def _write_cursor(query: OrderQuery, place: _Place | None) -> str:
    """`place` None: a list that has been empty so far."""
    if place is None:
        return query.mark
    at = (place.at - _EPOCH) // _MICROSECOND
    return f"{query.mark}.{place.position}.{at}.{place.order}"


def _read_cursor(query: OrderQuery, cursor: str) -> _Place | None:
    """None: from the beginning."""
    mark, *rest = cursor.split(".")
    if mark != query.mark:
        raise BadField("cursor", "not a cursor of this list, with these filters")
    if not rest:
        return None
    try:
        position, at, order = rest
        return _Place(_bigint(position), _time(_bigint(at)), UUID(order))
    except (ValueError, OverflowError) as error:
        raise BadField("cursor", "not a cursor of this list") from error


def _bigint(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**63:
        raise ValueError(text)
    return number


_MADE, _CHANGED = ("position", "created_at"), ("changed", "changed_at")
"""The columns of a place, of ORDER."""

_EXPRESSIONS = {
    _MADE: ("coalesce(o.position, 0)", "o.created_at"),
    _CHANGED: ("coalesce(o.changed, o.position, 0)", "coalesce(o.updated_at, o.created_at)"),
}
"""The same as the indexes have them."""


def _statement(
    query: OrderQuery,
    place: _Place | None,
    start: int | None,
    whole_to: int | None,
    limit: int,
) -> tuple[str, list[object]]:
    """The statement and its arguments. Only what is asked stands in it: a condition that may be
    none keeps the planner from the index."""
    position, at = _EXPRESSIONS[_columns(query.sorting)]
    beyond, way = ("<", "DESC") if query.sorting is Sorting.NEWEST else (">", "ASC")
    since = None if query.updated_since is None else _time(query.updated_since * 1_000)
    shipping = {None: [], True: [TO_SHIP], False: [f"NOT {TO_SHIP}"]}
    conditions: list[str] = list(shipping[query.to_ship])
    arguments: list[object] = [limit]
    for condition, value in (
        ("o.show = ${}", query.show),
        ("o.sub = ${}", query.sub),
        ("o.state = ${}", query.state),
        ("o.fulfilment = ${}", query.fulfilment),
        (f"{REFERENCE} = ${{}}", query.reference),
        ("coalesce(o.updated_at, o.created_at) >= ${}", since),
        (f"{position} > ${{}}", start),
        (f"{position} <= ${{}}", whole_to),
    ):
        if value is not None:
            arguments.append(value)
            conditions.append(condition.format(len(arguments)))
    if place is not None:
        n = len(arguments)
        arguments += (place.position, place.at, place.order)
        conditions.append(f"({position}, {at}, o.id) {beyond} (${n + 1}, ${n + 2}, ${n + 3})")
    where = "WHERE " + " AND ".join(conditions) if conditions else ""
    sorting = f"ORDER BY {position} {way}, {at} {way}, o.id {way}"
    return f"{ORDER} {where} {sorting} LIMIT $1", arguments


def _columns(sorting: Sorting) -> tuple[str, str]:
    return _CHANGED if sorting is Sorting.UPDATED else _MADE


_FIRST_FROM = """
SELECT coalesce(o.changed, o.position, 0) AS place, coalesce(o.updated_at, o.created_at) AS at
FROM orders o WHERE coalesce(o.changed, o.position, 0) >= $1
ORDER BY coalesce(o.changed, o.position, 0), coalesce(o.updated_at, o.created_at), o.id LIMIT 1"""
