"""The official Python SDK against a real server: the protocol as its authors' clients speak it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from centrifuge import (
    Client,
    PublicationContext,
    SubscribedContext,
    Subscription,
    SubscriptionEventHandler,
)

from live.domain.ids import ShowId
from tests.support.realtime_app import Spawned


@pytest.fixture(params=["", "--compression", "--asgi"], ids=["front", "compressed", "asgi"])
def server(redis_url: str, show: ShowId, request: pytest.FixtureRequest) -> Iterator[Spawned]:
    """Through the front door, plain and with compression, and through the plain ASGI route."""
    spawned = Spawned(redis_url, show, *filter(None, [request.param]))
    yield spawned
    spawned.close()


@pytest.fixture(params=[False, True], ids=["json", "protobuf"])
async def client(server: Spawned, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    client = Client(server.url, use_protobuf=request.param)
    await client.connect()
    await client.ready()
    yield client
    await leave(client)


async def leave(client: Client) -> None:
    """Disconnect and wait for the socket: the SDK itself does not."""
    connection = client._conn
    await client.disconnect()
    await connection.wait_closed()


class Heard(SubscriptionEventHandler):  # type: ignore[misc]  # the SDK has no types
    def __init__(self) -> None:
        self.publications: asyncio.Queue[PublicationContext] = asyncio.Queue()
        self.subscribed: asyncio.Queue[SubscribedContext] = asyncio.Queue()

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.publications.put_nowait(ctx)

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self.subscribed.put_nowait(ctx)


async def listen(client: Client) -> tuple[Subscription, Heard]:
    heard = Heard()
    sub = client.new_subscription("room", events=heard)
    await sub.subscribe()
    await asyncio.wait_for(heard.subscribed.get(), 60)
    return sub, heard


async def test_sdk_gets_its_own_publication_with_its_offset(client: Client) -> None:
    """What a client publishes comes back to all subscribers, the publisher included."""
    sub, heard = await listen(client)
    data = b'{"text":"hello"}' if client._use_protobuf else {"text": "hello"}

    await sub.publish(data)

    ctx = await asyncio.wait_for(heard.publications.get(), 60)
    assert (ctx.pub.data, ctx.pub.offset) == (data, 1)


async def test_sdk_rpc_is_answered(client: Client) -> None:
    """An rpc's data reaches the handler and its answer the caller."""
    data = b'{"qty":2}' if client._use_protobuf else {"qty": 2}
    assert (await client.rpc("echo", data)).data == data


async def test_sdk_recovers_what_it_missed(client: Client, server: Spawned) -> None:
    """A client that was away gets exactly the publications in between."""
    _, heard = await listen(client)
    other = Client(server.url)
    await other.connect()
    await other.publish("room", {"n": 1})
    await asyncio.wait_for(heard.publications.get(), 60)

    await leave(client)
    for n in (2, 3):
        await other.publish("room", {"n": n})
    await client.connect()

    ctx = await asyncio.wait_for(heard.subscribed.get(), 60)
    assert ctx.was_recovering and ctx.recovered
    missed = [await asyncio.wait_for(heard.publications.get(), 60) for _ in range(2)]
    assert [ctx.pub.offset for ctx in missed] == [2, 3]
    await leave(other)
