"""Tokens that end while their connection lives (item 12 of the list in README.md)."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect

from live.domain.ids import ShowId
from tests.acceptance.test_realtime_wire import ask, closed_with
from tests.support.realtime_app import KEY, Spawned

# The key of the SDKs' own suites is a short word.
pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")


def token(sub: str, seconds: int) -> str:
    return jwt.encode({"sub": sub, "exp": int(time.time()) + seconds}, KEY, algorithm="HS256")


@contextmanager
def spawned(redis_url: str, show: ShowId, limits: dict[str, float]) -> Iterator[Spawned]:
    made = Spawned(redis_url, show, "--limits", json.dumps(limits))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def server(redis_url: str, show: ShowId) -> Iterator[Spawned]:
    with spawned(redis_url, show, {}) as made:
        yield made


@pytest.fixture
async def ann(server: Spawned) -> AsyncIterator[ClientConnection]:
    """Connected with a token for a minute."""
    async with connect(server.url, compression=None) as connection:
        reply = await ask(connection, {"id": 1, "connect": {"token": token("ann", 60)}})
        result = reply["connect"]
        assert isinstance(result, dict)
        assert result["expires"] is True
        assert 0 < result["ttl"] <= 60
        yield connection


async def test_refresh_prolongs_the_connection(ann: ClientConnection) -> None:
    """A newer token of the same person is taken, and its life is told."""
    reply = await ask(ann, {"id": 2, "refresh": {"token": token("ann", 600)}})
    result = reply["refresh"]
    assert isinstance(result, dict)
    assert result["expires"] is True
    assert 500 < result["ttl"] <= 600
    assert result["client"]


async def test_late_refresh_is_welcome_within_the_grace(redis_url: str, show: ShowId) -> None:
    """A phone that slept beyond its token's end comes with a new one and stays."""
    often = {"stale_seconds": 1, "ping_seconds": 1, "pong_seconds": 0.9}
    with spawned(redis_url, show, often) as server:
        async with connect(server.url, compression=None) as connection:
            await ask(connection, {"id": 1, "connect": {"token": token("ann", 1)}})
            ended = time.time() + 1
            # A ping says that the server has looked at the connection since.
            while await connection.recv() != "{}" or time.time() <= ended:
                await connection.send("{}")

            late = await ask(connection, {"id": 2, "refresh": {"token": token("ann", 600)}})

            assert 500 < late["refresh"]["ttl"] <= 600  # type: ignore[index]
            assert "rpc" in await ask(connection, {"id": 3, "rpc": {"method": "echo", "data": 1}})


async def test_token_that_ends_without_refresh_is_3005(redis_url: str, show: ShowId) -> None:
    """The grace has an end: then the client comes back with a new token, or not at all."""
    # The alarm that a connection is born with is the stale one; it finds the token's end.
    with spawned(redis_url, show, {"stale_seconds": 1, "expired_grace_seconds": 0.1}) as server:
        async with connect(server.url, compression=None) as connection:
            await ask(connection, {"id": 1, "connect": {"token": token("ann", 1)}})
            assert await closed_with(connection) == (3005, "connection expired")


async def test_refresh_with_an_expired_token_is_error_109(ann: ClientConnection) -> None:
    """The SDK fetches another one; the connection stays until its own end."""
    reply = await ask(ann, {"id": 2, "refresh": {"token": token("ann", -5)}})
    error = reply["error"]
    assert isinstance(error, dict)
    assert error["code"] == 109
    assert "rpc" in await ask(ann, {"id": 3, "rpc": {"method": "echo", "data": 1}})


@pytest.mark.parametrize("fault", ["broken", "foreign"])
async def test_refresh_with_an_invalid_token_is_3500(ann: ClientConnection, fault: str) -> None:
    """A broken token, or one of somebody else, ends the connection."""
    other = "x.y.z" if fault == "broken" else token("bob", 600)
    await ann.send(json.dumps({"id": 2, "refresh": {"token": other}}))
    assert await closed_with(ann) == (3500, "invalid token")


async def test_refresh_that_nobody_asked_for_is_3501(server: Spawned) -> None:
    """Who came without a token has nothing to refresh."""
    async with connect(server.url, compression=None) as connection:
        await ask(connection, {"id": 1, "connect": {}})
        await connection.send(json.dumps({"id": 2, "refresh": {"token": token("ann", 60)}}))
        assert (await closed_with(connection))[0] == 3501
