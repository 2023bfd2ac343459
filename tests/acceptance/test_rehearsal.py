"""A rehearsal on a whole service: everything can be tried, and afterwards nothing has happened."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from live.domain.caller import Role
from tests.acceptance.conftest import Service, Stage, until
from tests.support.answers import Json
from tests.support.wire import Wire, dial

pytestmark = pytest.mark.timeout(90)

PASSCODE = "break a leg"


@pytest.fixture
async def rehearsal(service: Service, stage: Stage) -> AsyncIterator[Stage]:
    """A scheduled show with a passcode, called by its host."""
    stage.show = f"s{uuid4().hex[:10]}"
    made = await stage.post("/v1/shows", {"id": stage.show, "title": "Soon", "currency": "USD"})
    assert made.status_code == 201
    path = f"/v1/shows/{stage.show}"
    patched = await stage.http.patch(path, json={"rehearsal_passcode": PASSCODE})
    assert patched.status_code == 200
    yield stage


async def rehearse(stage: Stage) -> httpx.Response:
    return await stage.post(f"/v1/shows/{stage.show}/start", {"rehearsal": True})


async def enter(
    stage: Stage, sub: str, *, passcode: str | None = None, role: Role = Role.VIEWER
) -> tuple[Wire, Json]:
    """Connect; the connection and its reply, which may be an error."""
    data = {"show": stage.show} | ({} if passcode is None else {"passcode": passcode})
    wire = await dial(stage.service.socket_url)
    token = stage.service.token(role, sub, stage.show)
    return wire, await wire.ask({"connect": {"token": token, "data": data}})


async def test_only_who_knows_the_passcode_gets_in(rehearsal: Stage) -> None:
    """Without it, with a wrong one, by way of a channel, HTTP or the page: nothing is told."""
    stage = rehearsal
    waiting, reply = await enter(stage, "early")
    assert "error" not in reply
    offer = await stage.offer(2, opened=False)
    assert (await rehearse(stage)).json()["status"] == "rehearsal"

    async with asyncio.timeout(60):
        code, _ = await waiting.closed()
    assert code == 3010
    for passcode in (None, "", "wrong"):
        wire, reply = await enter(stage, "ada", passcode=passcode)
        error = reply["error"]
        assert (error["code"], error["temporary"]) == (1403, True), passcode
        assert 3000 <= (await wire.closed())[0] < 3500, "SDKs come back when it is over"
    wire = await dial(stage.service.socket_url)
    token = stage.service.token(Role.VIEWER, "eve", stage.show)
    assert "error" not in await wire.ask({"connect": {"token": token}})
    for kind in ("show", "chat", "pulse"):
        reply = await wire.ask({"subscribe": {"channel": f"{kind}:{stage.show}"}})
        assert reply["error"]["code"] == 103
    seen = await wire.rpc("show.state", {"show": stage.show})
    assert seen["error"]["code"] == 103
    said = await wire.ask({"publish": {"channel": f"chat:{stage.show}", "data": {"text": "hi"}}})
    assert said["error"]["code"] == 103
    viewer = {"Authorization": f"Bearer {token}"}
    assert (await stage.http.get(f"/v1/shows/{stage.show}", headers=viewer)).status_code == 403
    page = await stage.http.get(f"/watch/{stage.show}")
    assert "Soon" not in page.text

    assert (await stage.post(f"/v1/offers/{offer}/open")).status_code == 200
    inside, reply = await enter(stage, "bob", passcode=PASSCODE)
    show = reply["connect"]["data"]["show"]
    assert (show["status"], [one["id"] for one in show["offers"]]) == ("rehearsal", [offer])
    moderator, reply = await enter(stage, "mo", role=Role.MODERATOR)
    assert "error" not in reply
    for one in (wire, inside, moderator):
        await one.socket.close()


async def test_nothing_of_a_rehearsal_stays(rehearsal: Stage) -> None:
    """Bought, held, waited for and closed; then the show sells all of it, to whoever is first."""
    stage = rehearsal
    offer, shut = await stage.offer(1, opened=False), await stage.offer(3, opened=False)
    sku = (await stage.look(offer))["sku"]
    product = (await stage.http.get(f"/v1/products/{sku}")).json()
    assert (await rehearse(stage)).status_code == 200
    for one in (offer, shut):
        assert (await stage.post(f"/v1/offers/{one}/open")).status_code == 200
    buyer, _ = await enter(stage, "bob", passcode=PASSCODE)
    other, _ = await enter(stage, "ann", passcode=PASSCODE)

    paid = await rehearse_purchase(buyer, offer)
    assert paid["order"]["total_minor"] == 900
    assert (await stage.http.get(f"/v1/orders/{paid['order']['order']}")).status_code == 404
    kept = await buyer.hold(offer)
    assert kept["outcome"] == "held"
    waiting = await other.rpc("waitlist.join", {"offer": offer, "qty": 1, "key": str(uuid4())})
    assert waiting["outcome"] == "waitlisted"
    await stage.post(f"/v1/offers/{shut}/close")
    assert await report(stage) == (0, 0, 0)

    ended = await stage.post(f"/v1/shows/{stage.show}/end")
    assert ended.json()["status"] == "scheduled"
    assert {one["phase"] for one in ended.json()["offers"]} == {"draft"}
    assert (await stage.http.get(f"/v1/products/{sku}")).json() == product
    assert (await stage.post(f"/v1/shows/{stage.show}/start")).json()["status"] == "live"
    opened = await stage.post(f"/v1/offers/{offer}/open")
    assert opened.status_code == 200, opened.text
    assert (opened.json()["left"], opened.json()["held"]) == (1, 0)
    late = await buyer.checkout(kept["hold"])
    assert late.get("outcome") != "confirmed", late
    async with await stage.viewer("zoe") as first:
        held = await first.hold(offer)
        assert held["outcome"] == "held"
        bought = await first.checkout(held["hold"])
        assert bought["outcome"] == "confirmed", bought
    assert await report(stage) == (1, 1, 900)
    for wire in (buyer, other):
        await wire.socket.close()

    async def audited() -> bool:
        found = stage.service.live("audit", "--json")
        return found.returncode == 0 and json.loads(found.stdout)["ok"] is True

    await until(audited, seconds=45)  # each look starts a process of its own


async def test_show_that_has_sold_is_not_rehearsed(rehearsal: Stage) -> None:
    """Nor one without a passcode, nor one on air: none of it could be undone."""
    stage = rehearsal
    path = f"/v1/shows/{stage.show}"
    await stage.http.patch(path, json={"rehearsal_passcode": ""})
    assert (await rehearse(stage)).status_code == 409
    await stage.http.patch(path, json={"rehearsal_passcode": PASSCODE})
    await stage.offer(1)
    assert (await rehearse(stage)).status_code == 409
    assert (await stage.post(f"{path}/start")).status_code == 200
    assert (await rehearse(stage)).status_code == 409


async def rehearse_purchase(buyer: Wire, offer: str) -> Json:
    """Hold and pay; the repeat of the checkout gets the same order."""
    held = await buyer.hold(offer)
    assert held["outcome"] == "held"
    paid, again = [await buyer.checkout(held["hold"]) for _ in range(2)]
    assert (paid["outcome"], paid["reason"]) == ("confirmed", "rehearsal: nothing was sold")
    assert paid["order"]["order"] == again["order"]["order"]
    return paid


async def report(stage: Stage) -> tuple[int, int, int]:
    found = (await stage.http.get(f"/v1/shows/{stage.show}/report")).json()
    return found["holds"], found["orders"], found["revenue_minor"]
