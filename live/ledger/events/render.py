"""What an event tells: `data`, rendered once, whole and absolute.

Always: the object as the API gives it, as it is when the event gets its position - never older
than the event - with the members of `detail` beside its own; no contact; DATA_BYTES_MAX at most.
Called by: the sequencer.
Not here: what becomes an event (migrations 0038 and after).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import orjson
import structlog

from live.base.errors import NotFound
from live.base.faults import tell_fault
from live.domain.ids import ShowId
from live.domain.outgoing.webhooks import DATA_BYTES_MAX
from live.ledger.db.pool import Pool
from live.ledger.hosting.catalogue import Catalogue
from live.ledger.hosting.show_command import read_show
from live.ledger.orders.orders import OrderRows

log = structlog.get_logger()

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event that has no position yet; `detail` are members of its data, {} for none."""

    id: int
    type: str
    show: str
    subject: str
    detail: Json

    @property
    def about(self) -> tuple[str, str]:
        """Which kind of object it tells of, and its id."""
        if self.type == "payment.failed":
            return "payment", str(self.detail.get("payment"))
        if self.type == "waitlist.granted":
            return "", ""  # a place in a line is no object of the API: its detail is all
        kind, _, name = self.subject.partition(":")
        return kind, name


class Renderer:
    """Reads the objects of many events at once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._orders = OrderRows(pool)
        self._catalogue = Catalogue(pool)
        self._readers: Mapping[str, Callable[[Sequence[str]], Awaitable[dict[str, Json]]]] = {
            "order": self._read_orders,
            "offer": self._read_offers,
            "show": self._read_shows,
            "product": self._read_products,
            "payment": self._read_payments,
        }

    async def render(self, events: Sequence[EventRow]) -> list[bytes]:
        """The data of each, in their order. Raises DATABASE_ERRORS."""
        wanted: dict[str, set[str]] = {}
        for event in events:
            kind, name = event.about
            wanted.setdefault(kind, set()).add(name)
        found: dict[tuple[str, str], Json] = {}
        for kind, names in wanted.items():
            if kind in self._readers:
                objects = await self._readers[kind](sorted(names))
                found |= {(kind, name): one for name, one in objects.items()}
        return [_data(event, found.get(event.about, {})) for event in events]

    async def _read_orders(self, names: Sequence[str]) -> dict[str, Json]:
        rows = await self._orders.views([UUID(name) for name in names])
        return {name: orjson.loads(orjson.dumps(row.view)) for name, row in rows.items()}

    async def _read_offers(self, names: Sequence[str]) -> dict[str, Json]:
        rows = await self._pool.fetch(_OFFERS, names)
        return {row["id"]: dict(row) for row in rows}

    async def _read_shows(self, names: Sequence[str]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for name in names:
            try:
                state = await read_show(self._pool, ShowId(name))
            except NotFound:  # no show is ever deleted; but an event must not stop the others
                tell_fault("events.unknown_show", NotFound(name), show=name)
                continue
            whole = asdict(state)
            found[name] = {key: whole[key] for key in _OF_SHOW}
        return found

    async def _read_products(self, names: Sequence[str]) -> dict[str, Json]:
        return {view.sku: asdict(view) for view in await self._catalogue.views(names)}

    async def _read_payments(self, names: Sequence[str]) -> dict[str, Json]:
        rows = await self._pool.fetch(_PAYMENTS, [UUID(name) for name in names])
        return {row["payment"]: dict(row) for row in rows}


def _data(event: EventRow, known: Json) -> bytes:
    """`known` with the event's own members, shortened where that is too long."""
    whole = known | event.detail
    if not known and not event.detail:
        log.error("events.without_object", id=event.id, type=event.type, subject=event.subject)
        kind, name = event.about
        whole = {kind: name}
    return shorten(whole)


def shorten(whole: Json) -> bytes:
    """As JSON of DATA_BYTES_MAX at most: the longest members are left out until it fits, and
    `shortened` names them. Ids are short, so they stay."""
    text = orjson.dumps(whole)
    left_out: list[str] = []
    while len(text) > DATA_BYTES_MAX:
        rest = {key: value for key, value in whole.items() if key != "shortened"}
        longest = max(rest, key=lambda key: len(orjson.dumps(rest[key])))
        del rest[longest]
        left_out.append(longest)
        whole = rest | {"shortened": sorted(left_out)}
        text = orjson.dumps(whole)
    return text


_OF_SHOW = (
    *("id", "title", "status", "language", "currency", "playback_url", "pins", "run_order"),
    *("announcement", "paid_partnership", "slow_mode_seconds", "version", "frozen", "starts_at"),
    "providers",
)
"""The `show` object without its offers, which have events of their own."""

# Without `left` and `held`, which Redis alone knows.
_OFFERS = """
SELECT id, show, sku, title, image_url, price_minor, currency, mode, phase, quantity, allotted,
       sold, per_buyer_limit, hold_seconds, waitlist, guests,
       floor(extract(epoch FROM opens_at) * 1000)::bigint AS opens_at,
       floor(extract(epoch FROM closes_at) * 1000)::bigint AS closes_at, version,
       phase IN ('open', 'paused') AND (sold >= allotted OR sold_out) AS sold_out, providers
FROM offers WHERE id = ANY($1)"""

# Never its token, and nothing of what the provider's page has.
_PAYMENTS = """
SELECT id::text AS payment, order_id::text AS "order", hold::text AS hold, show, sub, amount_minor,
       currency, provider
FROM payments WHERE id = ANY($1::uuid[])"""
