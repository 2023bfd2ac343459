"""The shop's own checkout: where its buyers are sent, and what its server says."""

from live.buying.shop_checkout import ShopCheckout, ShopPaid
from live.domain.ids import buyer_of
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from live.ledger.money.shop_word import ShopWord
from live.payments.external import External
from tests.support.ledger_kit import PRICE, SECRET
from tests.support.sale_kit import Sale

CHECKOUT_KEY = "a key that is long enough to sign holds"
CHECKOUT_URL = "https://shop.example/checkout?h={hold}&in={show}"


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


def paid(reference: str = "shop-1001") -> ShopPaid:
    return ShopPaid(reference=reference, amount_minor=PRICE, currency="EUR")
