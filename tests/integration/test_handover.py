"""The recipes hand orders over to stand-ins of two shop systems, over HTTP.

Method: the modules of examples/handover as they are, with orders as webhooks carry them.
"""

import asyncio
import importlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiohttp import web

from live.domain.money import MINOR_DIGITS
from tests.support.answers import Json
from tests.support.cluster import free_ports
from tests.support.events_kit import going_out
from tests.support.example_process import Program
from tests.support.ledger_kit import Sale, new_buyer
from tests.support.shopify_server import TOKEN, Shopify
from tests.support.woo_server import KEY, SECRET, Woo

FOLDER = Path(__file__).parents[2] / "examples" / "handover"
CONTACT = {
    "name": "Ada de Vries",
    "email": "ada@shop.example",
    "phone": "+3161234567",
    "address": {
        "line1": "1 Quay",
        "line2": "",
        "city": "Delft",
        "region": "",
        "postcode": "2611 AA",
        "country": "NL",
    },
}


Open = Callable[..., Any]  # Any: a module's members have no types here


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """The modules of the recipes, by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("handover", "woocommerce", "shopify"):
        sys.modules.pop(name, None)


@pytest.fixture
def opened(recipes: Callable[[str], Any], tmp_path: Path) -> Iterator[Open]:
    """A recipe's client of a shop at an address; all with the same notes."""
    clients: list[Any] = []

    def open_one(name: str, url: str, *, key: str = "") -> Any:
        books = str(tmp_path / "books")
        if name == "woocommerce":
            made = recipes(name).WooCommerce(url, key or KEY, SECRET, books=books)
        else:
            made = recipes(name).Shopify(url, key or TOKEN, books=books)
        clients.append(made)
        return made

    yield open_one
    for one in clients:
        one.http.close()


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def an_order(currency: str, *items: tuple[str, int, int], shipping: int = 0) -> Json:
    """`items`: (SKU, units, price)."""
    goods = sum(qty * price for _, qty, price in items)
    totals = [("subtotal", "Subtotal", goods, False), ("total", "Total", goods + shipping, False)]
    if shipping:
        totals.insert(1, ("shipping", "Parcel", shipping, False))
        totals.insert(2, ("tax", "VAT, in it", 3, True))
    return {
        "order": str(uuid4()),
        "show": "autumn",
        "currency": currency,
        "created_at": 1_790_000_000_000 - 20 * 365 * 86_400_000,
        "total_minor": goods + shipping,
        "contact": CONTACT,
        "items": [
            {"line": n, "sku": sku, "title": sku, "qty": qty, "price_minor": price}
            | {"discount_minor": 0}
            for n, (sku, qty, price) in enumerate(items, 1)
        ],
        "totals": [
            {"type": type, "label": label, "amount_minor": minor, "inclusive": inclusive}
            for type, label, minor, inclusive in totals
        ],
    }


MONEY = [("EUR", 1_250, "12.50"), ("JPY", 1_250, "1250"), ("KWD", 1_250, "1.250")]


@pytest.mark.parametrize(("currency", "minor", "text"), MONEY)
async def test_woocommerce_has_the_order(
    opened: Open, recipes: Callable[[str], Any], currency: str, minor: int, text: str
) -> None:
    """Paid, with its lines, its address and its shipping; the stock is taken, once."""
    woo = Woo()
    lamp, red = woo.sell("lamp", 10), woo.sell("Größe 42", 5, parent=77)
    order = an_order(currency, ("lamp", 1, minor), ("Größe 42", 3, 1), shipping=minor)
    async with served(woo.app()) as url:
        shop = opened("woocommerce", url)
        theirs = await asyncio.to_thread(shop.hand_over, order)
        again = await asyncio.to_thread(shop.hand_over, order)

    (made,) = woo.orders
    assert theirs == again == str(made["id"])
    assert (made["status"], made["currency"]) == ("processing", currency)
    assert made["line_items"][0]["total"] == made["shipping_lines"][0]["total"] == text
    assert made["line_items"][1]["product_id"] == 77
    assert made["fee_lines"] == []
    assert Decimal(made["total"]) == Decimal(total_of(recipes, order))
    assert made["meta_data"] == [{"key": "live_order", "value": order["order"]}]
    assert made["shipping"]["city"] == "Delft" and "address_2" not in made["shipping"]
    assert (woo.stock[lamp], woo.stock[red]) == (9, 2)


@pytest.mark.parametrize(("currency", "minor", "text"), MONEY)
async def test_shopify_has_the_order(
    opened: Open, recipes: Callable[[str], Any], currency: str, minor: int, text: str
) -> None:
    """Paid in full, with its lines and its shipping; the inventory is taken, once."""
    shopify = Shopify()
    lamp, other = shopify.sell("lamp", 10), shopify.sell("lamp-red", 10)
    odd = shopify.sell('Größe "42"', 1)
    order = an_order(currency, ("lamp", 2, minor), ('Größe "42"', 1, 1), shipping=minor)
    async with served(shopify.app()) as url:
        shop = opened("shopify", url)
        theirs = await asyncio.to_thread(shop.hand_over, order)
        again = await asyncio.to_thread(shop.hand_over, order)

    (made,) = shopify.made
    assert theirs == again == made["id"]
    assert made["lineItems"][0]["priceSet"]["shopMoney"]["amount"] == text
    assert made["owed"] == made["paid"] == Decimal(total_of(recipes, order))
    assert (made["sourceIdentifier"], made["tags"]) == (order["order"], ["live", "show-autumn"])
    assert made["shippingAddress"]["countryCode"] == "NL"
    assert (shopify.inventory[lamp], shopify.inventory[other], shopify.inventory[odd]) == (8, 10, 0)


def total_of(recipes: Callable[[str], Any], order: Json) -> str:
    return str(recipes("handover").amount(order["total_minor"], order["currency"]))


@pytest.mark.parametrize("name", ["woocommerce", "shopify"])
async def test_lost_answer_makes_no_second_order(opened: Open, name: str) -> None:
    """Among others, and also by another process that has the same notes."""
    standin = Woo() if name == "woocommerce" else Shopify()
    standin.sell("lamp", 500)
    first, other = an_order("EUR", ("lamp", 1, 100)), an_order("EUR", ("lamp", 2, 100))
    async with served(standin.app()) as url:
        shop = opened(name, url)
        standin.lose = 1
        with pytest.raises(httpx.TransportError):
            await asyncio.to_thread(shop.hand_over, first)
        await asyncio.to_thread(shop.hand_over, other)
        after = opened(name, url)
        theirs = await asyncio.to_thread(after.hand_over, first)

    made = standin.orders if isinstance(standin, Woo) else standin.made
    assert len(made) == 2
    assert theirs == str(made[0]["id"])


@pytest.mark.parametrize("name", ["woocommerce", "shopify"])
async def test_what_they_do_not_take_is_an_error(opened: Open, name: str) -> None:
    """A SKU that they do not have, a wrong key; nothing is made, and it may be tried again."""
    standin = Woo() if name == "woocommerce" else Shopify()
    order = an_order("EUR", ("lamp", 1, 100))
    async with served(standin.app()) as url:
        shop = opened(name, url)
        with pytest.raises(LookupError, match="lamp"):
            await asyncio.to_thread(shop.hand_over, order)
        standin.sell("lamp", 1)
        stranger = opened(name, url, key="wrong")
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            await asyncio.to_thread(stranger.hand_over, order)
        await asyncio.to_thread(shop.hand_over, order)

    assert len(standin.orders if isinstance(standin, Woo) else standin.made) == 1


async def test_taxes_of_their_own_are_told(
    opened: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shop that adds taxes of its own has another total: somebody should look."""
    woo = Woo(tax=Decimal("0.19"))
    woo.sell("lamp", 1)
    async with served(woo.app()) as url:
        shop = opened("woocommerce", url)
        await asyncio.to_thread(shop.hand_over, an_order("EUR", ("lamp", 1, 100)))

    assert capsys.readouterr().out == "order 1000: 1.19 there, 1.00 was paid\n"


@pytest.mark.parametrize("name", ["woocommerce", "shopify"])
async def test_paid_order_arrives_by_webhook(sale: Sale, tmp_path: Path, name: str) -> None:
    """The recipe as a process, behind the receiver of the examples and our own sender."""
    (port,), standin = free_ports(1), Woo() if name == "woocommerce" else Shopify()
    async with going_out(sale.pool) as out, served(standin.app()) as url:
        made = await out.endpoint(f"http://127.0.0.1:{port}/", "order.paid", contact=True)
        own = {"WEBHOOK_SECRET": made.secret, "PORT": str(port)}
        own |= {"BOOKS": str(tmp_path / "books"), "HANDED": str(tmp_path / "handed")}
        own |= {"WOO_URL": url, "WOO_KEY": KEY, "WOO_SECRET": SECRET}
        own |= {"SHOPIFY_URL": url, "SHOPIFY_TOKEN": TOKEN}
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        command = (sys.executable, str(FOLDER / f"{name}.py"))
        async with Program(command, clean | own).running() as process:
            paid = await sale.buy(new_buyer("ann"))
            await sale.settle()
            await sale.pool.execute("UPDATE orders SET state = 'paid'")  # as its capture would
            bought = "SELECT o.sku FROM order_items i JOIN offers o ON o.id = i.offer"
            standin.sell(await sale.pool.fetchval(bought), 3)
            await out.send()
            assert process.stdout is not None
            async with asyncio.timeout(20):
                said = (await process.stdout.readline()).decode().split()

    (there,) = standin.orders if isinstance(standin, Woo) else standin.made
    assert said == [paid.order, "is", str(there["id"])]


def test_digits_are_those_of_the_service(recipes: Callable[[str], Any]) -> None:
    assert recipes("handover").DIGITS == MINOR_DIGITS
