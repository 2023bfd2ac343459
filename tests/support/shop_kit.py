"""The shop's own checkout: where its buyers are sent, and what its server says."""

from dataclasses import dataclass

import pytest

from live.base.errors import Conflict
from live.buying.purchase import CheckoutAnswer
from live.buying.shop_checkout import HoldThere, ShopCheckout, ShopPaid
from live.domain.caller import Caller
from live.domain.ids import HoldKey, buyer_of
from live.domain.outcomes import Outcome
from live.ledger.audit.run import audit
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.ledger.money.shop_word import ShopWord
from live.payments.providers.external import External
from tests.support.ledger_kit import PRICE, SECRET
from tests.support.sale_kit import Sale

CHECKOUT_KEY = "a key that is long enough to sign holds"
CHECKOUT_URL = "https://shop.example/checkout?h={hold}&in={show}"


def paid(reference: str = "shop-1001") -> ShopPaid:
    return ShopPaid(reference=reference, amount_minor=PRICE, currency="EUR")


PAID = paid()


def own_checkout(pool: Pool, url: str | None = CHECKOUT_URL) -> External:
    return External(url, key=CHECKOUT_KEY, payments=PaymentRows(pool))


def shop_desk(sale: Sale, *, answer_seconds: float = 2.5) -> ShopCheckout:
    return ShopCheckout(
        sale.stock,
        sale.payments,
        ShopWord(sale.pool),
        sale.orders,
        sale.waiters,
        digest_of=lambda sub: buyer_of(sub, secret=SECRET),
        answer_seconds=answer_seconds,
    )


@dataclass(frozen=True, slots=True)
class Shop:
    """The shop's server, and the sale that its buyers come from."""

    sale: Sale
    desk: ShopCheckout

    async def sent(self, buyer: Caller, *, key: HoldKey | None = None) -> tuple[HoldThere, str]:
        """A buyer who is sent to the shop: their hold there, and the address."""
        hold = await self.sale.hold(buyer)
        answer = await self.pay(buyer, hold, key=key)
        assert answer.outcome is Outcome.ACTION_REQUIRED and answer.action is not None
        assert answer.action.kind == "redirect"
        there = HoldThere(show=self.sale.show, sub=buyer.sub, hold=hold)
        return there, answer.action.value

    async def pay(
        self, buyer: Caller, hold: HoldKey, *, key: HoldKey | None = None
    ) -> CheckoutAnswer:
        return await self.sale.pay(buyer, hold, None, provider="external", key=key)

    async def work(self) -> None:
        """Let the payment worker do all that is due, and what follows from it."""
        while await self.sale.worker.run_once():
            pass

    async def expire(self, there: HoldThere) -> None:
        """As if the buyer had dawdled: their window is over, for stock and for the ledger."""
        sale, buyer = self.sale, buyer_of(there.sub, secret=SECRET)
        await sale.stock.revert(sale.show, buyer, there.hold, held_until=1)
        await sale.stock.reap(sale.show)
        await sale.pool.execute("UPDATE payments SET created_at = now() - interval '1 hour'")

    async def proved(self) -> None:
        await self.work()
        report = await audit(self.sale.pool, self.sale.stock, self.sale.outbox, (), wait_seconds=5)
        assert report.findings == ()

    async def sold(self) -> int:
        return (await self.sale.figures()).sold


async def refusal(shop: Shop, there: HoldThere, paid: ShopPaid = PAID) -> str:
    """Why a confirmation was refused."""
    with pytest.raises(Conflict) as caught:
        await shop.desk.confirm(there, paid)
    return caught.value.reason
