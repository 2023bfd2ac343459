"""What the shop's server says of payments at its own checkout, written down.

Always: one reference is the payment of one hold, also where that was refused; the first reference
of a payment stays; nothing is taken for a payment whose void was asked for before.
Called by: buying/shop_checkout.py.
"""

from uuid import UUID

import orjson

from live.base.errors import Conflict, NotFound
from live.domain.hold import HoldState
from live.domain.ids import BuyerId, HoldKey, OfferId, ShowId, Sku
from live.domain.orders.shop_hold import ShopItem, ShopPayment
from live.domain.payment import EXTERNAL, Payment, PaymentId, PaymentState
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

    async def claim(self, payment: Payment, reference: str) -> None:
        """This reference is the payment of this hold, whatever comes of it.

        Raises Conflict where it is another hold's.
        """
        where = (payment.show, payment.buyer, UUID(bytes=payment.hold))
        if await self._pool.fetchval(_CLAIM, reference, *where):
            return
        if not await self._pool.fetchval(_IS_THEIRS, reference, *where):
            raise Conflict("this reference is the payment of another hold", reason=REFERENCE_USED)

    async def accept(self, payment: PaymentId, reference: str) -> None:
        """The shop has the money, by this reference that the hold has claimed; a first word only,
        so read again afterwards."""
        step = sql.Step(
            payment=payment,
            state=PaymentState.AUTHORISED,
            ref=reference,
            reason="confirmed by the shop",
            action=None,
            notify=False,
        )
        await self._pool.fetch(sql.MOVE_MANY, *sql.move_many_arguments([step]))


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

_CLAIM = """
INSERT INTO shop_references (reference, show, buyer, hold) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING true"""

# In a statement of its own: it sees whoever was faster.
_IS_THEIRS = """
SELECT EXISTS (SELECT FROM shop_references
               WHERE reference = $1 AND show = $2 AND buyer = $3 AND hold = $4)"""
