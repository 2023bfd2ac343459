"""A shop with a checkout and a payment service of its own, over real sockets and processes.

Method: `live serve` is told of both; the shop's server is this test, by the calls that the how-to
shows, and its payment service is the example as a process.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import jwt
import pytest

from live.domain.caller import Role
from tests.acceptance.conftest import SECRET, Service, Stage, on_air, until
from tests.support.answers import Json
from tests.support.cluster import free_ports
from tests.support.http_provider import EXAMPLE
from tests.support.http_provider import SECRET as PROVIDER_SECRET
from tests.support.servers import scratch_directory
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(180)

PRICE = 900


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """With both, and the example of a payment service beside it, which tells its news."""
    port = free_ports(1)[0]
    found = Service(
        scratch_directory(),
        environment={
            "LIVE_CHECKOUT_URL": "https://shop.example/live?h={hold}",
            "LIVE_PROVIDER_URL": f"http://127.0.0.1:{port}",
            "LIVE_PROVIDER_SECRET": PROVIDER_SECRET,
        },
    )
    found.start()
    environment = {
        **os.environ,
        "LIVE_PROVIDER_SECRET": PROVIDER_SECRET,
        "PORT": str(port),
        "BOOKS": str(found.data / "provider.sqlite3"),
        "NEWS_URL": f"{found.url}/v1/payments/http/webhook",
    }
    example = subprocess.Popen([sys.executable, str(EXAMPLE)], env=environment)
    yield found
    example.terminate()
    example.wait(30)
    found.stop()


@pytest.fixture
async def stage(service: Service) -> AsyncIterator[Stage]:
    async with on_air(service, f"s{uuid4().hex[:10]}") as found:
        yield found


class Shop:
    """The shop's server: what it knows of a hold is what the buyer's address says, checked."""

    def __init__(self, service: Service, *, role: Role = Role.SERVICE, show: str = "*") -> None:
        headers = {"authorization": f"Bearer {service.token(role, 'shop', show)}"}
        self.http = httpx.AsyncClient(base_url=service.url, headers=headers, trust_env=False)

    def open(self, address: str) -> Json:
        (signed,) = parse_qs(urlsplit(address).query)["h"]
        found: Json = jwt.decode(signed, SECRET, algorithms=["HS256"], audience="live-checkout")
        return found

    async def call(self, method: str, claims: Json, word: str = "", **body: object) -> Json:
        path = f"/v1/holds/{claims['hold']}{word}"
        whose = {"show": claims["show"], "sub": claims["sub"]}
        answer = await self.http.request(method, path, params=whose, json=body or None)
        found: Json = answer.json()
        return found | {"http": answer.status_code}

    async def confirm(self, claims: Json, reference: str, **changes: object) -> Json:
        paid = {"amount_minor": claims["amount_minor"], "currency": claims["currency"]}
        return await self.call("POST", claims, "/confirm", reference=reference, **paid | changes)


async def sent(stage: Stage, viewer: Wire, provider: str, token: str = "") -> tuple[str, str]:
    """A buyer who is sent away: their hold, and where to."""
    held = await viewer.hold(await stage.offer(2))
    request = {"hold": held["hold"], "provider": provider, "key": str(uuid4())}
    answer = await viewer.rpc("hold.checkout", request | ({"token": token} if token else {}))
    assert answer["outcome"] == "action_required" and answer["action"]["kind"] == "redirect"
    return held["hold"], answer["action"]["value"]


async def test_shop_sells_at_its_own_checkout(service: Service, stage: Stage) -> None:
    """Reads, confirms, and has the order; the buyer hears of it, the audit agrees, and what the
    shop pays back it writes down."""
    shop = Shop(service)
    async with await stage.viewer() as viewer:
        hold, address = await sent(stage, viewer, "external")
        claims = shop.open(address)

        read = await shop.call("GET", claims)
        order = await shop.confirm(claims, "shop-1001")
        again = await shop.confirm(claims, "shop-1001")
        async with asyncio.timeout(20):
            told = await viewer.event("order.confirmed")

    assert (read["state"], read["amount_minor"], read["currency"]) == ("paying", PRICE, "USD")
    assert read["items"][0]["title"] == "Lamp" and claims["hold"] == hold
    assert (order["http"], order["hold"], order["total_minor"]) == (200, hold, PRICE)
    assert again["order"] == order["order"] == told["order"]["order"]

    async def is_paid() -> bool:
        found = await stage.http.get(f"/v1/orders/{order['order']}")
        return bool(found.json()["state"] == "paid")

    await until(is_paid)
    refund = await stage.post(f"/v1/orders/{order['order']}/refund", {"reason": "came back"})
    assert refund.status_code == 200
    done = await asyncio.to_thread(service.live, "audit", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    await shop.http.aclose()


async def test_shop_is_told_what_is_wrong(service: Service, stage: Stage) -> None:
    """Every refusal as a problem with its stable reason; nothing is sold by any of them."""
    shop, host = Shop(service), Shop(service, role=Role.HOST)
    foreign = Shop(service, show="another")
    async with await stage.viewer() as viewer:
        _, address = await sent(stage, viewer, "external")
        claims = shop.open(address)

        denied = await host.call("GET", claims)
        unseen = await foreign.call("GET", claims)
        unnamed = await shop.http.get(f"/v1/holds/{claims['hold']}?show={claims['show']}")
        nobody = await shop.call("GET", claims | {"sub": "somebody else"})
        cheap = await shop.confirm(claims, "shop-2001", amount_minor=1)
        no_body = await shop.call("POST", claims, "/confirm", reference="x")
        no_json = await shop.call("POST", claims | {"hold": "x"}, "/decline", reason="x")
        declined = await shop.call("POST", claims, "/decline", reason="card refused")
        late = await shop.confirm(claims, "shop-2001")
        async with asyncio.timeout(20):
            told = await viewer.event("payment.failed")

    assert [one["http"] for one in (denied, unseen, nobody)] == [403, 404, 404]
    assert unnamed.status_code == 400 and unnamed.json()["field"] == "sub"
    assert (cheap["http"], cheap["code"], cheap["reason"]) == (409, 1409, "another_amount")
    assert (no_body["http"], no_json["http"]) == (400, 404)
    assert declined["http"] == 200 and declined["order"] is None
    assert (late["http"], late["reason"]) == (409, "declined")
    assert told["reason"] == "declined by the shop: card refused"
    for one in (shop, host, foreign):
        await one.http.aclose()


async def test_key_of_one_hold_is_not_that_of_another(service: Service, stage: Stage) -> None:
    """A key that is used again for another person's hold is a conflict, and sells nothing."""
    shop, key = Shop(service), {"idempotency-key": str(uuid4())}
    async with await stage.viewer() as viewer:
        _, address = await sent(stage, viewer, "external")
        claims = shop.open(address)
        path = f"/v1/holds/{claims['hold']}/confirm"
        paid = {"reference": "shop-3001", "amount_minor": PRICE, "currency": "USD"}

        answers = [
            await shop.http.post(
                path, params={"show": claims["show"], "sub": sub}, json=paid, headers=key
            )
            for sub in (claims["sub"], claims["sub"], "somebody else")
        ]

    assert [one.status_code for one in answers] == [200, 200, 409]
    assert answers[0].content == answers[1].content
    await shop.http.aclose()


async def test_buyer_pays_by_the_shops_own_payments(service: Service, stage: Stage) -> None:
    """At the click; and where their bank asks them, by the service's news."""
    async with await stage.viewer() as viewer:
        held = await viewer.hold(await stage.offer(2))
        request = {"hold": held["hold"], "provider": "http", "key": str(uuid4())}
        paid = await viewer.rpc("hold.checkout", request | {"token": "tok_approve"})
        hold, address = await sent(stage, viewer, "http", "tok_action_required")
        async with httpx.AsyncClient(trust_env=False) as bank:
            assert (await bank.get(address)).status_code == 200
            assert (await bank.post(f"{address}/yes")).status_code == 200
        async with asyncio.timeout(20):
            while (await viewer.event("order.confirmed"))["order"]["hold"] != hold:
                pass

    assert paid["outcome"] == "confirmed"
    done = await asyncio.to_thread(service.live, "audit", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
