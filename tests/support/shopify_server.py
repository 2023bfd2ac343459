"""A stand-in for Shopify's GraphQL Admin API, as far as a hand-over of orders needs it.

Questions are checked against a schema of the types concerned, so a field or an argument that is not
there is an error as it is with them. Like them it answers faults with status 200.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal

from aiohttp import web
from graphql import ExecutionResult, build_schema, graphql_sync

from tests.support.answers import Json

TOKEN = "shpat_test"
PATH = "/admin/api/{version}/graphql.json"
SCHEMA = build_schema(
    """
scalar Decimal
scalar CurrencyCode
scalar CountryCode
type MoneyV2 { amount: Decimal! currencyCode: CurrencyCode! }
type MoneyBag { shopMoney: MoneyV2! }
type ProductVariant { id: ID! sku: String }
type ProductVariantConnection { nodes: [ProductVariant!]! }
type Order { id: ID! sourceIdentifier: String currentTotalPriceSet: MoneyBag! }
type OrderConnection { nodes: [Order!]! }
type OrderCreateUserError { field: [String!] message: String! }
type OrderCreatePayload { order: Order userErrors: [OrderCreateUserError!]! }
type Query {
  productVariants(first: Int, query: String): ProductVariantConnection!
  orders(first: Int, query: String): OrderConnection!
}
input MoneyInput { amount: Decimal! currencyCode: CurrencyCode! }
input MoneyBagInput { shopMoney: MoneyInput! presentmentMoney: MoneyInput }
input MailingAddressInput {
  firstName: String lastName: String company: String phone: String address1: String
  address2: String city: String provinceCode: String zip: String countryCode: CountryCode
}
input OrderCreateLineItemInput {
  variantId: ID title: String quantity: Int! priceSet: MoneyBagInput requiresShipping: Boolean
}
input OrderCreateShippingLineInput { title: String! priceSet: MoneyBagInput! }
enum OrderTransactionKind { AUTHORIZATION CAPTURE SALE }
enum OrderTransactionStatus { SUCCESS PENDING FAILURE }
input OrderCreateOrderTransactionInput {
  kind: OrderTransactionKind status: OrderTransactionStatus amountSet: MoneyBagInput!
}
input OrderCreateOrderInput {
  currency: CurrencyCode email: String sourceIdentifier: String tags: [String!]
  lineItems: [OrderCreateLineItemInput!] shippingLines: [OrderCreateShippingLineInput!]
  shippingAddress: MailingAddressInput transactions: [OrderCreateOrderTransactionInput!]
}
enum OrderCreateInputsInventoryBehavior {
  BYPASS DECREMENT_IGNORING_POLICY DECREMENT_OBEYING_POLICY
}
input OrderCreateOptionsInput {
  inventoryBehaviour: OrderCreateInputsInventoryBehavior sendReceipt: Boolean
}
type Mutation {
  orderCreate(order: OrderCreateOrderInput!, options: OrderCreateOptionsInput): OrderCreatePayload
}
"""
)


@dataclass(slots=True)
class Shopify:
    """`inventory`: units by variant id; `lose`: answers to come that get lost on their way."""

    variants: dict[str, str] = field(default_factory=dict)
    inventory: dict[str, int] = field(default_factory=dict)
    made: list[Json] = field(default_factory=list)
    lose: int = 0

    def sell(self, sku: str, units: int) -> str:
        id = f"gid://shopify/ProductVariant/{len(self.variants) + 1}"
        self.variants[sku] = id
        self.inventory[id] = units
        return id

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(PATH, self.answer)
        return app

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("X-Shopify-Access-Token") != TOKEN:
            return web.json_response({"errors": "[API] Invalid API key"}, status=401)
        body, before = await request.json(), len(self.made)
        done: ExecutionResult = graphql_sync(
            SCHEMA, body["query"], self, variable_values=body.get("variables")
        )
        if self.lose and len(self.made) > before:
            self.lose -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(done.formatted)

    def productVariants(self, _info: object, first: int, query: str) -> Json:
        """By words, as a search does: what contains the wanted one is found, too."""
        wanted = _term(query, "sku")
        nodes = [{"id": id, "sku": sku} for sku, id in self.variants.items() if wanted in sku]
        return {"nodes": nodes[:first]}

    def orders(self, _info: object, first: int, query: str) -> Json:
        wanted = _term(query, "source_identifier")
        return {"nodes": [one for one in self.made if one["sourceIdentifier"] == wanted][:first]}

    def orderCreate(self, _info: object, order: Json, options: Json) -> Json:
        lines = order["lineItems"]
        unknown = [one for one in lines if one.get("variantId", "") not in {*self.inventory, ""}]
        if unknown or not lines:
            fault = {"field": ["order", "lineItems"], "message": "no such variant"}
            return {"order": None, "userErrors": [fault]}
        owed = sum(_money(one["priceSet"]) * one["quantity"] for one in lines)
        owed += sum(_money(one["priceSet"]) for one in order.get("shippingLines", []))
        paid = sum(_money(one["amountSet"]) for one in order["transactions"])
        id = f"gid://shopify/Order/{len(self.made) + 1}"
        self.made.append(order | {"id": id, "owed": owed, "paid": paid})
        if options["inventoryBehaviour"] != "BYPASS":
            for one in lines:
                if "variantId" in one:
                    self.inventory[one["variantId"]] -= one["quantity"]
        return {"order": self.made[-1], "userErrors": []}


def _money(bag: Json) -> Decimal:
    amount = bag["shopMoney"]["amount"]
    assert isinstance(amount, str), "a float would round"
    return Decimal(amount)


def _term(query: str, name: str) -> str:
    found = re.fullmatch(rf'{name}:"((?:[^"\\]|\\.)*)"', query)
    assert found is not None, query
    return re.sub(r"\\(.)", r"\1", found[1])
