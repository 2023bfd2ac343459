"""Which shows an audit has to look at: what changed since they were proven.

Always: a show is skipped only if it was proven without a finding and with nothing on its way, and
nothing of it changed since: its version stands, and no append-only table has a newer row of it.
Whoever changes old rows behind those tables' back is found in turn: each run proves some of the
shows again whose proof is oldest.
Called by: the audit. Only the one on the settlers' schedule writes here (`remember`).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from live.domain.caller import ALL_SHOWS
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from live.ledger.hosting.actions import NO_ROWS, ChainHead

AGAIN_MAX = 10  # proven shows that are proven again in each run: 3,000 shows in five hours
FIRST_MAX = 200  # ended shows that are proven for the first time in one run; the next goes on
AGAIN_AFTER_SECONDS = 3_600  # and a shop of a few shows, hourly
# A row may be committed after a younger one: no transaction of ours is open for so long.
SLACK_SECONDS = 120
BOOKS_FULL_EVERY_MS = 86_400_000  # in between only what was charged since the last run is compared
BOOKS_BACK_MS = 3_600_000  # a charge moves for a while after it was made
READ_TIMEOUT_SECONDS = 60.0
CATALOGUE = ShowId(ALL_SHOWS)
"""The name of the log about products, which is proven like a show's."""

_ALL_SHOWS = "SELECT id FROM shows ORDER BY created_at, id"

_MARKS = "SELECT name, mark FROM audit_marks"

_NOTE_MARKS = """
INSERT INTO audit_marks (name, mark) SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT (name) DO UPDATE SET mark = EXCLUDED.mark"""

_PROOFS = "SELECT show, version, captured, refunded, log_id, log_hash FROM audit_proofs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was true of a show when nothing was wrong and nothing on its way."""

    show: ShowId
    version: int = 0
    captured: int = 0
    refunded: int = 0
    head: ChainHead = NO_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditScope:
    """What one run looks at. `afresh`: shows of which nothing that is noted is believed.

    `skus` None: all products. `marks`: how far the append-only tables are covered by this run.
    """

    shows: tuple[ShowId, ...]
    afresh: frozenset[ShowId]
    skus: list[str] | None
    proofs: Mapping[ShowId, Proof]
    marks: Mapping[str, int]
    books_since_ms: int
    waiting: int = 0  # ended shows that were never proven and have to wait for another run


async def everything(pool: Pool) -> AuditScope:
    """All shows, afresh; noted heads of logs are still held against the logs."""
    marks = await _tops(pool)
    rows = await pool.fetch(_ALL_SHOWS, timeout=READ_TIMEOUT_SECONDS)
    shows = tuple(ShowId(row["id"]) for row in rows)
    return AuditScope(
        shows=shows,
        afresh=frozenset((*shows, CATALOGUE)),
        skus=None,
        proofs=await _proofs(pool),
        marks=marks,
        books_since_ms=0,
    )


async def changed(pool: Pool) -> AuditScope:
    """What changed since it was proven, and the oldest proofs in turn."""
    tops = await _tops(pool)  # first: what comes while we look is looked at next time
    rows = await pool.fetch(_MARKS)
    marks = {row["name"]: row["mark"] for row in rows}
    since = [marks.get(name, 0) for name in _TABLES]
    again = await pool.fetch(_OLDEST, AGAIN_MAX, AGAIN_AFTER_SECONDS)
    shows = await pool.fetch(_CHANGED, *since, timeout=READ_TIMEOUT_SECONDS)
    skus = await pool.fetch(_SKUS, since[0], timeout=READ_TIMEOUT_SECONDS)
    afresh = frozenset(ShowId(row["show"]) for row in again)
    # A show that was never proven stays so, whatever the marks say: it may wait.
    first = [ShowId(row["id"]) for row in shows if row["first"]]
    named = [ShowId(row["id"]) for row in shows if not row["first"]] + first[:FIRST_MAX]
    return AuditScope(
        shows=tuple(dict.fromkeys([*named, *sorted(afresh - {CATALOGUE})])),
        afresh=afresh,
        skus=[row["sku"] for row in skus] if marks else None,
        proofs=await _proofs(pool),
        marks=tops,
        books_since_ms=_books_since(marks),
        waiting=len(first[FIRST_MAX:]),
    )


def _books_since(marks: Mapping[str, int]) -> int:
    if _now_ms() - marks.get("books in full", 0) >= BOOKS_FULL_EVERY_MS:
        return 0
    return max(0, marks.get("books", 0) - BOOKS_BACK_MS)


async def remember(
    pool: Pool,
    work: AuditScope,
    proofs: Sequence[Proof],
    unproven: Sequence[ShowId],
    *,
    books: bool,
) -> None:
    """Note what was proven, and forget the proof of what was not."""
    await pool.execute(
        _NOTE,
        [one.show for one in proofs],
        [one.version for one in proofs],
        [one.captured for one in proofs],
        [one.refunded for one in proofs],
        [one.head.id for one in proofs],
        [one.head.hash for one in proofs],
        list(unproven),
    )
    marks = dict(work.marks)
    if books:
        marks["books"] = _now_ms()
        if not work.books_since_ms:
            marks["books in full"] = _now_ms()
    await pool.execute(_NOTE_MARKS, list(marks), list(marks.values()))


async def _proofs(pool: Pool) -> dict[ShowId, Proof]:
    rows = await pool.fetch(_PROOFS, timeout=READ_TIMEOUT_SECONDS)
    return {
        ShowId(row["show"]): Proof(
            show=ShowId(row["show"]),
            version=row["version"],
            captured=row["captured"],
            refunded=row["refunded"],
            head=ChainHead(row["log_id"], row["log_hash"]),
        )
        for row in rows
    }


async def _tops(pool: Pool) -> dict[str, int]:
    """The newest row of each append-only table before which none can appear any more."""
    return {
        name: await pool.fetchval(
            _TOP.format(table=name),
            SLACK_SECONDS,
            timeout=READ_TIMEOUT_SECONDS,
        )
        for name in _TABLES
    }


def _now_ms() -> int:
    return int(time.time() * 1000)


_TABLES = ("stock_movements", "payment_entries", "host_actions")

_TOP = """
SELECT coalesce((SELECT id FROM {table} WHERE created_at < now() - make_interval(secs => $1)
                 ORDER BY id DESC LIMIT 1), 0)"""

_OLDEST = """
SELECT show FROM audit_proofs WHERE proven_at < now() - make_interval(secs => $2)
ORDER BY proven_at LIMIT $1"""

# What is on sale changes in Redis, which has no such table.
_CHANGED = """
SELECT s.id, p.show IS NULL AND s.status = 'ended' AS first
FROM shows s LEFT JOIN audit_proofs p ON p.show = s.id
WHERE p.show IS NULL OR p.version <> s.version
   OR s.id IN (SELECT show FROM offers
               WHERE phase IN ('scheduled', 'open', 'paused', 'closing'))
   OR s.id IN (SELECT f.show FROM stock_movements m JOIN offers f ON f.id = m.offer
               WHERE m.id > $1)
   OR s.id IN (SELECT p.show FROM payment_entries e JOIN payments p ON p.id = e.payment
               WHERE e.id > $2)
   OR s.id IN (SELECT show FROM host_actions WHERE id > $3)
ORDER BY s.created_at, s.id"""

_SKUS = "SELECT DISTINCT sku FROM stock_movements WHERE id > $1"

_NOTE = """
WITH gone AS (
    DELETE FROM audit_proofs WHERE show = ANY($7::text[])
)
INSERT INTO audit_proofs (show, version, captured, refunded, log_id, log_hash)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                     $6::bytea[])
ON CONFLICT (show) DO UPDATE
SET version = EXCLUDED.version, captured = EXCLUDED.captured, refunded = EXCLUDED.refunded,
    log_id = EXCLUDED.log_id, log_hash = EXCLUDED.log_hash, proven_at = now()"""
