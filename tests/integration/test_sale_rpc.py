"""RPC methods on real engines: what a client sends is what a client gets."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from uuid import uuid4

import orjson
import pytest

from live.api.join import Snapshot
from live.api.rpc.methods import REACTIONS_BURST, SaleRpc
from live.base.errors import BadField, Busy, Conflict, Denied, NotFound
from live.base.settings import Guests
from live.buying.forgotten import OldPurchases
from live.buying.hold import HoldDesk
from live.buying.me import Me, MeView
from live.buying.waitlist import Waitlist
from live.connection.rpc import failure_of
from live.domain.caller import Caller
from live.domain.ids import BuyerId, ShowId
from live.domain.offer import Mode
from live.domain.order import OrderView
from live.hosting.views import view_show
from live.ledger.db.pool import DATABASE_ERRORS, Pool
from live.ledger.orders.withdraw import WithdrawalRows
from live.ledger.settle.waitlist import WaitlistRows
from tests.support.answers import Json
from tests.support.ledger_kit import PRICE
from tests.support.sale_kit import Sale, open_sale, viewer
from tests.support.sandbox import SandboxServer
from tests.support.show_states import make_state


@dataclass
class Call:
    """An RpcCall that keeps its answer."""

    caller: Caller
    show: ShowId | None
    data: bytes
    connection: str = "one"
    address: str | None = None
    answer: asyncio.Future[Json] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def reply(self, answer: object) -> None:
        raw = answer if isinstance(answer, bytes) else orjson.dumps(answer)
        self.answer.set_result(json.loads(raw))

    def fail(self, error: Exception) -> None:
        self.answer.set_exception(error)


async def no_past(show: ShowId, buyer: BuyerId) -> tuple[OrderView, ...]:
    return ()


class NoLogs:
    """Nothing was published to anybody yet."""

    async def read_personal(self, show: ShowId, buyer: BuyerId) -> list[bytes]:
        return []


@dataclass
class Shows:
    """Show views and reactions, which belong to other rooms."""

    reactions: list[tuple[ShowId, str]] = field(default_factory=list)

    async def state(self, caller: Caller, show: ShowId, *, joined: bool) -> Snapshot:
        if show == "nowhere":
            raise NotFound("unknown show nowhere")
        view = view_show(make_state(show, version=1), {}, drafts=False)
        return Snapshot(show=view, me=MeView(), time=1)

    def add(self, show: ShowId, kind: str) -> None:
        self.reactions.append((show, kind))


@dataclass
class Client:
    """Calls methods the way a connection does."""

    sale: Sale
    rpc: SaleRpc
    shows: Shows

    async def call(
        self,
        caller: Caller,
        method: str,
        data: Json | bytes,
        *,
        joined: bool = True,
        connection: str = "one",
        address: str | None = None,
    ) -> Json:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        call = Call(caller, self.sale.show if joined else None, raw, connection, address)
        waiting = self.rpc.handlers()[method](call)
        if waiting is None:
            return await asyncio.wait_for(call.answer, 60)
        call.reply(await waiting)
        return call.answer.result()


def make_client(sale: Sale, *, guests: Guests = Guests.WATCH) -> Client:
    shows = Shows()
    desk = HoldDesk(sale.stock, sale.book, OldPurchases(sale.orders), guests=guests)
    rpc = SaleRpc(
        desk=desk,
        checkout=sale.checkout,
        quotes=sale.quotes,
        waitlist=Waitlist(sale.stock, WaitlistRows(sale.pool), sale.book, desk),
        orders=sale.orders,
        withdrawals=WithdrawalRows(sale.pool, days=14),
        shows=shows,
        reactions=shows,
    )
    return Client(sale, rpc, shows)


@pytest.fixture
async def sale(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> AsyncIterator[Sale]:
    async with open_sale(pool, redis_url, server, show, units=(3, 2)) as sale:
        yield sale


@pytest.fixture
async def client(sale: Sale) -> Client:
    return make_client(sale)


def uuid() -> str:
    return str(uuid4())


async def test_hold_answers_with_the_contracts_object(client: Client) -> None:
    """Every field of the contract, and no other."""
    offer, key = client.sale.offers[0], uuid()
    answer = await client.call(viewer(), "offer.hold", {"offer": offer, "qty": 2, "key": key})
    assert answer.pop("expires_at") > 1_700_000_000_000
    assert answer == {
        "outcome": "held",
        "hold": key,
        "offer": offer,
        "qty": 2,
        "price_minor": PRICE,
        "currency": "EUR",
        "left": 1,
    }


async def test_hold_repeated_gets_its_first_answer(client: Client) -> None:
    """The same key holds once; the deadline is the first one."""
    ada, request = viewer(), {"offer": client.sale.offers[0], "qty": 1, "key": uuid()}
    first = await client.call(ada, "offer.hold", request)
    again = await client.call(ada, "offer.hold", request)
    assert again["expires_at"] == first["expires_at"]
    assert (await client.sale.figures()).held == 1


async def test_hold_with_a_used_key_is_a_conflict(client: Client) -> None:
    """The same key for another quantity is error 1409."""
    ada, request = viewer(), {"offer": client.sale.offers[0], "qty": 1, "key": uuid()}
    await client.call(ada, "offer.hold", request)
    with pytest.raises(Conflict):
        await client.call(ada, "offer.hold", request | {"qty": 2})


async def test_refusal_names_offer_and_rest(client: Client) -> None:
    """`sold_out` says how many are left and whether there is a waitlist."""
    offer = client.sale.offers[0]
    await client.call(viewer(), "offer.hold", {"offer": offer, "qty": 2, "key": uuid()})
    answer = await client.call(viewer(), "offer.hold", {"offer": offer, "qty": 2, "key": uuid()})
    assert answer == {"outcome": "sold_out", "offer": offer, "left": 1, "waitlist": True}


async def test_cart_is_held_whole_or_not_at_all(client: Client) -> None:
    """Two offers at once; when one cannot, the refusal names it and nothing is held."""
    first, second = client.sale.offers
    cart = [{"offer": first, "qty": 1}, {"offer": second, "qty": 2}]
    held = await client.call(viewer(), "offer.hold", {"items": cart, "key": uuid()})
    refused = await client.call(viewer(), "offer.hold", {"items": cart, "key": uuid()})
    assert held["outcome"] == "held"
    assert [item["offer"] for item in held["items"]] == [first, second]
    assert held["currency"] == "EUR"
    assert (refused["outcome"], refused["offer"]) == ("sold_out", second)
    assert (await client.sale.figures(0)).held == 1


async def test_unknown_offer_is_not_found(client: Client) -> None:
    """An offer of another show, or of none, is 1404."""
    with pytest.raises(NotFound):
        await client.call(viewer(), "offer.hold", {"offer": "nothing", "qty": 1, "key": uuid()})


async def test_bad_field_is_named_before_anything_happens(client: Client) -> None:
    """Error 1400 of the hot path and of a task, with the field first."""
    offer = client.sale.offers[0]
    with pytest.raises(BadField, match=r"^qty: "):
        await client.call(viewer(), "offer.hold", {"offer": offer, "qty": 0, "key": uuid()})
    with pytest.raises(BadField, match=r"^hold: "):
        await client.call(viewer(), "hold.release", {})


async def test_nameless_viewer_may_not_buy(client: Client) -> None:
    """Somebody without a sub watches: error 103 for everything that buys."""
    nobody = replace(viewer(), sub="", buyer=None)
    offer = client.sale.offers[0]
    requests: dict[str, Json] = {
        "offer.hold": {"offer": offer, "qty": 1, "key": uuid()},
        "hold.release": {"hold": uuid()},
        "hold.checkout": {"hold": uuid(), "provider": "invoice", "key": uuid()},
        "order.get": {"hold": uuid()},
        "order.withdraw": {"order": uuid(), "confirm": False},
        "waitlist.join": {"offer": offer, "qty": 1, "key": uuid()},
        "waitlist.leave": {"offer": offer},
    }
    for method, request in requests.items():
        with pytest.raises(Denied):
            await client.call(nobody, method, request)


@pytest.mark.parametrize(
    ("guests", "offer_allows", "may"),
    [
        (Guests.BUY, True, True),
        (Guests.BUY, False, False),
        (Guests.WATCH, True, False),
        (Guests.OFF, True, False),
    ],
)
async def test_guest_buys_where_both_allow_it(
    sale: Sale, guests: Guests, offer_allows: bool, may: bool
) -> None:
    """The setting and the offer must both say yes; a token of the shop is always enough."""
    offers = sale.book.of(sale.show)
    terms = offers.named(sale.offers[0])
    offers.by_id[terms.id] = replace(terms, guests=offer_allows)
    client = make_client(sale, guests=guests)
    request = {"offer": terms.id, "qty": 1, "key": uuid()}
    if may:
        assert (await client.call(viewer(guest=True), "offer.hold", request))["outcome"] == "held"
    else:
        with pytest.raises(Denied):
            await client.call(viewer(guest=True), "offer.hold", request)
    own = await client.call(viewer(), "offer.hold", request | {"key": uuid()})
    assert own["outcome"] == "held"


async def test_release_gives_back_once(client: Client) -> None:
    """Released, then already released; another's hold is not found."""
    ada, key = viewer(), uuid()
    offer = client.sale.offers[0]
    await client.call(ada, "offer.hold", {"offer": offer, "qty": 1, "key": key})
    with pytest.raises(NotFound):
        await client.call(viewer(), "hold.release", {"hold": key})
    first = await client.call(ada, "hold.release", {"hold": key})
    again = await client.call(ada, "hold.release", {"hold": key})
    assert [first, again] == [{"outcome": "released"}, {"outcome": "already_released"}]
    assert (await client.sale.figures()).left == 3


async def test_checkout_and_order_get_agree(client: Client) -> None:
    """The order in the answer is the order that both kinds of `order.get` find, for its buyer."""
    ada, key = viewer(), uuid()
    offer = client.sale.offers[0]
    await client.call(ada, "offer.hold", {"offer": offer, "qty": 1, "key": key})
    paid = await client.call(
        ada,
        "hold.checkout",
        {
            "hold": key,
            "provider": "sandbox",
            "token": "tok_approve",
            "contact": {"name": "Ada", "email": "ada@shop.example"},
            "key": uuid(),
        },
    )
    order = paid["order"]
    assert set(paid) == {"outcome", "hold", "order"}
    assert await client.call(ada, "order.get", {"order": order["order"]}) == order
    assert await client.call(ada, "order.get", {"hold": key}) == order
    for name in ({"order": order["order"]}, {"hold": key}):
        with pytest.raises(NotFound):
            await client.call(viewer(), "order.get", name)
    contact = await client.sale.pool.fetchval("SELECT contact->>'name' FROM payments")
    assert contact == "Ada"
    assert "Ada" not in json.dumps([event for _, _, event in client.sale.told.events])


async def test_buyer_withdraws_in_two_steps(client: Client) -> None:
    """First it is said, then done; never for another's order, and never by half a request."""
    ada, key = viewer(), uuid()
    offer = client.sale.offers[0]
    await client.call(ada, "offer.hold", {"offer": offer, "qty": 1, "key": key})
    pay = {"hold": key, "provider": "sandbox", "token": "tok_approve", "key": uuid()}
    order = (await client.call(ada, "hold.checkout", pay))["order"]["order"]

    said = await client.call(ada, "order.withdraw", {"order": order, "confirm": False})
    assert (said["order"]["withdrawn_at"], said["order"]["state"]) == (None, "confirmed")
    with pytest.raises(NotFound):
        await client.call(viewer(), "order.withdraw", {"order": order, "confirm": True})
    for half, missing in (({"order": order}, "confirm"), ({"confirm": True}, "order")):
        with pytest.raises(BadField, match=rf"^{missing}: "):
            await client.call(ada, "order.withdraw", half)
    with pytest.raises(BadField, match=r"^confirm: "):
        await client.call(ada, "order.withdraw", {"order": order, "confirm": 1})

    done = await client.call(ada, "order.withdraw", {"order": order, "confirm": True})
    assert done["statement"] == said["statement"] == done["order"]["withdrawal_statement"]
    assert (done["order"]["state"], done["order"]["withdrawn_at"] is None) == ("cancelled", False)
    assert await client.call(ada, "order.get", {"order": order}) == done["order"]


async def test_waitlist_keeps_places_and_grants_in_order(client: Client) -> None:
    """Who comes too late waits; the place is told again on repeat, and units come to them."""
    offer, first, late = client.sale.offers[1], viewer(), viewer()
    key, place = uuid(), uuid()
    await client.call(first, "offer.hold", {"offer": offer, "qty": 2, "key": key})
    joined = await client.call(late, "waitlist.join", {"offer": offer, "qty": 1, "key": place})
    again = await client.call(late, "waitlist.join", {"offer": offer, "qty": 1, "key": place})
    mine = Me(client.sale.stock, client.sale.book, NoLogs(), no_past)
    me = await mine.view(late, client.sale.show)
    await client.call(first, "hold.release", {"hold": key})
    assert late.buyer is not None
    granted = await client.sale.told.wait_for(late.buyer, "hold.granted")

    assert joined == again == {"outcome": "waitlisted", "position": 1}
    assert [(place.offer, place.position) for place in me.waitlist] == [(offer, 1)]
    assert granted["hold"]["hold"] == place
    assert await client.sale.pool.fetchval("SELECT sub FROM waitlist") == late.sub
    after = await mine.view(late, client.sale.show)
    assert [hold.hold for hold in after.holds] == [place]


async def test_place_in_line_moves_up_without_asking_postgres(client: Client) -> None:
    """Pages ask again all the time: the repeat tells the place as it is now, from Redis alone."""
    offer, holder, ahead, behind = client.sale.offers[1], viewer(), viewer(), viewer()
    await client.call(holder, "offer.hold", {"offer": offer, "qty": 2, "key": uuid()})
    await client.call(ahead, "waitlist.join", {"offer": offer, "qty": 1, "key": uuid()})
    request = {"offer": offer, "qty": 1, "key": uuid()}
    before = await client.call(behind, "waitlist.join", request)
    await client.call(ahead, "waitlist.leave", {"offer": offer})
    await client.sale.pool.execute("DELETE FROM waitlist")
    after = await client.call(behind, "waitlist.join", request)

    assert (before["position"], after["position"]) == (2, 1)
    assert await client.sale.pool.fetchval("SELECT count(*) FROM waitlist") == 0


async def test_waitlist_is_left_and_may_be_left_twice(client: Client) -> None:
    """Leaving frees the place; leaving again changes nothing."""
    offer, late = client.sale.offers[1], viewer()
    await client.call(viewer(), "offer.hold", {"offer": offer, "qty": 2, "key": uuid()})
    await client.call(late, "waitlist.join", {"offer": offer, "qty": 1, "key": uuid()})
    for _ in range(2):
        await client.call(late, "waitlist.leave", {"offer": offer})
    assert (await client.sale.stock.figures(client.sale.show)).waiting[1] == 0


async def test_waitlist_join_of_a_free_offer_holds_at_once(client: Client) -> None:
    """Nobody waits for what is there."""
    offer = client.sale.offers[0]
    answer = await client.call(viewer(), "waitlist.join", {"offer": offer, "qty": 1, "key": uuid()})
    assert answer["outcome"] == "held"


async def test_show_of_another_token_is_not_found(client: Client) -> None:
    """A show that the token does not cover looks like one that is not there."""
    stranger = replace(viewer(), shows=frozenset({"elsewhere"}))
    for method, request in (
        ("show.state", {"show": client.sale.show}),
        ("react", {"show": client.sale.show, "kind": "heart"}),
    ):
        with pytest.raises(NotFound):
            await client.call(stranger, method, request)
    assert client.shows.reactions == []


async def test_connection_without_a_show_has_no_offers(client: Client) -> None:
    """Before joining, every offer and hold is unknown."""
    request = {"offer": client.sale.offers[0], "qty": 1, "key": uuid()}
    with pytest.raises(NotFound):
        await client.call(viewer(), "offer.hold", request, joined=False)


async def test_small_methods_answer(client: Client) -> None:
    """`time.now`, `show.state` and `react`."""
    assert (await client.call(viewer(), "time.now", b""))["time"] > 1_700_000_000_000
    state = await client.call(viewer(), "show.state", {"show": client.sale.show})
    assert (state["show"]["id"], state["show"]["version"]) == (client.sale.show, 1)
    assert await client.call(viewer(), "react", {"show": client.sale.show, "kind": "fire"}) == {}
    assert client.shows.reactions == [(client.sale.show, "fire")]


async def test_reaction_to_an_unknown_show_is_not_counted(client: Client) -> None:
    """1404, and no counter that would stay for ever."""
    with pytest.raises(NotFound):
        await client.call(viewer(), "react", {"show": "nowhere", "kind": "heart"})
    assert client.shows.reactions == []


async def test_reactions_of_one_connection_are_bounded(client: Client) -> None:
    """A script's hearts are refused as too many; the others' go on, and only known kinds count."""
    request = {"show": client.sale.show, "kind": "heart"}
    for _ in range(REACTIONS_BURST):
        await client.call(viewer(), "react", request)
    with pytest.raises(Busy):
        for _ in range(REACTIONS_BURST):  # some may have been earned back meanwhile
            await client.call(viewer(), "react", request)
    assert REACTIONS_BURST <= len(client.shows.reactions) < 2 * REACTIONS_BURST
    await client.call(viewer(), "react", request, connection="another")
    with pytest.raises(BadField):
        await client.call(viewer(), "react", request | {"kind": "skull"}, connection="third")


async def test_broken_engine_is_told_as_busy(client: Client) -> None:
    """What breaks inside is logged, and the client hears 111: repeat."""
    await client.sale.pool.close()
    with pytest.raises(DATABASE_ERRORS) as caught:
        await client.call(viewer(), "order.get", {"hold": uuid()})
    failure = failure_of(caught.value)
    assert failure.code == 111
    assert "pool" not in failure.message


async def test_first_paid_offer_is_not_held(
    pool: Pool, redis_url: str, server: SandboxServer, show: ShowId
) -> None:
    """An offer sold to whoever paid first cannot be held, nor a hold offer be bought directly."""
    async with open_sale(pool, redis_url, server, show, mode=Mode.FIRST_PAID) as sale:
        client = make_client(sale)
        offer = sale.offers[0]
        with pytest.raises(Conflict):
            await client.call(viewer(), "offer.hold", {"offer": offer, "qty": 1, "key": uuid()})
        bought = await client.call(
            viewer(),
            "hold.checkout",
            {"offer": offer, "qty": 1, "provider": "sandbox", "token": "tok_approve"}
            | {"key": uuid()},
        )
        assert bought["outcome"] == "confirmed"


async def test_hold_offer_is_not_bought_directly(client: Client) -> None:
    """The other way round: without its hold there is no checkout."""
    request = {"offer": client.sale.offers[0], "qty": 1, "provider": "sandbox", "key": uuid()}
    with pytest.raises(BadField, match=r"^hold: "):
        await client.call(viewer(), "hold.checkout", request)
