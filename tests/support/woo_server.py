"""A stand-in for WooCommerce's REST API, as far as a hand-over of orders needs it.

Checks what the real one demands: the key, JSON, ids of products that are there, money as decimal
strings, e-mail addresses that are some. It filters orders by their date alone, never by meta data.
"""

import base64
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from aiohttp import web

from tests.support.answers import Json

KEY, SECRET = "ck_test", "cs_test"
_MONEY = re.compile(r"^\d+(\.\d+)?$")
_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+\.[^@\s]+$")


@dataclass(slots=True)
class Woo:
    """`stock`: units by product id; `lose`: answers to come that get lost on their way."""

    products: dict[str, Json] = field(default_factory=dict)
    stock: dict[int, int] = field(default_factory=dict)
    orders: list[Json] = field(default_factory=list)
    lose: int = 0
    tax: Decimal = Decimal(0)  # that it puts on top of each order, of its own

    def sell(self, sku: str, stock: int, *, parent: int = 0) -> int:
        id = 100 + len(self.products)
        self.products[sku] = {"id": id, "sku": sku, "parent_id": parent}
        self.stock[id] = stock
        return id

    def app(self) -> web.Application:
        app = web.Application(middlewares=[_known])
        app.router.add_get("/wp-json/wc/v3/products", self.find_products)
        app.router.add_get("/wp-json/wc/v3/orders", self.list_orders)
        app.router.add_post("/wp-json/wc/v3/orders", self.create_order)
        return app

    async def find_products(self, request: web.Request) -> web.Response:
        found = self.products.get(request.query["sku"])
        return web.json_response([found] if found else [])

    async def list_orders(self, request: web.Request) -> web.Response:
        since, page = request.query.get("after", ""), int(request.query.get("page", 1))
        size = int(request.query.get("per_page", 10))
        found = [one for one in self.orders if one["date_created_gmt"] > since]
        found.sort(key=lambda one: -one["id"])
        return web.json_response(found[(page - 1) * size : page * size])

    async def create_order(self, request: web.Request) -> web.Response:
        body = await request.json()
        fault = self._fault(body)
        if fault:
            return _refuse(400, "rest_invalid_param", fault)
        lines = [*body["line_items"], *body.get("shipping_lines", []), *body.get("fee_lines", [])]
        order = body | {
            "id": 1_000 + len(self.orders),
            "status": "processing" if body.get("set_paid") else "pending",
            "total": str(sum((Decimal(one["total"]) for one in lines), self.tax)),
            "date_created_gmt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        }
        self.orders.append(order)
        if order["status"] == "processing":
            for line in body["line_items"]:
                self.stock[line.get("variation_id") or line["product_id"]] -= line["quantity"]
        if self.lose:
            self.lose -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(order, status=201)

    def _fault(self, body: Json) -> str:
        known = {one["id"]: one["parent_id"] for one in self.products.values()}
        for line in body["line_items"]:
            product, variation = line["product_id"], line.get("variation_id", 0)
            if known.get(variation or product) != (product if variation else 0):
                return f"line_items: no such product {product}, {variation}"
        parts = ("line_items", "shipping_lines", "fee_lines")
        for line in (line for part in parts for line in body.get(part, [])):
            for name in ("subtotal", "total"):
                value = line.get(name, "0")
                if not (isinstance(value, str) and _MONEY.match(value)):
                    return f"{name} must be a decimal number in a string"
        email = body["billing"].get("email")
        return "" if email is None or _EMAIL.match(email) else "billing: invalid e-mail"


@web.middleware
async def _known(request: web.Request, handler: object) -> web.StreamResponse:
    assert callable(handler)
    wanted = "Basic " + base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
    if request.headers.get("Authorization") != wanted:
        return _refuse(401, "woocommerce_rest_cannot_view", "no such key")
    answer: web.StreamResponse = await handler(request)
    return answer


def _refuse(status: int, code: str, message: str) -> web.Response:
    body = {"code": code, "message": message, "data": {"status": status}}
    return web.json_response(body, status=status)
