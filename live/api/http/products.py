"""Products and stock on hand."""

from live.api.http.deps import ApiDeps
from live.api.http.paging import read_cursor, read_limit, write_cursor
from live.api.http.shows import NOTE_HEADER
from live.api.http.table import ApiAnswer, ApiCall
from live.api.schema.fields import Empty
from live.api.schema.http_answers import ProductPage
from live.api.schema.http_requests import AdjustmentBody, ProductBody
from live.domain.ids import Sku
from live.domain.show import ProductView
from live.ledger.hosting.catalogue import NewProduct


async def create_product(deps: ApiDeps, call: ApiCall[ProductBody]) -> ApiAnswer:
    body = call.body
    made = await deps.catalogue.create(
        NewProduct(
            sku=Sku(body.sku),
            title=body.title,
            description=body.description,
            image_url=body.image_url,
            price_minor=body.price_minor,
            currency=body.currency,
            on_hand=body.on_hand,
        ),
        actor=call.actor,
    )
    # An offer of it may cost something else, so this is told and no more.
    fault = deps.ways.refusal(made.price_minor, made.currency)
    return ApiAnswer(body=made, headers={NOTE_HEADER: fault} if fault else {})


async def list_products(deps: ApiDeps, call: ApiCall[Empty]) -> ProductPage:
    limit = read_limit(call.query)
    # One more than asked for tells whether there is a next page.
    found = await deps.catalogue.page(after=read_cursor(call.query), limit=limit + 1)
    items = found[:limit]
    return ProductPage(items, write_cursor(items[-1].sku) if len(found) > limit else None)


async def get_product(deps: ApiDeps, call: ApiCall[Empty]) -> ProductView:
    return await deps.catalogue.get(call.sku)


async def adjust_stock(deps: ApiDeps, call: ApiCall[AdjustmentBody]) -> ProductView:
    body = call.body
    return await deps.catalogue.adjust(
        Sku(body.sku), delta=body.delta, reason=body.reason, key=body.key, actor=call.actor
    )
