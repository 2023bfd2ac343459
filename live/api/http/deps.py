"""What the HTTP API works with; `live/wiring/gateway.py` fills it in."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from live.api.auth import Authenticator
from live.api.limits import AddressLimit
from live.api.revoked import Revoked
from live.base.settings import Settings
from live.buying.shop_checkout import ShopCheckout
from live.chat.moderation import Moderation
from live.domain.caller import Role
from live.domain.ids import ShowId
from live.hosting.host import HostCommands
from live.hosting.ways import ShopWays
from live.ledger.db.idempotency import IdempotencyRows
from live.ledger.events.delivery_log import DeliveryLog
from live.ledger.events.endpoints import EndpointRows
from live.ledger.events.feed import EventFeed
from live.ledger.hosting.catalogue import Catalogue
from live.ledger.hosting.desk_rows import DeskRows
from live.ledger.hosting.shows import ShowRows
from live.ledger.orders.fulfilments import FulfilmentRows
from live.ledger.orders.orders import OrderRows

GUESTS_BURST = 100  # a household or a small office opening the page at once
GUESTS_PER_SECOND = 1.0
GUEST_READS_BURST = 100  # of one address without a token; each asks the ledger
GUEST_READS_PER_SECOND = 10.0


TakeWebhook = Callable[[str, Mapping[str, str], bytes], Awaitable[None]]
"""(provider, headers in lower case, raw body); raises a LiveError with `status` where refused."""
AtDesk = Callable[[ShowId], Awaitable[dict[str, Role]]]
"""Who sits at a show's desk now: `sub` -> role."""
CountViewers = Callable[[ShowId], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Webhooks:
    """`name_fault`: why nothing may be sent to what the name in a URL means at the moment."""

    endpoints: EndpointRows
    log: DeliveryLog
    feed: EventFeed
    name_fault: Callable[[str], Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDeps:
    settings: Settings
    auth: Authenticator
    catalogue: Catalogue
    host: HostCommands
    moderation: Moderation
    idempotency: IdempotencyRows
    orders: OrderRows
    shop_checkout: ShopCheckout
    fulfilments: FulfilmentRows
    shows: ShowRows
    take_webhook: TakeWebhook
    revoked: Revoked
    at_desk: AtDesk
    count_viewers: CountViewers
    desk: DeskRows
    guest_limit: AddressLimit
    guest_reads: AddressLimit
    version: str
    ways: ShopWays
    webhooks: Webhooks
    rpc: Mapping[str, tuple[type, type]]  # method -> request and answer type, for AsyncAPI
