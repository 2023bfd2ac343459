"""How payments are read and written: columns, and the statements that open, find and move rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import orjson

from live.domain.ids import BuyerId, HoldKey, OrderId, ShowId
from live.domain.offer import Mode
from live.domain.order import OrderState
from live.domain.payment import Action, NewPayment, Payment, PaymentId, PaymentState, PricedLine
from live.domain.payment_states import GIVEN_UP, MAY_HOLD_MONEY, NEXT, states_before
from live.ledger.db.arrays import array_text
from live.ledger.db.states import ENDED, FINAL, MONEY_STEPS, NOT_KEPT, texts
from live.ledger.money.late_money import DUE_AGAIN

COLUMNS = """
    p.id, p.order_id, p.show, p.buyer, p.sub, p.hold, p.attempt, p.mode, p.slots, p.quantities,
    p.prices_minor, p.amount_minor, p.currency, p.provider, p.token, p.provider_ref, p.state,
    p.reason, p.action, p.captured_minor, p.refunded_minor, p.tries, p.held_until,
    p.quote,
    floor(extract(epoch FROM clock_timestamp() - p.created_at) * 1000)::bigint AS age_ms,
    o.state AS order_state"""

FROM = "payments p LEFT JOIN orders o ON o.id = p.order_id"

DECLINES_PER_HOLD_MAX = 5  # a buyer who mistypes twice and takes another card has tries left
DECLINES_PER_BUYER_MAX = 10  # of one show, in DECLINES_SECONDS: who buys a lot holds a lot
DECLINES_SECONDS = 3_600
# Reasons against opening payment `n`, each a condition. The buyer's payments of the show are a few
# neighbours in one index. With an OFFSET the EXISTS stops at the row that is one too many.
_ELSEWHERE = """EXISTS (
    SELECT FROM payments
    WHERE show = n.show AND buyer = n.buyer AND attempt = n.attempt AND hold <> n.hold)"""
_HOLD_SPENT = f"""EXISTS (
    SELECT FROM payments
    WHERE show = n.show AND buyer = n.buyer AND hold = n.hold AND state = 'declined'
    OFFSET {DECLINES_PER_HOLD_MAX - 1})"""
_BUYER_SPENT = f"""EXISTS (
    SELECT FROM payments
    WHERE show = n.show AND buyer = n.buyer AND state = 'declined'
      AND created_at > now() - interval '{DECLINES_SECONDS} seconds'
    OFFSET {DECLINES_PER_BUYER_MAX - 1})"""

# Open many: rows that were there already come back from the second query of the same transaction.
OPEN = f"""
INSERT INTO payments (id, order_id, show, buyer, sub, hold, attempt, mode, slots, quantities,
                      prices_minor, amount_minor, currency, provider, token, contact, held_until,
                      quote, totals, lease_until)
SELECT id, order_id, show, buyer, sub, hold, attempt, mode, slots::integer[],
       quantities::integer[], prices::bigint[], amount, currency, provider, token, contact::jsonb,
       nullif(held_until, 0), quote, totals::jsonb, now() + make_interval(secs => $20)
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::text[], $6::uuid[], $7::uuid[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::text[],
            $14::text[], $15::text[], $16::text[], $17::bigint[], $18::text[], $19::text[])
     AS n(id, order_id, show, buyer, sub, hold, attempt, mode, slots, quantities, prices, amount,
          currency, provider, token, contact, held_until, quote, totals)
LEFT JOIN LATERAL (
    SELECT id AS known FROM orders
    WHERE show = n.show AND buyer = n.buyer AND key = n.hold LIMIT 1
) o ON true
WHERE o.known IS NULL AND NOT {_ELSEWHERE} AND NOT {_HOLD_SPENT} AND NOT {_BUYER_SPENT}
ON CONFLICT DO NOTHING
RETURNING id"""

# Asked only of those that were neither opened nor found.
WHY_NOT = f"""
SELECT n.wanted, {_ELSEWHERE} AS elsewhere, {_HOLD_SPENT} AS hold_spent,
       {_BUYER_SPENT} AS buyer_spent
FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::uuid[], $5::uuid[])
     AS n(wanted, show, buyer, hold, attempt)"""

# The attempt's own row if it has one, else the hold's active one, else the one of its order.
FIND = f"""
SELECT n.wanted, {COLUMNS}, EXISTS (
           SELECT FROM payments a
           WHERE a.show = n.show AND a.buyer = n.buyer AND a.hold = n.hold
             AND a.state NOT IN {FINAL}) AS active
FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::uuid[], $5::uuid[])
     AS n(wanted, show, buyer, hold, attempt)
CROSS JOIN LATERAL (
    SELECT * FROM payments
    WHERE show = n.show AND buyer = n.buyer AND hold = n.hold
      AND (attempt = n.attempt OR state NOT IN {FINAL}
           OR EXISTS (SELECT FROM orders x WHERE x.id = payments.order_id))
    ORDER BY attempt = n.attempt DESC, state NOT IN {FINAL} DESC
    LIMIT 1
) p
LEFT JOIN orders o ON o.id = p.order_id"""

# For steps that touch money: MOVE's snapshot must be younger than this lock, or it would miss what
# a settler that held the row did to its order. NO KEY, because new jobs refer to locked payments.
LOCK = "SELECT 1 FROM payments WHERE id = $1 FOR NO KEY UPDATE"

# Move one payment. `old` locks the row, so everything else decides on its newest version.
#   $1 id  $2 new state  $3 states it may come from  $4 ref  $5 reason  $6 action
#   $7 amount captured (NULL: all of it; `refunded` is all of it)  $8 entry kind  $9 notify
MOVE = f"""
WITH old AS (
    SELECT id, state, amount_minor, captured_minor, refunded_minor
    FROM payments WHERE id = $1 FOR NO KEY UPDATE
), sums AS (
    SELECT CASE WHEN $2 = 'captured' THEN
                    greatest(captured_minor, least(coalesce($7, amount_minor), amount_minor))
                WHEN $2 = 'refunded' AND captured_minor = 0 THEN amount_minor
                ELSE captured_minor END AS captured
    FROM old
), moved AS (
    UPDATE payments p
    SET state = $2,
        provider_ref = coalesce(p.provider_ref, $4),
        reason = $5,
        action = $6::jsonb,
        captured_minor = s.captured,
        refunded_minor = CASE WHEN $2 = 'refunded' THEN s.captured ELSE p.refunded_minor END,
        updated_at = now()
    FROM old, sums s
    WHERE p.id = old.id AND old.state = ANY($3)
    RETURNING p.id, p.order_id, p.show, p.buyer, p.hold, p.state, p.amount_minor,
              p.captured_minor, p.refunded_minor,
              p.captured_minor - old.captured_minor AS captured_more,
              p.refunded_minor - old.refunded_minor AS refunded_more
), learnt AS (
    UPDATE payments p SET provider_ref = $4 FROM old
    WHERE p.id = old.id AND NOT old.state = ANY($3) AND p.provider_ref IS NULL AND $4 IS NOT NULL
), entries AS (
    INSERT INTO payment_entries (payment, kind, amount_minor, detail)
    SELECT id, $8, CASE WHEN $8 = 'authorised' THEN amount_minor ELSE 0 END, $5
    FROM moved WHERE $8 NOT IN {MONEY_STEPS}
    UNION ALL
    SELECT id, 'captured', captured_more, $5 FROM moved WHERE captured_more > 0
    UNION ALL
    SELECT id, 'refunded', refunded_more, $5 FROM moved WHERE refunded_more > 0
), told AS (
    INSERT INTO notices (show, buyer, kind, body)
    SELECT show, buyer, 'payment.failed', jsonb_build_object('hold', hold, 'reason', $5::text)
    FROM moved WHERE $9
), ordered AS (
    UPDATE orders o
    SET state = CASE WHEN o.shop_cancelled THEN o.state
                     WHEN m.refunded_minor = 0 THEN 'paid'
                     WHEN m.refunded_minor >= o.total_minor THEN 'refunded'
                     ELSE 'partially_refunded' END,
        refunded_minor = least(m.refunded_minor, o.total_minor)
    FROM moved m
    WHERE o.id = m.order_id AND (m.captured_minor > 0 OR m.state = 'captured')  -- 0: it was free
      AND (o.state NOT IN {ENDED} OR o.shop_cancelled)
    RETURNING o.id, o.show, o.buyer
), refund_told AS (
    INSERT INTO notices (show, buyer, kind, order_id)
    SELECT o.show, o.buyer, 'order.refunded', o.id
    FROM ordered o, moved m WHERE m.refunded_more > 0
), lost AS (
    -- Money came for an order that is no more: it goes back without anybody asking.
    INSERT INTO money_jobs (payment, kind, amount_minor, reason, request)
    SELECT m.id, 'refund', m.captured_minor, 'captured for an order that was not kept', 'lost'
    FROM moved m JOIN orders o ON o.id = m.order_id
    WHERE m.captured_more > 0 AND m.refunded_minor = 0 AND o.state IN {NOT_KEPT}
    ON CONFLICT DO NOTHING
)
SELECT coalesce((SELECT state FROM moved), (SELECT state FROM old)) AS state"""

# What MOVE does, for many payments at once and only for steps that concern no order and no sums.
# Locks in the order of the ids, so that two batches cannot wait for each other. Each id once.
# Money for a payment that was given up is sent back in the same statement (late_money.py); so is
# money for one whose void was asked for before it came.
#   arrays: $1 id  $2 new state  $3 ref  $4 reason  $5 action  $6 entry kind  $7 notify
#   $8 allowed steps, as `from>to`  $9 states in which the provider may hold money
#   $10 states given up
MOVE_MANY = f"""
WITH n AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::boolean[]) AS n(id, state, ref, reason, action, kind, notify)
), old AS (
    SELECT id, state, amount_minor, voiding FROM payments
    WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
), moved AS (
    UPDATE payments p
    SET state = n.state, provider_ref = coalesce(p.provider_ref, n.ref), reason = n.reason,
        action = n.action::jsonb, updated_at = now()
    FROM old JOIN n ON n.id = old.id
    WHERE p.id = old.id AND old.state || '>' || n.state = ANY($8::text[])
      AND NOT (old.voiding AND n.state = 'authorised')
    RETURNING p.id, p.show, p.buyer, p.hold, p.state, p.amount_minor, n.reason, n.kind, n.notify
), learnt AS (
    UPDATE payments p SET provider_ref = n.ref
    FROM old JOIN n ON n.id = old.id
    WHERE p.id = old.id
      AND (old.state || '>' || n.state <> ALL($8::text[])
           OR old.voiding AND n.state = 'authorised')
      AND p.provider_ref IS NULL AND n.ref IS NOT NULL
), late AS (
    INSERT INTO money_jobs (payment, kind, amount_minor, reason)
    SELECT old.id, 'void', old.amount_minor, n.state || ' when it was ' || old.state
    FROM old JOIN n ON n.id = old.id
    WHERE (old.state = ANY($10::text[]) OR old.voiding) AND n.state = ANY($9::text[])
    {DUE_AGAIN}
), entries AS (
    INSERT INTO payment_entries (payment, kind, amount_minor, detail)
    SELECT id, kind, CASE WHEN kind = 'authorised' THEN amount_minor ELSE 0 END, reason
    FROM moved WHERE kind IS NOT NULL
), told AS (
    INSERT INTO notices (show, buyer, kind, body)
    SELECT show, buyer, 'payment.failed', jsonb_build_object('hold', hold, 'reason', reason)
    FROM moved WHERE notify
)
SELECT old.id, CASE WHEN old.voiding AND n.state = 'authorised' THEN 'voided'
                    ELSE coalesce(moved.state, old.state) END AS state
FROM old JOIN n ON n.id = old.id LEFT JOIN moved ON moved.id = old.id"""

STEPS = [f"{before}>{after}" for before, states in NEXT.items() for after in states]

S = PaymentState
ENTRY_KIND: Mapping[PaymentState, str | None] = {
    S.CREATED: None,
    S.AUTHORISING: None,
    S.CAPTURING: None,
    S.AUTHORISED: "authorised",
    S.DECLINED: "declined",
    S.VOIDED: "voided",
    S.UNKNOWN: "unknown",
    S.ACTION_REQUIRED: "action_required",
    S.CAPTURED: "captured",
    S.REFUNDED: "refunded",
}


def payment_of(row: asyncpg.Record) -> Payment:
    """Read a row of COLUMNS."""
    return Payment(
        id=PaymentId(str(row["id"])),
        order=OrderId(str(row["order_id"])),
        show=ShowId(row["show"]),
        buyer=BuyerId(row["buyer"]),
        sub=row["sub"],
        hold=HoldKey(row["hold"].bytes),
        attempt=HoldKey(row["attempt"].bytes),
        mode=Mode(row["mode"]),
        lines=tuple(
            PricedLine(slot, qty, price)
            for slot, qty, price in zip(
                row["slots"], row["quantities"], row["prices_minor"], strict=True
            )
        ),
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        provider=row["provider"],
        token=row["token"],
        ref=row["provider_ref"],
        state=PaymentState(row["state"]),
        reason=row["reason"],
        action=action_of(row["action"]),
        captured_minor=row["captured_minor"],
        refunded_minor=row["refunded_minor"],
        tries=row["tries"],
        age_ms=row["age_ms"],
        order_state=OrderState(row["order_state"]) if row["order_state"] else None,
        held_until=row["held_until"] or 0,
        quote=row["quote"],
    )


def fresh_payment(new: NewPayment) -> Payment:
    """What the row says right after its INSERT, without reading it."""
    return Payment(
        id=new.id,
        order=new.order,
        show=new.show,
        buyer=new.buyer,
        sub=new.sub,
        hold=new.hold,
        attempt=new.attempt,
        mode=new.mode,
        lines=new.lines,
        amount_minor=new.amount_minor,
        currency=new.currency,
        provider=new.provider,
        token=new.token,
        ref=None,
        state=PaymentState.CREATED,
        reason="",
        action=None,
        captured_minor=0,
        refunded_minor=0,
        tries=0,
        age_ms=0,
        order_state=None,
        held_until=new.held_until,
        quote=new.quote,
    )


def action_of(text: str | None) -> Action | None:
    if text is None:
        return None
    found = orjson.loads(text)
    return Action(found["kind"], found["value"], found.get("expires_at"))


def open_arguments(new: list[NewPayment]) -> list[list[object]]:
    """The columns of OPEN, one list each."""
    return [
        [UUID(one.id) for one in new],
        [UUID(one.order) for one in new],
        [one.show for one in new],
        [one.buyer for one in new],
        [one.sub for one in new],
        [UUID(bytes=one.hold) for one in new],
        [UUID(bytes=one.attempt) for one in new],
        [one.mode.value for one in new],
        [array_text(line.slot for line in one.lines) for one in new],
        [array_text(line.qty for line in one.lines) for one in new],
        [array_text(line.price_minor for line in one.lines) for one in new],
        [one.amount_minor for one in new],
        [one.currency for one in new],
        [one.provider for one in new],
        [one.token for one in new],
        [None if one.contact is None else one.contact.decode() for one in new],
        [one.held_until for one in new],
        [one.quote for one in new],
        [orjson.dumps(one.totals).decode() if one.totals else None for one in new],
    ]


def find_arguments(wanted: Sequence[NewPayment]) -> tuple[list[object], ...]:
    """The arguments of FIND and WHY_NOT."""
    return (
        [UUID(new.id) for new in wanted],
        [new.show for new in wanted],
        [new.buyer for new in wanted],
        [UUID(bytes=new.hold) for new in wanted],
        [UUID(bytes=new.attempt) for new in wanted],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A payment's move to a state that concerns no order and no sums."""

    payment: PaymentId
    state: PaymentState
    ref: str | None
    reason: str
    action: Action | None
    notify: bool


def move_many_arguments(steps: Sequence[Step]) -> tuple[object, ...]:
    """The arguments of MOVE_MANY."""
    return (
        [UUID(one.payment) for one in steps],
        [one.state.value for one in steps],
        [one.ref for one in steps],
        [one.reason for one in steps],
        [None if one.action is None else orjson.dumps(one.action).decode() for one in steps],
        [ENTRY_KIND[one.state] for one in steps],
        [one.notify for one in steps],
        STEPS,
        texts(MAY_HOLD_MONEY),
        texts(GIVEN_UP),
    )


def move_arguments(
    payment: str,
    state: PaymentState,
    ref: str | None = None,
    reason: str = "",
    action: Action | None = None,
    amount_minor: int | None = None,
    notify: bool = False,
) -> tuple[object, ...]:
    """The arguments of MOVE."""
    return (
        UUID(payment),
        state.value,
        texts(states_before(state)),
        ref,
        reason,
        None if action is None else orjson.dumps(action).decode(),
        amount_minor,
        ENTRY_KIND[state],
        notify,
    )
