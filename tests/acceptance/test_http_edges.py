"""What the service tells a balancer, Prometheus, a wrong name, and a page of another origin.

Method: a whole service; raw requests, so that nothing is added to what they say.
"""

from collections.abc import Iterator

import httpx
import pytest

from live.domain.caller import Role
from tests.acceptance.conftest import Service
from tests.support.raw import Raw
from tests.support.servers import scratch_directory

SHOP = "https://shop.example"
APP = "capacitor://localhost"
METRICS_TOKEN = "for Prometheus only"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def open_service() -> Iterator[Service]:
    """A service with pages elsewhere and figures that are not for everybody."""
    own = {"LIVE_ALLOWED_ORIGINS": f"{SHOP}/, {APP}", "LIVE_METRICS_TOKEN": METRICS_TOKEN}
    found = Service(scratch_directory(), environment=own)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def http(open_service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=open_service.url, trust_env=False, timeout=60) as client:
        yield client


# Health


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readyz?from=haproxy"])
@pytest.mark.parametrize(
    "head", ["HTTP/1.0", "HTTP/1.1\r\nHost: live.example", "HTTP/1.1\r\nHost: 10.0.0.7:8000"]
)
async def test_health_may_be_asked_by_any_name(open_service: Service, path: str, head: str) -> None:
    """A balancer knows us by address, and HAProxy asks in HTTP/1.0 without a Host."""
    raw = await Raw.dial(open_service.port)
    assert (await raw.ask(f"GET {path} {head}\r\n\r\n".encode())).status == 200
    await raw.close()


@pytest.mark.parametrize("head", ["HTTP/1.0", "HTTP/1.1\r\nHost: live.example"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz/..", "/v1/shows", "/"])
async def test_wrong_name_is_told_what_to_set(open_service: Service, path: str, head: str) -> None:
    """Who put a proxy in front reads there what is missing."""
    raw = await Raw.dial(open_service.port)
    answer = await raw.ask(f"GET {path} {head}\r\n\r\n".encode())
    told = await raw.reader.readexactly(int(answer.headers["content-length"]))

    assert answer.status == 400
    assert b"Host" in told and b"LIVE_ALLOWED_HOSTS" in told
    await raw.close()


def test_metrics_are_for_who_has_the_token(http: httpx.Client) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": METRICS_TOKEN}):
        assert http.get("/metrics", headers=headers).status_code == 401
    shown = http.get("/metrics", headers={"authorization": f"Bearer {METRICS_TOKEN}"})

    assert shown.status_code == 200
    assert "live_http_answers_total" in shown.text


# Pages of other origins

CALLS = [
    ("POST", "/v1/guests", 201),
    ("GET", "/v1/orders", 401),
    ("GET", "/v1/orders/not-an-order", 401),
    ("GET", "/v1/nowhere", 404),
    ("PUT", "/v1/guests", 405),
    ("GET", "/shows.json", 200),
]


@pytest.mark.parametrize("origin", [SHOP, APP])
@pytest.mark.parametrize(("method", "path", "status"), CALLS)
def test_allowed_page_may_read_answers_and_errors(
    http: httpx.Client, origin: str, method: str, path: str, status: int
) -> None:
    """By its name, and without cookies."""
    answer = http.request(method, path, headers={"origin": origin})

    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://shop.example", "https://shop.example.evil.example", "null"],
)
@pytest.mark.parametrize(("method", "path", "status"), CALLS)
def test_other_page_may_read_nothing(
    http: httpx.Client, origin: str, method: str, path: str, status: int
) -> None:
    """The answer is what it is for a tool, and the browser keeps it from the page."""
    answer = http.request(method, path, headers={"origin": origin})

    assert answer.status_code == status
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("path", ["/v1/guests", "/v1/orders", "/connection/uni_sse"])
def test_preflight_is_answered(http: httpx.Client, path: str) -> None:
    """For a call with a token, a key and JSON; a foreign page is told no."""
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,idempotency-key",
    }
    answer = http.options(path, headers={"origin": SHOP} | asked)
    refused = http.options(path, headers={"origin": "https://evil.example"} | asked)

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "POST" in answer.headers["access-control-allow-methods"]
    named = answer.headers["access-control-allow-headers"].split(", ")
    assert set(asked["access-control-request-headers"].split(",")) <= set(named)
    assert int(answer.headers["access-control-max-age"]) > 0
    assert refused.status_code == 403
    assert not [name for name in refused.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/session"), ("GET", "/metrics"), ("GET", "/console"), ("GET", "/readyz")],
)
def test_console_and_figures_are_for_no_other_page(
    http: httpx.Client, method: str, path: str
) -> None:
    answer = http.request(method, path, headers={"origin": SHOP})
    asked = {"origin": SHOP, "access-control-request-method": "GET"}

    for one in (answer, http.options(path, headers=asked)):
        assert not [name for name in one.headers if name.startswith("access-control-")]


def test_stream_of_an_allowed_page_is_readable(open_service: Service, http: httpx.Client) -> None:
    """EventSource has no other way to learn that it may read."""
    show, token = "cors", open_service.token(Role.HOST, "host")
    body = {"id": show, "title": "A show", "currency": "USD"}
    made = http.post("/v1/shows", json=body, headers={"authorization": f"Bearer {token}"})
    assert made.status_code == 201

    url = '/connection/uni_sse?cf_connect={"data":{"show":"cors"}}'
    with http.stream("GET", url, headers={"origin": SHOP}) as stream:
        assert stream.status_code == 200
        assert stream.headers["access-control-allow-origin"] == SHOP
        assert "connect" in next(line for line in stream.iter_lines() if line)
    refused = http.get(url, headers={"origin": "https://evil.example"})
    assert refused.status_code == 403
