"""Who did what: the audit log of hosts, a hash chain per show.

Always: a row's hash covers all of its columns and the hash of the row before it, so a change, a
gap or an insertion is found by `verify`; the last rows cut off are found by comparing the newest
hash with one noted elsewhere. Rows are append only (a trigger refuses the rest).
Called by: whoever changes a show, inside the transaction of that change.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import orjson

from live.domain.ids import ShowId
from live.ledger.db.pool import Connection

GENESIS = b""  # what the first row of a show has before it
LOCK_SPACE = 0x6C61  # first half of the advisory lock that keeps one chain in one line

_LOCK_LOG = "SELECT pg_advisory_xact_lock($1, hashtext($2))"

_LAST_HASH = """
SELECT clock_timestamp() AS now, (
           SELECT hash FROM host_actions WHERE show = $1 ORDER BY id DESC LIMIT 1
       ) AS hash"""

_APPEND = """
INSERT INTO host_actions
    (show, caller, role, action, detail, address, created_at, previous, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"""

_HASH_OF = "SELECT hash FROM host_actions WHERE id = $1"

_NEXT_ENTRIES = """
SELECT id, show, caller, role, action, detail, address, created_at, previous, hash
FROM host_actions WHERE show = $1 AND id > $2 ORDER BY id"""

_PAGE = """
SELECT id, caller, role, action, detail, address, created_at
FROM host_actions WHERE show = $1 AND ($2::bigint = 0 OR id {beyond} $2)
ORDER BY id {order} LIMIT $3"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAction:
    """One row of the log; `detail` is canonical JSON: the request and what it changed."""

    id: int
    show: ShowId
    caller: str
    role: str
    action: str
    detail: str
    address: str
    created_at: int  # Unix ms


def canonical(detail: object) -> str:
    """JSON with sorted keys: equal values are equal text."""
    return orjson.dumps(detail, option=orjson.OPT_SORT_KEYS).decode()


async def append(
    connection: Connection,
    *,
    show: ShowId,
    caller: str,
    role: str,
    action: str,
    detail: object,
    address: str = "",
) -> None:
    """Add one row to the show's chain. The caller's transaction makes it last, or not be at all."""
    await connection.execute(_LOCK_LOG, LOCK_SPACE, show)
    # A statement of its own: its snapshot must be younger than the lock.
    head = await connection.fetchrow(_LAST_HASH, show)
    assert head is not None, "a SELECT without FROM has one row"
    previous = head["hash"] or GENESIS
    text = canonical(detail)
    await connection.execute(
        _APPEND,
        show,
        caller,
        role,
        action,
        text,
        address,
        head["now"],
        previous,
        _hash(previous, (show, caller, role, action, text, address), head["now"]),
    )


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The newest row of a chain; `id` 0: there is none."""

    id: int = 0
    hash: bytes = GENESIS


NO_ROWS = ChainHead()


@dataclass(frozen=True, slots=True)
class Walk:
    """`broken`: the first row that does not fit, None if all do; `head` is the last that did."""

    broken: int | None
    head: ChainHead


async def verify(connection: Connection, show: ShowId) -> int | None:
    """Walk the show's chain; the id of the first row that does not fit, None if all do."""
    return (await walk(connection, show)).broken


async def walk(
    connection: Connection,
    show: ShowId,
    *,
    after: ChainHead = NO_ROWS,
    noted: ChainHead = NO_ROWS,
) -> Walk:
    """Walk the show's chain from behind `after`. `noted`: a row that must be there as it was,
    because somebody remembered it outside of the log."""
    known = await connection.fetchval(_HASH_OF, noted.id)
    if noted.id and known != noted.hash:
        return Walk(noted.id, after)
    head = after
    async with connection.transaction():
        cursor = connection.cursor(_NEXT_ENTRIES, show, after.id)
        async for row in cursor:
            fields = tuple(row[name] for name in _COVERED)
            fits = row["hash"] == _hash(row["previous"], fields, row["created_at"])
            if row["previous"] != head.hash or not fits:
                return Walk(row["id"], head)
            head = ChainHead(row["id"], row["hash"])
    return Walk(None, head)


async def read(
    connection: Connection,
    show: ShowId,
    *,
    after: int = 0,
    limit: int = 100,
    newest_first: bool = False,
) -> list[HostAction]:
    """A page of the log in order; `after` is the last id of the page before, 0 on the first."""
    beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
    rows = await connection.fetch(_PAGE.format(beyond=beyond, order=order), show, after, limit)
    return [
        HostAction(
            id=row["id"],
            show=show,
            caller=row["caller"],
            role=row["role"],
            action=row["action"],
            detail=row["detail"],
            address=row["address"],
            created_at=int(row["created_at"].timestamp() * 1000),
        )
        for row in rows
    ]


_COVERED = ("show", "caller", "role", "action", "detail", "address")


def _hash(previous: bytes, fields: tuple[str, ...], at: datetime) -> bytes:
    # A JSON list cannot be read in two ways, as joined strings could.
    body = orjson.dumps([*fields, at.isoformat()])
    return hashlib.sha256(previous + body).digest()
