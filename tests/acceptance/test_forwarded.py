"""Forwarded headers: ignored unless the peer was named as a proxy, then the client's own count."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from live.api.http.deps import GUESTS_BURST
from live.domain.caller import Role
from tests.acceptance.conftest import Service
from tests.support.servers import scratch_directory

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[Service]:
    """A service that takes this machine for a proxy."""
    own = {"LIVE_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"}
    found = Service(scratch_directory(), environment=own)
    found.start()
    yield found
    found.stop()


def log_in(service: Service) -> str:
    """The name of the cookie that a log-in with a forwarded https sets."""
    token = service.token(Role.HOST, f"h{uuid4().hex[:8]}")
    answer = httpx.post(
        f"{service.url}/v1/session",
        json={"token": token},
        headers={"x-forwarded-proto": "https"},
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["set-cookie"].partition("=")[0]


def guests(service: Service, count: int, address: str) -> list[int]:
    """Ask for guests' tokens as one address behind the proxy; the answers' codes."""
    with httpx.Client(trust_env=False, headers={"x-forwarded-for": f"1.1.1.1, {address}"}) as http:
        return [http.post(f"{service.url}/v1/guests").status_code for _ in range(count)]


def test_scheme_is_believed_from_a_named_proxy_alone(
    service: Service, behind_proxy: Service
) -> None:
    """Loopback is no proxy by itself."""
    assert log_in(service) == "live"
    assert log_in(behind_proxy) == "__Host-live"


def test_limits_count_the_client_behind_a_named_proxy(behind_proxy: Service) -> None:
    """The guests of one address are bounded, those of the next are its own."""
    codes = guests(behind_proxy, GUESTS_BURST + 20, "203.0.113.9")
    assert codes[:GUESTS_BURST] == [201] * GUESTS_BURST
    assert 429 in codes
    assert guests(behind_proxy, 1, "203.0.113.10") == [201]
