"""Hands paid orders over to Shopify: an order there that is paid, with the inventory taken.

    pip install httpx standardwebhooks
    WEBHOOK_SECRET=whsec_... SHOPIFY_URL=https://NAME.myshopify.com SHOPIFY_TOKEN=shpat_... \\
        python shopify.py

The token needs read_products, read_orders and write_orders. By the GraphQL Admin API: the REST one
is legacy since October 2024.
"""

import json
import os
from typing import Any

import httpx
from handover import Notes, Order, amount, extras, filled, run

VERSION = "2026-07"
ORDERS = (
    "query($query: String!) { orders(first: 10, query: $query) { nodes { id sourceIdentifier } } }"
)
VARIANTS = (
    "query($query: String!) { productVariants(first: 10, query: $query) { nodes { id sku } } }"
)
CREATE = """
mutation($order: OrderCreateOrderInput!, $options: OrderCreateOptionsInput) {
  orderCreate(order: $order, options: $options) {
    order { id }
    userErrors { field message }
  }
}"""
# The units are sold already, so their policy against overselling has nothing to say any more.
OPTIONS = {"inventoryBehaviour": "DECREMENT_IGNORING_POLICY", "sendReceipt": False}


class Shopify:
    def __init__(self, url: str, token: str, *, books: str) -> None:
        headers = {"X-Shopify-Access-Token": token}
        self.http = httpx.Client(headers=headers, timeout=20)
        self.api = f"{url}/admin/api/{VERSION}/graphql.json"
        self.notes = Notes(books)

    def hand_over(self, order: Order) -> str:
        """The order's id there; made once, however often it is asked for.

        Raises LookupError for a SKU that they do not have, ValueError where they do not take it.
        """
        return self.notes.once(
            order["order"], find=lambda: self.find(order["order"]), make=lambda: self.make(order)
        )

    def find(self, order: str) -> str | None:
        found = self.ask(ORDERS, query=f"source_identifier:{quoted(order)}")["orders"]["nodes"]
        return next((one["id"] for one in found if one["sourceIdentifier"] == order), None)

    def make(self, order: Order) -> str:
        currency, contact = order["currency"], order.get("contact") or {}

        def money(minor: int) -> dict[str, Any]:
            return {"shopMoney": {"amount": amount(minor, currency), "currencyCode": currency}}

        lines = [
            {
                "variantId": self.variant(item["sku"]),
                "quantity": item["qty"],
                "priceSet": money(unit_price(item)),
            }
            for item in order["items"]
        ]
        lines += [
            {"title": label, "quantity": 1, "priceSet": money(minor), "requiresShipping": False}
            for type, label, minor in extras(order)
            if type != "shipping"
        ]
        body = {
            "currency": currency,
            "sourceIdentifier": order["order"],
            "tags": ["live", f"show-{order['show']}"],
            "lineItems": lines,
            "shippingLines": [
                {"title": label, "priceSet": money(minor)}
                for type, label, minor in extras(order)
                if type == "shipping"
            ],
            "transactions": [
                {"kind": "SALE", "status": "SUCCESS", "amountSet": money(order["total_minor"])}
            ],
            **filled(email=contact.get("email", "")),
            **({"shippingAddress": where} if (where := address(contact)) else {}),
        }
        made = self.ask(CREATE, order=body, options=OPTIONS)["orderCreate"]
        if made["userErrors"]:
            raise ValueError(str(made["userErrors"]))
        return str(made["order"]["id"])

    def variant(self, sku: str) -> str:
        """The search finds words, so what it finds is compared."""
        found = self.ask(VARIANTS, query=f"sku:{quoted(sku)}")["productVariants"]["nodes"]
        exact = [one["id"] for one in found if one["sku"] == sku]
        if len(exact) != 1:
            raise LookupError(f"{len(exact)} variants have the SKU {sku}")
        return str(exact[0])

    def ask(self, query: str, /, **variables: object) -> dict[str, Any]:
        """Faults come with status 200: as `errors` of the query, or as `userErrors` of its data."""
        answer = self.http.post(self.api, json={"query": query, "variables": variables})
        answer.raise_for_status()
        told = answer.json()
        if told.get("errors"):
            raise ValueError(str(told["errors"]))
        found: dict[str, Any] = told["data"]
        return found


def quoted(text: str) -> str:
    """A term of a search, whatever is in it."""
    return json.dumps(text, ensure_ascii=False)


def unit_price(item: dict[str, Any]) -> int:
    """A discount of the line is taken off its units. Raises ValueError where it does not divide."""
    price, rest = divmod(item["qty"] * item["price_minor"] - item["discount_minor"], item["qty"])
    if rest:
        raise ValueError(f"line {item['line']}: the discount does not divide by its units")
    return int(price)


def address(contact: dict[str, Any]) -> dict[str, str]:
    where = contact.get("address") or {}
    first, _, last = contact.get("name", "").rpartition(" ")
    phone, country = contact.get("phone", ""), where.get("country", "")
    return filled(
        firstName=first,
        lastName=last,
        phone=phone if phone.startswith("+") else "",  # E.164, or it is refused
        address1=where.get("line1", ""),
        address2=where.get("line2", ""),
        city=where.get("city", ""),
        zip=where.get("postcode", ""),
        countryCode=country.upper() if len(country) == 2 else "",
    )


if __name__ == "__main__":
    shop = Shopify(
        os.environ["SHOPIFY_URL"],
        os.environ["SHOPIFY_TOKEN"],
        books=os.environ.get("HANDED", "handed.sqlite3"),
    )
    run(shop.hand_over)
