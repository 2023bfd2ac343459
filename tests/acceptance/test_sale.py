"""One sale end to end, over real sockets and processes."""

import asyncio
from uuid import uuid4

import httpx
import pytest
from centrifuge import Client, ClientEventHandler
from centrifuge.contexts import ServerPublicationContext

from live.domain.caller import Role
from tests.acceptance.conftest import Service, Stage, until

pytestmark = pytest.mark.timeout(60)


class Ears(ClientEventHandler):  # type: ignore[misc]  # the SDK has no types
    """Keeps the events of server-side channels by type."""

    def __init__(self) -> None:
        self.heard: dict[str, asyncio.Future[object]] = {}

    def expect(self, kind: str) -> asyncio.Future[object]:
        return self.heard.setdefault(kind, asyncio.get_running_loop().create_future())

    async def on_publication(self, ctx: ServerPublicationContext) -> None:
        data = ctx.pub.data
        future = self.expect(data["type"])
        if not future.done():
            future.set_result(data)


async def test_official_client_buys(service: Service, stage: Stage) -> None:
    """centrifuge-python joins, hears the offer open, holds, pays and hears order.confirmed."""
    offer = await stage.offer(3, opened=False)
    ears = Ears()
    token = service.token(Role.VIEWER, "alice", stage.show)
    client = Client(service.socket_url, events=ears, token=token, data={"show": stage.show})
    await client.connect()
    await client.ready(timeout=5)

    opened = ears.expect("offer.opened")
    await stage.post(f"/v1/offers/{offer}/open")
    async with asyncio.timeout(60):
        await opened
        key = str(uuid4())
        request = {"offer": offer, "qty": 1, "key": key}
        held = await client.rpc("offer.hold", request)
        again = await client.rpc("offer.hold", request)
        order = {"hold": key, "provider": "sandbox", "token": "tok_approve", "key": str(uuid4())}
        paid = await client.rpc("hold.checkout", order)
        confirmed = await ears.expect("order.confirmed")
    await client.disconnect()

    assert held.data["outcome"] == "held"
    assert again.data["hold"] == held.data["hold"]
    assert again.data["expires_at"] == held.data["expires_at"]
    assert paid.data["outcome"] == "confirmed"
    assert isinstance(confirmed, dict)
    assert confirmed["order"]["order"] == paid.data["order"]["order"]
    assert confirmed["order"]["total_minor"] == 900


async def test_last_unit_goes_to_one_of_many(stage: Stage) -> None:
    """Thirty buyers click at once for five units: five hold, twenty-five read sold out."""
    offer = await stage.offer(5, per_buyer_limit=1)
    viewers = await asyncio.gather(*(stage.viewer() for _ in range(30)))

    answers = await asyncio.gather(*(viewer.hold(offer) for viewer in viewers))

    outcomes = [answer["outcome"] for answer in answers]
    assert outcomes.count("held") == 5
    assert outcomes.count("sold_out") == 25
    assert (await stage.look(offer))["left"] == 0
    for viewer in viewers:
        await viewer.socket.close()


async def test_abandoned_hold_goes_to_the_waitlist(stage: Stage) -> None:
    """A hold that nobody pays expires; the first in line is granted it and pays."""
    offer = await stage.offer(1, hold_seconds=5)
    async with await stage.viewer() as first, await stage.viewer() as second:
        assert (await first.hold(offer))["outcome"] == "held"
        assert (await second.hold(offer))["outcome"] == "sold_out"
        key = str(uuid4())
        request = {"offer": offer, "qty": 1, "key": key}
        waiting = await second.rpc("waitlist.join", request)
        assert waiting == {"outcome": "waitlisted", "position": 1}

        async with asyncio.timeout(60):
            expired = await first.event("hold.expired")
            granted = await second.event("hold.granted")

        assert expired["hold"]["state"] == "expired"
        assert granted["hold"]["hold"] == key
        assert (await second.checkout(key))["outcome"] == "confirmed"
        assert (await stage.look(offer))["sold"] == 1


async def test_declined_card_keeps_the_hold(stage: Stage) -> None:
    """After a decline the same hold can be paid another way."""
    offer = await stage.offer(1)
    async with await stage.viewer() as viewer:
        held = await viewer.hold(offer)

        declined = await viewer.checkout(held["hold"], "tok_decline")
        paid = await viewer.checkout(held["hold"])

        assert declined["outcome"] == "declined"
        assert paid["outcome"] == "confirmed"


async def test_closed_offer_sells_no_more_and_gives_the_rest_back(stage: Stage) -> None:
    """Close: no new hold, live ones may finish, then the product has its units back."""
    offer = await stage.offer(4)
    async with await stage.viewer() as viewer, await stage.viewer() as late:
        held = await viewer.hold(offer)
        await stage.post(f"/v1/offers/{offer}/close")

        refused = await late.hold(offer)
        paid = await viewer.checkout(held["hold"])

        assert refused["outcome"] == "closed"
        assert paid["outcome"] == "confirmed"

    async def is_closed() -> bool:
        phase: str = (await stage.look(offer))["phase"]
        return phase == "closed"

    await until(is_closed)
    sku = (await stage.look(offer))["sku"]
    product = (await stage.http.get(f"/v1/products/{sku}")).json()
    assert (product["allotted"], product["sold"]) == (1, 1)


async def test_offer_opens_and_closes_by_the_clock(stage: Stage) -> None:
    """A countdown of one second, a duration of two: both events come by themselves."""
    offer = await stage.offer(4, opened=False, countdown_seconds=1, duration_seconds=2)
    async with await stage.viewer() as viewer:
        answer = await stage.post(f"/v1/offers/{offer}/open")
        assert answer.json()["phase"] == "scheduled"
        assert (await viewer.hold(offer))["outcome"] == "not_open"

        async with asyncio.timeout(60):
            await viewer.event("offer.opened")
            assert (await viewer.hold(offer))["outcome"] == "held"
            await viewer.event("offer.closing")

        assert (await viewer.hold(offer))["outcome"] == "closed"


async def test_reload_brings_back_what_the_buyer_has(stage: Stage) -> None:
    """A second connection of the same person sees their hold in the connect answer."""
    offer = await stage.offer(4)
    async with await stage.viewer("bob") as before:
        held = await before.hold(offer)
    async with await stage.viewer("bob") as after:
        assert [one["hold"] for one in after.hello["data"]["me"]["holds"]] == [held["hold"]]


async def test_reload_brings_back_what_was_bought(stage: Stage) -> None:
    """The connect answer holds the buyer's order, once it has been told, and nobody else's."""
    offer = await stage.offer(4)
    async with await stage.viewer("cid") as before:
        key = (await before.hold(offer))["hold"]
        paid = await before.checkout(key)
        async with asyncio.timeout(60):
            confirmed = await before.event("order.confirmed")
    async with await stage.viewer("cid") as after, await stage.viewer("dot") as stranger:
        me = after.hello["data"]["me"]
        assert me["orders"] == [confirmed["order"]]
        assert (me["orders"][0]["order"], me["holds"]) == (paid["order"]["order"], [])
        assert stranger.hello["data"]["me"]["orders"] == []


async def test_show_state_is_the_snapshot_of_the_connect(stage: Stage) -> None:
    """The show with its offers, what the buyer has in it, and the time: as a connect answers."""
    offer = await stage.offer(4)
    async with await stage.viewer("eva") as before:
        held = await before.hold(offer)
    async with await stage.viewer("eva") as after:
        joined = after.hello["data"]
        again = await after.rpc("show.state", {"show": stage.show})

    assert again.keys() == joined.keys() == {"show", "me", "time", "providers"}
    assert (again["show"], again["me"]) == (joined["show"], joined["me"])
    assert [one["hold"] for one in again["me"]["holds"]] == [held["hold"]]
    assert again["time"] >= joined["time"]


async def test_chat_reaches_everybody(stage: Stage) -> None:
    """A line is heard by its writer and by the others, markup and all."""
    async with await stage.viewer() as writer, await stage.viewer() as reader:
        data = {"text": "<script>alert(1)</script>"}
        reply = await writer.ask({"publish": {"channel": f"chat:{stage.show}", "data": data}})

        assert "error" not in reply, reply
        async with asyncio.timeout(60):
            heard = await reader.event("chat.message")
        assert heard["text"] == data["text"]


async def test_ops_endpoints_answer(service: Service, stage: Stage) -> None:
    """Health, readiness, metrics, the API's own documents and the pages are there."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=60) as http:
        paths = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/")
        for path in (*paths, "/console", f"/watch/{stage.show}"):
            answer = await http.get(path)
            assert answer.status_code == 200, (path, answer.text)
        assert "live_" in (await http.get("/metrics")).text
        assert (await http.get("/watch/nowhere")).status_code == 404
