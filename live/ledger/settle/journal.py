"""Holds and waitlist places as the outbox tells them: what a rebuild of Redis starts from.

Always: a row is changed only by a movement with a higher `seq` than the last one applied, so any
order and any repetition of movements ends in the same row.
"""

from collections.abc import Sequence
from uuid import UUID

from live.domain.hold import Movement, MovementKind
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.ledger.db.arrays import array_text
from live.ledger.db.pool import Connection

K = MovementKind

JOURNAL_TIMEOUT_SECONDS = 10.0  # of ~1,000 rows; tens of ms on an idle machine

HOLD_STATE = {
    K.HELD: "held",
    K.GRANTED: "held",
    K.BEGAN: "paying",
    K.REVERTED: "held",
    K.CONFIRMED: "confirmed",
    K.RETAKEN: "confirmed",
    K.SOLD: "confirmed",
    K.RELEASED: "released",
    K.EXPIRED: "expired",
    K.CANCELLED: "cancelled",
}

WAIT_STATE = {K.WAITLISTED: "waiting", K.GRANTED: "granted", K.LEFT_WAITLIST: "left"}

# In order of the key, so two settlers at once lock rows in the same order.
_HOLDS = """
INSERT INTO holds AS h (show, buyer, key, state, slots, quantities, expires_at, seq)
SELECT $1, n.buyer, n.key, n.state, n.slots::integer[], n.quantities::integer[],
       to_timestamp(nullif(n.expires_ms, 0) / 1000.0), n.seq
FROM unnest($2::bytea[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[],
            $8::bigint[]) AS n(buyer, key, state, slots, quantities, expires_ms, seq)
ORDER BY n.buyer, n.key
ON CONFLICT (show, buyer, key) DO UPDATE
SET state = EXCLUDED.state, slots = EXCLUDED.slots, quantities = EXCLUDED.quantities,
    expires_at = EXCLUDED.expires_at, seq = EXCLUDED.seq
WHERE h.seq < EXCLUDED.seq"""

_WAITS = """
UPDATE waitlist w SET state = n.state, seq = n.seq
FROM (SELECT * FROM unnest($2::bytea[], $3::uuid[], $4::text[], $5::bigint[])
          AS n(buyer, key, state, seq) ORDER BY buyer, key) n
WHERE w.show = $1 AND w.buyer = n.buyer AND w.key = n.key AND w.seq < n.seq"""

_CLOSING = """
UPDATE waitlist w SET state = 'left', seq = n.seq
FROM unnest($2::integer[], $3::bigint[]) AS n(slot, seq)
JOIN offers f ON f.show = $1 AND f.slot = n.slot
WHERE w.show = $1 AND w.offer = f.id AND w.state IN ('asked', 'waiting') AND w.seq < n.seq"""


async def journal(connection: Connection, show: ShowId, movements: Sequence[Movement]) -> None:
    """Write what these movements made of their holds and places in the waitlist."""
    holds = _newest(movements, HOLD_STATE)
    if holds:
        await connection.execute(
            _HOLDS,
            show,
            [one.buyer for one in holds],
            [UUID(bytes=one.key) for one in holds],
            [HOLD_STATE[one.kind] for one in holds],
            [array_text(line.slot for line in one.lines) for one in holds],
            [array_text(line.qty for line in one.lines) for one in holds],
            [one.expires_at for one in holds],
            [one.seq for one in holds],
            timeout=JOURNAL_TIMEOUT_SECONDS,
        )
    waits = _newest(movements, WAIT_STATE)
    if waits:
        await connection.execute(
            _WAITS,
            show,
            [one.buyer for one in waits],
            [UUID(bytes=one.key) for one in waits],
            [WAIT_STATE[one.kind] for one in waits],
            [one.seq for one in waits],
            timeout=JOURNAL_TIMEOUT_SECONDS,
        )
    closing = [one for one in movements if one.kind is K.CLOSING]
    if closing:
        slots = [(line.slot, one.seq) for one in closing for line in one.lines]
        await connection.execute(
            _CLOSING, show, [slot for slot, _ in slots], [seq for _, seq in slots]
        )


def _newest(movements: Sequence[Movement], kinds: dict[MovementKind, str]) -> list[Movement]:
    """The last of these movements for every (buyer, key): one upsert cannot touch a row twice."""
    newest: dict[tuple[BuyerId, HoldKey], Movement] = {}
    for one in movements:
        if one.kind in kinds:
            identity = (one.buyer, one.key)
            other = newest.get(identity)
            if other is None or other.seq < one.seq:
                newest[identity] = one
    return list(newest.values())
