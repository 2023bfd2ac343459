"""Tokens of an issuer with a published key set, over a real HTTP server."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import jwt
import pytest

from live.api.auth import SESSION_AUDIENCE, Authenticator, InvalidToken
from live.base.errors import Busy
from live.base.settings import Guests
from live.domain.caller import Role

ec = pytest.importorskip(
    "cryptography.hazmat.primitives.asymmetric.ec", reason="key sets need PyJWT[crypto]"
)

SECRET = "a secret that is long enough for HS256"


class Issuer:
    """Serves the public halves of its keys and counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = json.dumps({"keys": issuer.published()}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass  # the test's output is not the place

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def published(self) -> list[dict[str, Any]]:
        algorithm = jwt.get_algorithm_by_name("ES256")
        return [
            {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]

    def sign(self, name: str, *, kid: str = "", **more: object) -> str:
        now = int(time.time())
        claims = {"aud": "live", "sub": "ada", "role": "viewer", "shows": ["demo"]}
        key = self.keys[name]
        return jwt.encode(
            claims | {"iat": now, "exp": now + 60} | more,
            key,
            algorithm="ES256",
            headers={"kid": kid or name},
        )

    def add(self, kid: str) -> None:
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    made.add("one")
    yield made
    made.close()


async def test_token_of_the_issuer_is_accepted(issuer: Issuer) -> None:
    """With the keys fetched at the start, the check itself does not wait."""
    auth = Authenticator(SECRET, guests=Guests.OFF, jwks_url=issuer.url)
    await auth.refresh()

    assert auth.caller(issuer.sign("one")).sub == "ada"
    assert issuer.asked == 1


async def test_unknown_key_is_fetched_once_and_not_again_at_once(issuer: Issuer) -> None:
    """The first token waits (`Busy` for those who cannot); a forged key id asks nobody."""
    auth = Authenticator(SECRET, guests=Guests.OFF, jwks_url=issuer.url)

    with pytest.raises(Busy):
        auth.caller(issuer.sign("one"))
    assert (await auth.caller_soon(issuer.sign("one"))).sub == "ada"
    for _ in range(5):
        with pytest.raises(InvalidToken):
            await auth.caller_soon(issuer.sign("one", kid="forged"))

    assert issuer.asked == 1


async def test_withdrawn_key_stops_working(issuer: Issuer) -> None:
    """After the next fetch the old key is gone and the new one there."""
    auth = Authenticator(SECRET, guests=Guests.OFF, jwks_url=issuer.url)
    old = issuer.sign("one")
    await auth.refresh()
    issuer.keys.clear()
    issuer.add("two")

    await auth.refresh()

    assert auth.caller(issuer.sign("two")).sub == "ada"
    with pytest.raises(InvalidToken):
        auth.caller(old)


async def test_public_key_is_no_shared_secret(issuer: Issuer) -> None:
    """HS256 is checked with our secret only, whatever key id the token names."""
    auth = Authenticator(SECRET, guests=Guests.OFF, jwks_url=issuer.url)
    await auth.refresh()
    public = issuer.published()[0]["x"]  # 43 characters that everybody knows
    now = int(time.time())
    claims = {"aud": "live", "sub": "ada", "role": "host", "shows": ["*"]}
    forged = jwt.encode(
        claims | {"iat": now, "exp": now + 60}, public, algorithm="HS256", headers={"kid": "one"}
    )

    with pytest.raises(InvalidToken):
        auth.caller(forged)


async def test_issuer_that_is_down_leaves_the_known_keys(issuer: Issuer) -> None:
    """A minute without the issuer does not end the show."""
    auth = Authenticator(SECRET, guests=Guests.OFF, jwks_url=issuer.url)
    await auth.refresh()
    token = issuer.sign("one")
    issuer.server.shutdown()
    issuer.server.server_close()

    await auth.refresh()

    assert auth.caller(token).sub == "ada"


async def test_key_set_makes_no_service(issuer: Issuer) -> None:
    """Who may edit claims at the identity provider does not thereby own the shop."""
    auth = Authenticator(SECRET, guests=Guests.OFF, jwks_url=issuer.url)
    await auth.refresh()

    assert auth.caller(issuer.sign("one", role="host")).role is Role.HOST
    with pytest.raises(InvalidToken):
        auth.caller(issuer.sign("one", role="service"))


async def test_key_set_signs_for_its_issuer_alone(issuer: Issuer) -> None:
    """Another tenant's token of the same keys is refused; our own tokens have no issuer."""
    shop = "https://id.shop.example"
    auth = Authenticator(SECRET, guests=Guests.OFF, jwks_url=issuer.url, issuer=shop)
    await auth.refresh()

    assert auth.caller(issuer.sign("one", iss=shop)).sub == "ada"
    for wrong in ({}, {"iss": "https://id.other.example"}, {"iss": f"{shop}/"}):
        with pytest.raises(InvalidToken):
            auth.caller(issuer.sign("one", **wrong))
    own = auth.mint(role=Role.SERVICE, sub="shop", shows=["*"], ttl=60)
    assert auth.caller(own).role is Role.SERVICE


async def test_key_set_makes_no_console_session(issuer: Issuer) -> None:
    """A cookie is of our own making, whatever audience the issuer writes."""
    auth = Authenticator(SECRET, guests=Guests.OFF, jwks_url=issuer.url)
    await auth.refresh()

    for audience in ("live", SESSION_AUDIENCE):
        with pytest.raises(InvalidToken):
            auth.session(issuer.sign("one", aud=audience, end=int(time.time()) + 60))
