"""A buyer's withdrawal from the contract, in the two steps that EU law wants: what will happen is
said first, and done when the buyer confirms it.

Always: what was answered is kept word for word with its time, and never changed; a repeat of the
second step answers the same. Before anything left, the order is cancelled and paid back; what is
with the buyer comes back by approved returns, those that they had asked for among them, and its
money goes when it is received.
Called by: the RPC methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from live.base.errors import Conflict, NotFound
from live.domain.ids import OfferId, OrderId
from live.domain.money import amount_text
from live.domain.order import ENDED, OrderState, OrderTotal, Withdrawal, worth_of
from live.domain.orders.fulfilment import ReturnState, units_text
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.money import refunds
from live.ledger.money.refunds import RefundWish, Returned
from live.ledger.orders.goods_back import ask_back, units_kept, worth_back
from live.ledger.orders.parcels import cancel, read_lines
from live.ledger.orders.reading import ORDER, order_of, order_uuid, read_bill
from live.ledger.orders.units import NOTE_FULFILMENT

SEND_BACK_DAYS = PAY_BACK_DAYS = 14
"""Directive 2011/83/EU, articles 14 (1) and 13 (1): the goods, and then the money."""

REASON = "the buyer withdrew"
REQUEST = "withdrawal"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a withdrawal means at this moment. `now_minor` goes back at once, `later_minor` for what
    the buyer sends back; `set_aside`: no money was taken yet."""

    lines: Sequence[asyncpg.Record]
    now_minor: int
    later_minor: int
    set_aside: bool

    @property
    def outside(self) -> int:
        """Units that are with the buyer, or on their way from or to them."""
        return sum(row["outside"] for row in self.lines)

    @property
    def unasked(self) -> int:
        """Those of them that no return asks for yet."""
        return sum(row["may_return"] for row in self.lines)

    @property
    def unsent(self) -> Sequence[asyncpg.Record]:
        return [row for row in self.lines if row["may_leave"]]

    @property
    def has_left(self) -> bool:
        """Whether a parcel left that did not come back by itself: it is not cancelled then."""
        return _has_left(self.lines)


class WithdrawalRows:
    """`days`: how long after the last parcel arrived a buyer may withdraw."""

    def __init__(self, pool: Pool, *, days: int) -> None:
        self._pool = pool
        self._days = days

    async def withdraw(self, order: OrderId, sub: str, *, confirm: bool) -> Withdrawal:
        """Say what a withdrawal from this order means and, with `confirm`, do it.

        Raises NotFound for another's order, and Conflict where it is over or too late.
        """
        wanted = order_uuid(order)

        async def work(connection: Connection) -> Withdrawal:
            if await connection.fetchval(_OWNER, wanted) != sub:
                raise NotFound("unknown order")
            await refunds.lock_order(connection, wanted)
            done = await connection.fetchrow(_DONE, wanted)
            if done is not None:
                return await _answer(connection, wanted, done["statement"], None)
            plan = await self._plan(connection, wanted)
            row = await connection.fetchrow(_ORDER, wanted)
            assert row is not None, "locked above"
            statement = _statement(plan, row)
            if confirm:
                await _carry_out(connection, wanted, plan, statement)
            return await _answer(connection, wanted, statement, plan)

        return await in_transaction(self._pool, work)

    async def _plan(self, connection: Connection, order: UUID) -> _Plan:
        """Raises Conflict where there is nothing to withdraw from any more."""
        row = await connection.fetchrow(_ORDER, order)
        assert row is not None, "locked before"
        lines = await read_lines(connection, order)
        state, outside = OrderState(row["state"]), sum(one["outside"] for one in lines)
        if state in ENDED and not (state is OrderState.REFUNDED and outside):
            raise Conflict(f"this order is {state}")
        self._refuse_late(row["delivered_at"], row["now"])
        if units_kept(lines) == 0:
            raise Conflict("all of this order is back")
        now, later = _amounts(await read_bill(connection, order), lines, row["rest"])
        return _Plan(
            lines=lines, now_minor=now, later_minor=later, set_aside=row["captured_minor"] == 0
        )

    def _refuse_late(self, delivered_at: datetime | None, now: datetime) -> None:
        if delivered_at is None:
            return  # the time begins when all of it has arrived
        ends_at = delivered_at + timedelta(days=self._days)
        if now > ends_at:
            raise Conflict(
                f"the time to withdraw ended on {ends_at:%Y-%m-%d}, {self._days} days after the"
                " delivery"
            )


def _amounts(
    bill: tuple[OrderTotal, ...], lines: Sequence[asyncpg.Record], rest: int
) -> tuple[int, int]:
    """What goes back at once and what later, of the `rest` of the money."""
    if not _has_left(lines):
        return rest, 0
    sent = sum(one["outside"] * one["price_minor"] for one in lines)
    unsent = sum(one["may_leave"] * one["price_minor"] for one in lines)
    before, now = worth_back(lines), 0
    if unsent:
        now = min(worth_of(bill, unsent, last=not sent, before_minor=before), rest)
    later = worth_of(bill, sent, last=True, before_minor=before + unsent) if sent else 0
    return now, min(later, rest - now)


def _has_left(lines: Sequence[asyncpg.Record]) -> bool:
    """Whether a parcel left that did not come back by itself: then nothing can be cancelled."""
    return any(row["left_shop"] > row["came_back"] for row in lines)


def _statement(plan: _Plan, row: asyncpg.Record) -> str:
    """What happens, for people and for good; the figures are in the answer as well."""
    said = [f"You withdraw from order {row['id']} of {row['created_at']:%Y-%m-%d}."]
    if plan.unsent:
        what = "What has not been sent is" if plan.has_left else "It is"
        said.append(f"{what} cancelled.")
    if plan.now_minor:
        paid = amount_text(plan.now_minor, row["currency"])
        said.append(f"{paid} is paid back at once, by the way you paid.")
    elif plan.set_aside:
        said.append("No money was taken, and none will be.")
    if plan.outside:
        said.append(f"Please send {units_text(plan.outside)} back within {SEND_BACK_DAYS} days.")
    if plan.outside > plan.unasked:
        asked = units_text(plan.outside - plan.unasked)
        said.append(f"That includes {asked} that you are returning already.")
    if plan.later_minor:
        paid = amount_text(plan.later_minor, row["currency"])
        said.append(f"{paid} is paid back within {PAY_BACK_DAYS} days of when they are received.")
    return " ".join(said)


async def _carry_out(connection: Connection, order: UUID, plan: _Plan, statement: str) -> None:
    back: UUID | None = None
    if plan.has_left:
        await _call_unsent_off(connection, order, plan)
    else:
        await cancel(connection, order, reason=REASON, restock=True)
    await connection.execute(_APPROVE, order)
    if plan.unasked:
        back = await ask_back(connection, order, (), REASON, state=ReturnState.APPROVED)
    await connection.execute(_WITHDRAW, order, statement, back)
    await connection.execute(NOTE_FULFILMENT, order)


async def _call_unsent_off(connection: Connection, order: UUID, plan: _Plan) -> None:
    """The units that have not left yet go to the shelf, and their price to the buyer."""
    units = tuple(Returned(OfferId(row["offer"]), row["may_leave"]) for row in plan.unsent)
    if not units:
        return
    await refunds.pay_back(
        connection, order, plan.now_minor, at_most_minor=0, why=REASON, request=REQUEST
    )
    wish = RefundWish(amount_minor=plan.now_minor, reason=REASON, restock=True, items=units)
    await refunds.take_back(connection, order, wish, REQUEST, whole=False)


async def _answer(
    connection: Connection, order: UUID, statement: str, plan: _Plan | None
) -> Withdrawal:
    row = await connection.fetchrow(f"{ORDER} WHERE o.id = $1", order)
    assert row is not None, "locked before"
    return Withdrawal(
        order=order_of(row).view,
        statement=statement,
        refund_now_minor=0 if plan is None else plan.now_minor,
        refund_later_minor=0 if plan is None else plan.later_minor,
    )


_OWNER = "SELECT sub FROM orders WHERE id = $1"

_DONE = "SELECT statement FROM withdrawals WHERE order_id = $1"

# When all that was bought has arrived, and what is left of the money.
_ORDER = """
SELECT o.id, o.state, o.currency, o.created_at, now() AS now,
       coalesce(p.captured_minor, 0) AS captured_minor,
       coalesce(p.captured_minor - p.refunded_minor - (
           SELECT coalesce(sum(j.amount_minor), 0) FROM money_jobs j
           WHERE j.payment = p.id AND j.kind = 'refund' AND j.state = 'due'), 0)::bigint AS rest,
       CASE WHEN o.fulfilment = 'delivered' THEN (
           SELECT max(s.updated_at) FROM shipments s
           WHERE s.order_id = o.id AND s.status = 'delivered') END AS delivered_at
FROM orders o LEFT JOIN payments p ON p.id = o.payment WHERE o.id = $1"""

# What the buyer had asked for is a part of it now.
_APPROVE = """
UPDATE returns SET state = 'approved', updated_at = now()
WHERE order_id = $1 AND state = 'requested'"""

_WITHDRAW = """
INSERT INTO withdrawals (order_id, statement, "return") VALUES ($1, $2, $3)"""
