"""Hands paid orders over to WooCommerce: an order there that is paid, with the stock taken.

    pip install httpx standardwebhooks
    WEBHOOK_SECRET=whsec_... WOO_URL=https://shop.example WOO_KEY=ck_... WOO_SECRET=cs_... \\
        python woocommerce.py

The key needs the permission Read/Write. WooCommerce has no key against repeats and finds no order
by its meta data, so after a lost answer the latest orders are read, and ours is looked for in them.
"""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
from handover import Notes, Order, amount, extras, filled, run

META = "live_order"
BEFORE = timedelta(hours=1)  # by which the two shops' clocks may differ
PAGE, PAGES_MAX = 100, 50


class WooCommerce:
    def __init__(self, url: str, key: str, secret: str, *, books: str) -> None:
        api = f"{url}/wp-json/wc/v3"
        self.http = httpx.Client(base_url=api, auth=(key, secret), timeout=20)
        self.notes = Notes(books)

    def hand_over(self, order: Order) -> str:
        """The order's id there; made once, however often it is asked for.

        Raises LookupError for a SKU that they do not have, httpx.HTTPError for what they refuse.
        """
        return self.notes.once(
            order["order"], find=lambda: self.find(order), make=lambda: self.make(order)
        )

    def find(self, order: Order) -> str | None:
        since = datetime.fromtimestamp(order["created_at"] / 1_000, UTC) - BEFORE
        query = {"after": since.strftime("%Y-%m-%dT%H:%M:%S"), "dates_are_gmt": "true"}
        wanted = (META, order["order"])
        for page in range(1, PAGES_MAX + 1):
            found = self.call("GET", "/orders", params={**query, "per_page": PAGE, "page": page})
            for one in found:
                if wanted in [(meta["key"], meta["value"]) for meta in one["meta_data"]]:
                    return str(one["id"])
            if len(found) < PAGE:
                return None
        raise LookupError(f"more than {PAGE * PAGES_MAX} orders since {since}")

    def make(self, order: Order) -> str:
        currency, contact = order["currency"], order.get("contact") or {}
        body = {
            "currency": currency,
            "set_paid": True,  # "processing" from the start, which is what takes the stock
            "payment_method": "live",
            "payment_method_title": "Live show",
            "transaction_id": order["order"],
            "meta_data": [{"key": META, "value": order["order"]}],
            "line_items": [self.line(item, currency) for item in order["items"]],
            "shipping_lines": [
                {"method_id": "live", "method_title": label, "total": amount(minor, currency)}
                for type, label, minor in extras(order)
                if type == "shipping"
            ],
            "fee_lines": [
                {"name": label, "total": amount(minor, currency), "tax_status": "none"}
                for type, label, minor in extras(order)
                if type != "shipping"
            ],
            "billing": address(contact) | filled(email=contact.get("email", "")),
            "shipping": address(contact),
        }
        made = self.call("POST", "/orders", json=body)
        wanted = amount(order["total_minor"], currency)
        if Decimal(made["total"]) != Decimal(wanted):  # taxes that the shop added of its own
            print(f"order {made['id']}: {made['total']} there, {wanted} was paid", flush=True)
        return str(made["id"])

    def line(self, item: dict[str, Any], currency: str) -> dict[str, Any]:
        """By id; a variation is named together with its product."""
        found = self.call("GET", "/products", params={"sku": item["sku"]})
        exact = [one for one in found if one["sku"] == item["sku"]]
        if len(exact) != 1:
            raise LookupError(f"{len(exact)} products have the SKU {item['sku']}")
        id, parent = exact[0]["id"], exact[0].get("parent_id")
        full = item["qty"] * item["price_minor"]
        return {
            **({"product_id": parent, "variation_id": id} if parent else {"product_id": id}),
            "quantity": item["qty"],
            "subtotal": amount(full, currency),
            "total": amount(full - item["discount_minor"], currency),
        }

    def call(self, method: str, path: str, **how: Any) -> Any:
        answer = self.http.request(method, path, **how)
        answer.raise_for_status()
        return answer.json()


def address(contact: dict[str, Any]) -> dict[str, str]:
    where = contact.get("address") or {}
    first, _, last = contact.get("name", "").rpartition(" ")
    return filled(
        first_name=first,
        last_name=last,
        phone=contact.get("phone", ""),
        address_1=where.get("line1", ""),
        address_2=where.get("line2", ""),
        city=where.get("city", ""),
        state=where.get("region", ""),
        postcode=where.get("postcode", ""),
        country=where.get("country", ""),
    )


if __name__ == "__main__":
    shop = WooCommerce(
        os.environ["WOO_URL"],
        os.environ["WOO_KEY"],
        os.environ["WOO_SECRET"],
        books=os.environ.get("HANDED", "handed.sqlite3"),
    )
    run(shop.hand_over)
