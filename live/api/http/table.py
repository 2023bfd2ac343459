"""How a call of the API is described: one source for routing, rights, validation and OpenAPI."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from starlette.requests import Request

from live.api.http.deps import ApiDeps
from live.api.schema.fields import Body
from live.domain.caller import Caller, Role
from live.domain.ids import OfferId, OrderId, ShowId, Sku
from live.ledger.hosting.show_command import Actor

B = TypeVar("B", bound=Body)


class Where(Enum):
    """What the caller's `shows` must cover."""

    ANY = "any"  # the handler looks at what it finds
    SHOW = "show"  # the path's {show}
    OFFER = "offer"  # the show of the path's {offer}
    EVERYWHERE = "everywhere"  # hosts need ["*"]; services may always


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call; no roles at all: anyone, without a token.

    `guests`: also without a token, where the server lets such viewers watch (LIVE_GUESTS).
    """

    roles: frozenset[Role]
    where: Where = Where.ANY
    guests: bool = False


V, M, H, S = Role.VIEWER, Role.MODERATOR, Role.HOST, Role.SERVICE

ANYONE = Access(frozenset())
CATALOGUE_WRITERS = Access(frozenset({H, S}), Where.EVERYWHERE)
STAFF = Access(frozenset({M, H, S}))
HOSTS_ANYWHERE = Access(frozenset({H, S}))
SERVICES = Access(frozenset({S}))
SHOW_HOSTS = Access(frozenset({H, S}), Where.SHOW)
SHOW_STAFF = Access(frozenset({M, H, S}), Where.SHOW)
OFFER_HOSTS = Access(frozenset({H, S}), Where.OFFER)
OFFER_STAFF = Access(frozenset({M, H, S}), Where.OFFER)
BUYERS = Access(frozenset({V, H, S}))
WATCHERS = Access(frozenset({V, M, H, S}), Where.SHOW, guests=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall(Generic[B]):
    """One call that has passed authentication, rights and validation.

    `show` is set where the path names a show or an offer.
    """

    caller: Caller
    actor: Actor
    body: B
    path: Mapping[str, str]
    query: Mapping[str, str]
    request: Request  # for cookies, headers and raw bodies only
    show: ShowId | None = None

    @property
    def show_id(self) -> ShowId:
        assert self.show is not None, "the call's access names no show"
        return self.show

    @property
    def offer_id(self) -> OfferId:
        return OfferId(self.path["offer"])

    @property
    def order_id(self) -> OrderId:
        return OrderId(self.path["order"])

    @property
    def sku(self) -> Sku:
        return Sku(self.path["sku"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAnswer:
    """A handler's answer where the object alone is not enough."""

    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Generic[B]):
    """One line of the contract's table."""

    method: str
    path: str
    summary: str
    access: Access
    handler: Callable[[ApiDeps, ApiCall[B]], Awaitable[object]]
    body: type[B]
    answer: type
    status: int = 200
    query: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()  # parameters of the query without which the call means nothing
    keyed: bool = True  # POSTs only: takes an Idempotency-Key
    key_needed: bool = False  # without one a repeat after a lost answer would do it twice
    secret: bool = False  # the answer is not stored: a repeat with the same key is answered anew
    raw: bool = False  # the handler reads the body itself, bytes for bytes (signatures)
