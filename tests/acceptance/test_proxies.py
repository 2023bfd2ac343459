"""The configurations of examples/proxies/, each with the real proxy in front of a real gateway.

Method: the file as it stands but for ports and certificate; clients speak TLS to it, from loopback
and from another address of this machine, which a gateway counts as a client's.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from live.api.http.deps import GUESTS_BURST
from live.domain.caller import Role
from tests.acceptance.conftest import Service, begin, last_word, on_air
from tests.support import proxies
from tests.support.proxies import NAME, Proxy
from tests.support.servers import scratch_directory
from tests.support.wire import Wire

PER_ADDRESS = 3
SHOW = "proxied"
ELSEWHERE = proxies.address_elsewhere()

pytestmark = pytest.mark.timeout(180)
needs_address = pytest.mark.skipif(
    ELSEWHERE is None, reason="this machine has no address but loopback's"
)


@dataclass
class Front:
    """A proxy and the service behind it."""

    service: Service
    proxy: Proxy

    def http(self, address: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(verify=self.proxy.context, local_address=address)
        return httpx.AsyncClient(
            base_url=self.proxy.url,
            headers={"Host": NAME, **headers},
            transport=transport,
            timeout=10,
        )

    async def dial(self, address: str = "127.0.0.1", **headers: str) -> Wire:
        """A socket through the proxy, as a page of its own name opens it."""
        return Wire(
            await connect(
                f"wss://{NAME}/connection/websocket",
                host="127.0.0.1",
                port=self.proxy.port,
                local_addr=(address, 0),
                origin=Origin(f"https://{NAME}"),
                ssl=self.proxy.context,
                additional_headers=headers,
                compression=None,
                proxy=None,
            )
        )

    async def join(self, **headers: str) -> Wire:
        wire = await self.dial(**headers)
        token = self.service.token(Role.VIEWER, f"v{uuid4().hex[:8]}", SHOW)
        reply = await wire.ask({"connect": {"token": token, "data": {"show": SHOW}}})
        assert "connect" in reply, reply
        return wire


SNI: Any = {"extensions": {"sni_hostname": NAME}}  # keywords of httpx, which have types each


def start(kind: str) -> Front:
    if proxies.find(kind) is None:
        pytest.skip(f"{kind} is not installed: examples/proxies/ was not tried with it here")
    own = {
        "LIVE_TRUSTED_PROXIES": "127.0.0.1",
        "LIVE_ALLOWED_HOSTS": NAME,
        "LIVE_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
    }
    service = Service(scratch_directory(), environment=own)
    service.start()
    folder: Path = scratch_directory()
    try:
        return Front(service, proxies.start(kind, folder, service.port))
    except BaseException:
        service.stop()
        raise


@pytest.fixture(scope="module", params=["nginx", "haproxy", "caddy"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    found = start(request.param)
    yield found
    found.proxy.stop()
    found.service.stop()


@asynccontextmanager
async def stream(front: Front, client: httpx.AsyncClient) -> AsyncIterator[AsyncIterator[str]]:
    asked = {"cf_connect": json.dumps({"data": {"show": SHOW}})}
    async with client.stream("GET", "/connection/uni_sse", params=asked, **SNI) as answer:
        assert answer.status_code == 200
        yield answer.aiter_lines()


async def event(lines: AsyncIterator[str]) -> dict[str, object]:
    """The next event that says something."""
    async with asyncio.timeout(60):
        async for line in lines:
            if line.startswith('data: {"'):
                found: dict[str, object] = json.loads(line[6:])
                return found
    raise AssertionError("the stream ended")


async def test_sale_through_the_proxy(front: Front) -> None:
    """Join, hear an offer on the socket and on an event stream at once, hold, pay."""
    async with on_air(front.service, SHOW) as stage, front.http() as http:
        async with stream(front, http) as lines, await front.join() as wire:
            assert "connect" in await event(lines)
            offer = await stage.offer(2)
            opened = await asyncio.wait_for(wire.event("offer.opened"), 60)
            assert opened["offer"]["id"] == offer
            while True:
                told = await event(lines)
                publication = told.get("pub")
                if isinstance(publication, dict) and "offer" in publication["data"]:
                    assert publication["data"]["offer"]["id"] == offer
                    break
            held = await wire.hold(offer)
            paid = await wire.checkout(held["hold"])
        assert paid["outcome"] in ("confirmed", "processing")


async def test_scheme_is_https(front: Front) -> None:
    """The cookie of a log-in is bound to https, because the proxy says so and is believed."""
    token = front.service.token(Role.HOST, "host")
    async with front.http(Origin=f"https://{NAME}") as http:
        answer = await http.post("/v1/session", json={"token": token}, **SNI)
    assert answer.status_code == 200, answer.text
    assert answer.headers["set-cookie"].startswith("__Host-live=")


async def test_metrics_are_not_public(front: Front) -> None:
    async with front.http() as http:
        assert (await http.get("/metrics", **SNI)).status_code == 404
        assert (await http.get("/", **SNI)).status_code == 200


@needs_address
async def test_sockets_count_for_the_client(front: Front) -> None:
    """One address has so many and no more, whatever it writes into the header itself."""
    assert ELSEWHERE is not None
    wires = [await front.dial(ELSEWHERE) for _ in range(PER_ADDRESS)]
    with pytest.raises(InvalidStatus) as refused:
        await front.dial(ELSEWHERE, **{"X-Forwarded-For": "203.0.113.9"})
    others = [await front.dial() for _ in range(PER_ADDRESS + 1)]

    assert refused.value.response.status_code == 429
    await asyncio.gather(*(wire.socket.close() for wire in wires + others))


@needs_address
async def test_limits_count_the_client(front: Front) -> None:
    """Guests' tokens are bounded for the address behind the proxy, not for the proxy."""
    assert ELSEWHERE is not None
    async with front.http(ELSEWHERE) as http:
        codes = [
            (await http.post("/v1/guests", **SNI)).status_code for _ in range(GUESTS_BURST + 20)
        ]
    async with front.http() as http:
        near = (await http.post("/v1/guests", **SNI)).status_code

    assert codes[:GUESTS_BURST] == [201] * GUESTS_BURST
    assert 429 in codes
    assert near == 201


@pytest.mark.parametrize("kind", ["nginx", "haproxy", "caddy"])
async def test_drain_reaches_viewers(kind: str) -> None:
    """A gateway that stops tells everybody 3001 through the proxy: sockets and event streams."""
    front = await asyncio.to_thread(start, kind)
    try:
        await begin(front.service, SHOW)
        async with front.http() as http, stream(front, http) as lines:
            assert "connect" in await event(lines)
            wires = [await front.join() for _ in range(5)]
            assert front.service.process is not None
            front.service.process.send_signal(signal.SIGTERM)

            codes = await asyncio.gather(*(last_word(wire) for wire in wires))
            told: dict[str, object] = {}
            while "disconnect" not in told:
                told = await event(lines)

        assert codes == [3001] * len(wires)
        assert told["disconnect"] == {"code": 3001, "reason": "shutdown", "reconnect": True}
    finally:
        await asyncio.to_thread(front.service.stop)
        front.proxy.stop()
