"""The table of calls over HTTP: routing, rights, validation and openapi.json are made from it."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from live.api.http import access, holds, offers, orders, products, reports, shows, webhooks
from live.api.http.call import make_route
from live.api.http.deps import ApiDeps
from live.api.http.openapi import openapi
from live.api.http.order_routes import ORDER_ENDPOINTS
from live.api.http.table import (
    ANYONE,
    CATALOGUE_WRITERS,
    HOSTS_ANYWHERE,
    OFFER_HOSTS,
    OFFER_STAFF,
    SERVICES,
    SHOW_HOSTS,
    SHOW_STAFF,
    STAFF,
    WATCHERS,
    Endpoint,
)
from live.api.rpc.asyncapi import asyncapi
from live.api.schema.fields import Empty, Nothing
from live.api.schema.http_answers import (
    ActionPage,
    DeliveryPage,
    EventPage,
    GuestAnswer,
    OfferPage,
    ProductPage,
    ReportAnswer,
    Restrictions,
    SessionAnswer,
    ShowPage,
    TokenAnswer,
    WebhookList,
    WebhookMade,
)
from live.api.schema.http_requests import (
    AdjustmentBody,
    AnnouncementBody,
    ConfirmBody,
    DeclineBody,
    ExtendBody,
    ModerationBody,
    OfferBody,
    OfferPatchBody,
    PinsBody,
    ProductBody,
    RestockBody,
    RunOrderBody,
    SessionBody,
    ShowBody,
    ShowPatchBody,
    StartBody,
    TokenBody,
)
from live.api.schema.webhook_requests import ReplayBody, WebhookBody, WebhookPatchBody
from live.domain.offer import OfferView
from live.domain.order import OrderView
from live.domain.orders.shop_hold import ShopHold
from live.domain.outgoing.webhooks import DeliveryView, EndpointView, ReplayView
from live.domain.show import ProductView, ShowView

_PAGE = ("cursor", "limit")
_SORTED_PAGE = ("order", *_PAGE)
_WHOSE = ("show", "sub")

# Any: each line has a body type of its own, and a tuple's element has one type only; between a
# line's body, handler and answer the types do agree, which mypy checks line by line.
ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        method="POST", path="/v1/products", summary="Create a product", status=201,
        access=CATALOGUE_WRITERS, handler=products.create_product,
        body=ProductBody, answer=ProductView,
    ),
    Endpoint(
        method="GET", path="/v1/products", summary="List products by SKU", query=_PAGE,
        access=STAFF, handler=products.list_products, body=Empty, answer=ProductPage,
    ),
    Endpoint(
        method="GET", path="/v1/products/{sku}", summary="Read a product",
        access=STAFF, handler=products.get_product, body=Empty, answer=ProductView,
    ),
    Endpoint(
        method="POST", path="/v1/stock/adjustments", summary="Change stock on hand by a delta",
        access=CATALOGUE_WRITERS, handler=products.adjust_stock,
        body=AdjustmentBody, answer=ProductView,
    ),
    Endpoint(
        method="GET", path="/v1/catalogue/audit-log", query=_SORTED_PAGE,
        summary="Who made products and changed their stock", access=CATALOGUE_WRITERS,
        handler=reports.read_catalogue_log, body=Empty, answer=ActionPage,
    ),
    Endpoint(
        method="POST", path="/v1/shows", summary="Create a show", status=201,
        access=HOSTS_ANYWHERE, handler=shows.create_show, body=ShowBody, answer=ShowView,
    ),
    Endpoint(
        method="GET", path="/v1/shows", summary="List the caller's shows, the newest first",
        query=_PAGE, access=STAFF, handler=shows.list_shows, body=Empty, answer=ShowPage,
    ),
    Endpoint(
        method="GET", path="/v1/shows/{show}", summary="Read a show with its offers",
        access=SHOW_STAFF, handler=shows.get_show, body=Empty, answer=ShowView,
    ),
    Endpoint(
        method="PATCH", path="/v1/shows/{show}", summary="Change a show's settings",
        access=SHOW_HOSTS, handler=shows.patch_show, body=ShowPatchBody, answer=ShowView,
    ),
    Endpoint(
        method="POST", path="/v1/shows/{show}/start", summary="Go on air, or begin a rehearsal",
        access=SHOW_HOSTS, handler=shows.start_show, body=StartBody, answer=ShowView,
    ),
    Endpoint(
        method="POST", path="/v1/shows/{show}/pause", summary="Interrupt the show",
        access=SHOW_HOSTS, handler=shows.pause_show, body=Empty, answer=ShowView,
    ),
    Endpoint(
        method="POST", path="/v1/shows/{show}/resume", summary="Go on after a pause",
        access=SHOW_HOSTS, handler=shows.resume_show, body=Empty, answer=ShowView,
    ),
    Endpoint(
        method="POST", path="/v1/shows/{show}/end",
        summary="End the show and close its offers, or end its rehearsal",
        access=SHOW_HOSTS, handler=shows.end_show, body=Empty, answer=ShowView,
    ),
    Endpoint(
        method="PUT", path="/v1/shows/{show}/run-order", summary="Set the order of products",
        access=SHOW_HOSTS, handler=shows.set_run_order, body=RunOrderBody, answer=ShowView,
    ),
    Endpoint(
        method="POST", path="/v1/shows/{show}/pins", summary="Pin these products and no others",
        access=SHOW_HOSTS, handler=shows.set_pins, body=PinsBody, answer=ShowView,
    ),
    Endpoint(
        method="POST", path="/v1/shows/{show}/announcements",
        summary="Set the announcement bar; an empty text takes it down",
        access=SHOW_HOSTS, handler=shows.announce, body=AnnouncementBody, answer=ShowView,
    ),
    Endpoint(
        method="POST", path="/v1/shows/{show}/offers", summary="Prepare an offer", status=201,
        access=SHOW_HOSTS, handler=offers.create_offer, body=OfferBody, answer=OfferView,
    ),
    Endpoint(
        method="GET", path="/v1/shows/{show}/offers", query=_PAGE,
        summary="List offers that are closed, the one opened last first",
        access=WATCHERS, handler=offers.list_offers, body=Empty, answer=OfferPage,
    ),
    Endpoint(
        method="GET", path="/v1/offers/{offer}", summary="Read an offer",
        access=OFFER_STAFF, handler=offers.get_offer, body=Empty, answer=OfferView,
    ),
    Endpoint(
        method="PATCH", path="/v1/offers/{offer}", summary="Change the terms of a draft",
        access=OFFER_HOSTS, handler=offers.edit_offer, body=OfferPatchBody, answer=OfferView,
    ),
    Endpoint(
        method="POST", path="/v1/offers/{offer}/sold-out",
        summary="Stop selling and say that it is sold out; resume sells what is left",
        access=OFFER_HOSTS, handler=offers.mark_sold_out, body=Empty, answer=OfferView,
    ),
    Endpoint(
        method="POST", path="/v1/offers/{offer}/open",
        summary="Open, after its countdown where it has one; a second call skips the countdown",
        access=OFFER_HOSTS, handler=offers.open_offer, body=Empty, answer=OfferView,
    ),
    Endpoint(
        method="POST", path="/v1/offers/{offer}/pause", summary="Pause selling",
        access=OFFER_HOSTS, handler=offers.pause_offer, body=Empty, answer=OfferView,
    ),
    Endpoint(
        method="POST", path="/v1/offers/{offer}/resume", summary="Sell again after a pause",
        access=OFFER_HOSTS, handler=offers.resume_offer, body=Empty, answer=OfferView,
    ),
    Endpoint(
        method="POST", path="/v1/offers/{offer}/close",
        summary="Take no new holds; live ones may finish",
        access=OFFER_HOSTS, handler=offers.close_offer, body=Empty, answer=OfferView,
    ),
    Endpoint(
        method="POST", path="/v1/offers/{offer}/extend", summary="Move the closing time",
        access=OFFER_HOSTS, handler=offers.extend_offer, body=ExtendBody, answer=OfferView,
    ),
    Endpoint(
        method="POST", path="/v1/offers/{offer}/restock", summary="Add units of the product",
        access=OFFER_HOSTS, handler=offers.restock_offer, body=RestockBody, answer=OfferView,
    ),
    Endpoint(
        method="POST", path="/v1/shows/{show}/moderation", summary="Moderate the chat",
        status=202, access=SHOW_STAFF, handler=reports.moderate,
        body=ModerationBody, answer=Nothing,
    ),
    Endpoint(
        method="GET", path="/v1/shows/{show}/restrictions", summary="Who is muted or banned",
        access=SHOW_STAFF, handler=reports.read_restrictions, body=Empty, answer=Restrictions,
    ),
    *ORDER_ENDPOINTS,
    # A repeat is known by its reference; another answer than the order is never the last word.
    Endpoint(
        method="GET", path="/v1/holds/{hold}", summary="Read a hold at the shop's own checkout",
        needed=_WHOSE, access=SERVICES, handler=holds.read_hold, body=Empty, answer=ShopHold,
    ),
    Endpoint(
        method="POST", path="/v1/holds/{hold}/confirm",
        summary="Say that a hold was paid at the shop's own checkout; 409 and nothing is sold "
        "where it is over (`reason` hold_lost), 503 until the order is written",
        needed=_WHOSE, access=SERVICES, handler=holds.confirm_hold,
        body=ConfirmBody, answer=OrderView,
    ),
    Endpoint(
        method="POST", path="/v1/holds/{hold}/decline",
        summary="Say that a hold is not paid at the shop's own checkout",
        needed=_WHOSE, access=SERVICES, handler=holds.decline_hold,
        body=DeclineBody, answer=ShopHold,
    ),
    Endpoint(
        method="POST", path="/v1/payments/{provider}/webhook", summary="A provider's event",
        access=ANYONE, handler=orders.take_webhook, body=Empty, answer=Nothing,
        keyed=False, raw=True,
    ),
    # Without a key, here and for guests: nobody is known to whom the key could belong, and a repeat
    # only makes another cookie, or another guest.
    Endpoint(
        method="POST", path="/v1/session", summary="Log in to the console",
        access=ANYONE, handler=access.log_in, body=SessionBody, answer=SessionAnswer, keyed=False,
    ),
    Endpoint(
        method="GET", path="/v1/session", summary="Who is logged in to the console",
        access=STAFF, handler=access.show_session, body=Empty, answer=SessionAnswer,
    ),
    Endpoint(
        method="DELETE", path="/v1/session", summary="Log out of the console",
        access=ANYONE, handler=access.log_out, body=Empty, answer=Nothing,
    ),
    Endpoint(
        method="POST", path="/v1/guests", status=201,
        summary="Get a guest's token; guests cannot pay by invoice",
        access=ANYONE, handler=access.make_guest, body=Empty, answer=GuestAnswer, keyed=False,
    ),
    Endpoint(
        method="POST", path="/v1/tokens", summary="Make a token for a person", status=201,
        access=SERVICES, handler=access.make_token, body=TokenBody, answer=TokenAnswer,
        secret=True,
    ),
    Endpoint(
        method="POST", path="/v1/users/{sub:path}/logout",
        summary="Close a person's sockets and refuse their tokens; 200 and without effect where "
        "they stand as high as the caller and are not connected",
        access=HOSTS_ANYWHERE, handler=access.log_out_user, body=Empty, answer=Nothing,
    ),
    Endpoint(
        method="GET", path="/v1/shows/{show}/report", summary="Figures of a show",
        access=SHOW_HOSTS, handler=reports.read_report, body=Empty, answer=ReportAnswer,
    ),
    Endpoint(
        method="GET", path="/v1/shows/{show}/audit-log", summary="What hosts did",
        query=_SORTED_PAGE, access=SHOW_HOSTS, handler=reports.read_audit_log,
        body=Empty, answer=ActionPage,
    ),
    Endpoint(
        method="POST", path="/v1/webhooks", summary="Have events sent to an address", status=201,
        access=SERVICES, handler=webhooks.create_webhook, body=WebhookBody, answer=WebhookMade,
        secret=True, key_needed=True,
    ),
    Endpoint(
        method="GET", path="/v1/webhooks", summary="List endpoints, the first made first",
        access=SERVICES, handler=webhooks.list_webhooks, body=Empty, answer=WebhookList,
    ),
    Endpoint(
        method="GET", path="/v1/webhooks/{webhook}", summary="Read an endpoint",
        access=SERVICES, handler=webhooks.get_webhook, body=Empty, answer=EndpointView,
    ),
    Endpoint(
        method="PATCH", path="/v1/webhooks/{webhook}",
        summary="Change an endpoint, pause it, or make it active again",
        access=SERVICES, handler=webhooks.patch_webhook, body=WebhookPatchBody,
        answer=EndpointView,
    ),
    Endpoint(
        method="DELETE", path="/v1/webhooks/{webhook}", summary="Send nothing there any more",
        access=SERVICES, handler=webhooks.delete_webhook, body=Empty, answer=Nothing,
    ),
    Endpoint(
        method="POST", path="/v1/webhooks/{webhook}/test", summary="Send a test", status=202,
        access=SERVICES, handler=webhooks.test_webhook, body=Empty, answer=DeliveryView,
    ),
    Endpoint(
        method="POST", path="/v1/webhooks/{webhook}/rotate",
        summary="Make another secret; the one before signs for a day more",
        access=SERVICES, handler=webhooks.rotate_secret, body=Empty, answer=WebhookMade,
        secret=True, key_needed=True,
    ),
    Endpoint(
        method="GET", path="/v1/webhooks/{webhook}/deliveries", query=("state", *_PAGE),
        summary="List what was sent and what was answered, the newest first",
        access=SERVICES, handler=webhooks.list_deliveries, body=Empty, answer=DeliveryPage,
    ),
    Endpoint(
        method="POST", path="/v1/webhooks/{webhook}/replay", status=202,
        summary="Send again: deliveries, or the events of a span of time",
        access=SERVICES, handler=webhooks.replay_webhook, body=ReplayBody, answer=ReplayView,
    ),
    Endpoint(
        method="GET", path="/v1/events", query=("after", "types", "limit"),
        summary="The same events by polling, in order, for 30 days",
        access=SERVICES, handler=webhooks.list_events, body=Empty, answer=EventPage,
    ),
)  # fmt: skip


def routes(deps: ApiDeps) -> list[Route]:
    """Every call of the contract that is plain HTTP, with OpenAPI and AsyncAPI documents."""
    return [
        *(make_route(deps, endpoint) for endpoint in ENDPOINTS),
        _document("/openapi.json", openapi(ENDPOINTS, version=deps.version)),
        _document("/asyncapi.json", asyncapi(version=deps.version, rpc=deps.rpc)),
    ]


def _document(path: str, content: dict[str, Any]) -> Route:
    body = orjson.dumps(content)

    async def serve(_request: Request) -> Response:
        return Response(body, media_type="application/json")

    return Route(path, serve, methods=["GET"])
