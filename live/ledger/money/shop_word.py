"""What the shop's server says of payments at its own checkout, written down.

Always: one reference is the payment of one hold, by a unique index; the first reference of a
payment stays; nothing is taken for a payment whose void was asked for before.
Called by: buying/shop_checkout.py.
"""

from uuid import UUID

import asyncpg
import orjson

from live.base.errors import Conflict, NotFound
from live.domain.hold import HoldState
from live.domain.ids import BuyerId, HoldKey, OfferId, ShowId, Sku
from live.domain.payment import EXTERNAL, PaymentId, PaymentState
from live.domain.shop_hold import ShopItem, ShopPayment
from live.ledger.db.pool import Pool
from live.ledger.money import payment_sql as sql

REFERENCE_USED = "reference_used"


class ShopWord:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, show: ShowId, buyer: BuyerId, hold: HoldKey) -> ShopPayment:
        """Raises NotFound where nobody ever paid for this hold at the shop's checkout."""
        row = await self._pool.fetchrow(_READ, show, buyer, UUID(bytes=hold))
        if row is None:
            raise NotFound("this hold is not at your checkout")
        return ShopPayment(
            payment=sql.payment_of(row),
            items=tuple(
                ShopItem(
                    offer=OfferId(item["offer"]),
                    sku=Sku(item["sku"]),
                    title=item["title"],
                    qty=item["qty"],
                    price_minor=item["price_minor"],
                )
                for item in orjson.loads(row["items"])
            ),
            void=row["void"],
            hold_state=None if row["hold_state"] is None else _STATES[row["hold_state"]],
        )

    async def accept(self, payment: PaymentId, reference: str) -> None:
        """The shop has the money, by this reference; a first word only, so read again afterwards.

        Raises Conflict where this reference is another hold's.
        """
        step = sql.Step(
            payment=payment,
            state=PaymentState.AUTHORISED,
            ref=reference,
            reason="confirmed by the shop",
            action=None,
            notify=False,
        )
        try:
            # Not with others' steps: a reference that is refused must not have theirs repeated.
            await self._pool.fetch(sql.MOVE_MANY, *sql.move_many_arguments([step]))
        except asyncpg.UniqueViolationError:
            raise Conflict(
                "this reference is the payment of another hold", reason=REFERENCE_USED
            ) from None


_STATES = {state.value: state for state in HoldState} | {"cancelled": HoldState.RELEASED}

# The newest payment: a hold that became an order is never paid again.
_READ = f"""
SELECT {sql.COLUMNS},
       (SELECT j.reason FROM money_jobs j WHERE j.payment = p.id AND j.kind = 'void') AS void,
       (SELECT h.state FROM holds h
        WHERE h.show = p.show AND h.buyer = p.buyer AND h.key = p.hold) AS hold_state,
       (SELECT json_agg(json_build_object('offer', f.id, 'sku', f.sku, 'title', f.title,
                                          'qty', n.qty, 'price_minor', n.price) ORDER BY f.id)::text
        FROM unnest(p.slots, p.quantities, p.prices_minor) AS n(slot, qty, price)
        JOIN offers f ON f.show = p.show AND f.slot = n.slot) AS items
FROM {sql.FROM}
WHERE p.show = $1 AND p.buyer = $2 AND p.hold = $3 AND p.provider = '{EXTERNAL}'
ORDER BY p.created_at DESC, p.id LIMIT 1"""
