"""A whole service of spawned processes, shared by the acceptance tests of a run."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from live.api.auth import Authenticator
from live.base.settings import Guests
from live.domain.caller import Role
from live.ledger.db.migrate import migrate
from tests.support.answers import Json
from tests.support.servers import scratch_directory
from tests.support.wire import Wire, join

SECRET = "a secret of the acceptance tests only"
READY_SECONDS = 90
_SERVING = re.compile(rb'"url": "http://[^"]*:(\d+)"[^\n]*"event": "serving"')


@dataclass
class Service:
    """`live serve` with engines of its own; what tests need to talk to it.

    It takes a port that is free when it binds it, and keeps it over restarts.
    """

    data: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LIVE_")}
        own = {"LIVE_DATA_DIR": str(self.data), "LIVE_SECRET": SECRET, "LIVE_GUESTS": "buy"}
        own["LIVE_LOGIN_URL"] = "/sign-in?back={return}"
        return kept | own | self.environment

    def token(self, role: Role, sub: str, *shows: str, ttl: int = 3600) -> str:
        auth = Authenticator(SECRET, guests=Guests.BUY)
        return auth.mint(role=role, sub=sub, shows=shows or ("*",), ttl=ttl)

    def start(self) -> None:
        if "LIVE_DATABASE_URL" in self.environment:  # a configured ledger is not migrated by itself
            with ThreadPoolExecutor(1) as thread:  # a test's loop may be running in this one
                thread.submit(asyncio.run, migrate(self.environment["LIVE_DATABASE_URL"])).result()
        log = (self.data / "log").open("ab")
        told_before = log.tell()
        command = [sys.executable, "-m", "live", "serve", "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            # Said when it is ready, with the port that it took.
            found = _SERVING.search((self.data / "log").read_bytes(), told_before)
            if found is not None:
                self.port = int(found[1])
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"not ready: {(self.data / 'log').read_text()[-4000:]}")

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(READY_SECONDS)

    def live(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Run another command beside the service."""
        command = [sys.executable, "-m", "live", *arguments]
        return subprocess.run(
            command, env=self.env, capture_output=True, timeout=timeout, check=False
        )


SHARED = pytest.StashKey[Service]()


@pytest.fixture(scope="session")
def service(pytestconfig: pytest.Config) -> Iterator[Service]:
    found = Service(scratch_directory(), environment={"LIVE_PROVIDERS": "sandbox,invoice"})
    found.start()
    pytestconfig.stash[SHARED] = found
    yield found
    found.stop()


@pytest.fixture(scope="module", autouse=True)
def no_show_outlives_its_file(pytestconfig: pytest.Config) -> Iterator[None]:
    """A show on air costs the service work many times a second, also while others are tested."""
    yield
    if SHARED not in pytestconfig.stash:
        return
    shared = pytestconfig.stash[SHARED]
    headers = {"Authorization": f"Bearer {shared.token(Role.HOST, 'host')}"}
    with httpx.Client(base_url=shared.url, headers=headers, trust_env=False, timeout=10) as http:
        cursor: str | None = ""
        while cursor is not None:
            page = http.get("/v1/shows", params={"cursor": cursor} if cursor else {}).json()
            for show in page["items"]:
                if show["status"] not in ("scheduled", "ended"):
                    key = {"Idempotency-Key": uuid4().hex}
                    http.post(f"/v1/shows/{show['id']}/end", json={}, headers=key)
            cursor = page["next"]


@dataclass
class Stage:
    """A show on air with the calls that its host makes."""

    service: Service
    http: httpx.AsyncClient
    show: str

    async def post(self, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        key = {"Idempotency-Key": uuid4().hex}
        try:
            return await self.http.post(path, json=body or {}, headers=key)
        except httpx.ReadError:  # a kept connection whose idle time was over: the key allows it
            return await self.http.post(path, json=body or {}, headers=key)

    async def offer(self, quantity: int, *, opened: bool = True, **terms: object) -> str:
        """Make an offer of its own product, and open it."""
        sku, offer = f"p{uuid4().hex[:10]}", f"o{uuid4().hex[:10]}"
        product = {"sku": sku, "title": "Lamp", "price_minor": 1500, "currency": "USD"}
        made = await self.post("/v1/products", product | {"on_hand": quantity + 100})
        assert made.status_code == 201, made.text
        body = {"id": offer, "sku": sku, "price_minor": 900, "quantity": quantity}
        body |= {"per_buyer_limit": 2, "hold_seconds": 30, "mode": "hold", **terms}
        made = await self.post(f"/v1/shows/{self.show}/offers", body)
        assert made.status_code == 201, made.text
        if opened:
            answer = await self.post(f"/v1/offers/{offer}/open")
            assert answer.status_code == 200, answer.text
        return offer

    async def viewer(self, sub: str = "") -> Wire:
        """Connect a viewer with a name of their own."""
        sub = sub or f"v{uuid4().hex[:10]}"
        token = self.service.token(Role.VIEWER, sub, self.show)
        return await join(self.service.socket_url, token, self.show)

    async def look(self, offer: str) -> Json:
        answer = await self.http.get(f"/v1/offers/{offer}")
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found


@asynccontextmanager
async def on_air(service: Service, show: str) -> AsyncIterator[Stage]:
    """Make a show, start it, end it after the test."""
    token = service.token(Role.HOST, "host")
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, trust_env=False, timeout=10
    ) as http:
        found = Stage(service, http, show)
        made = await found.post("/v1/shows", {"id": show, "title": "A show", "currency": "USD"})
        assert made.status_code == 201, made.text
        assert (await found.post(f"/v1/shows/{show}/start")).status_code == 200
        yield found
        await found.post(f"/v1/shows/{show}/end")


async def begin(service: Service, show: str) -> None:
    """Make a show and start it, where nobody is left to end it."""
    headers = {"authorization": f"Bearer {service.token(Role.HOST, 'host')}"}
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, trust_env=False, timeout=60
    ) as http:
        body = {"id": show, "title": "A show", "currency": "USD"}
        assert (await http.post("/v1/shows", json=body)).status_code == 201
        assert (await http.post(f"/v1/shows/{show}/start")).status_code == 200


async def last_word(wire: Wire) -> int:
    """The code that a viewer is sent away with; 1006: none."""
    try:
        while True:
            await wire.read()
    except ConnectionClosed as end:
        return 1006 if end.rcvd is None else end.rcvd.code


@pytest.fixture
async def stage(service: Service) -> AsyncIterator[Stage]:
    async with on_air(service, f"s{uuid4().hex[:10]}") as found:
        yield found


@pytest.fixture
def gateway_url(service: Service) -> str:
    return service.url


@pytest.fixture
def host_token(service: Service) -> str:
    return service.token(Role.HOST, "host")


async def until(condition: object, *, seconds: float = 10) -> None:
    """Wait for an async condition that only a look from outside can tell."""
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - another process changes what we look at
            await asyncio.sleep(0.05)
