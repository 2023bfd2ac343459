"""The client's two shells against a real gateway: calls, a killed server, recovery, final ends."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import uuid4

import jwt
import pytest

from live.client import (
    CallFailed,
    Client,
    Connected,
    Disconnected,
    Gone,
    NoAnswer,
    Published,
    aio,
)
from live.client.events import News
from live.domain.ids import ShowId
from tests.support.demo_script import Hang, Script, server
from tests.support.realtime_app import KEY, Spawned
from tests.support.servers import Valkey

# The key of the SDKs' own suites is a short word.
pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
PATIENCE = 60


def token(sub: str, seconds: float) -> str:
    return jwt.encode({"sub": sub, "exp": time.time() + seconds}, KEY, algorithm="HS256")


SHOW = ShowId(f"s{uuid4().hex[:12]}")
CHAT = f"chat:{SHOW}"


@contextmanager
def gateway(redis_url: str, *options: str) -> Iterator[Spawned]:
    made = Spawned(redis_url, SHOW, *options)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def other(valkey: Valkey) -> Iterator[Spawned]:
    """A gateway that all tests of the file share; it outlives those that are killed."""
    with gateway(valkey.url) as made:
        yield made


@pytest.fixture
def doomed(redis_url: str) -> Iterator[Spawned]:
    """A gateway that the test kills with `kill`."""
    made = Spawned(redis_url, SHOW)
    yield made
    kill(made)


def kill(server: Spawned) -> None:
    assert server.process.stdout is not None
    server.process.kill()
    server.process.wait()
    server.process.stdout.close()


async def heard(client: Client, kind: type[News]) -> News:
    """The next event of this kind, whatever comes before it."""
    async with asyncio.timeout(PATIENCE):
        async for news in client:
            if isinstance(news, kind):
                return news
    raise AssertionError(f"the client ended without {kind.__name__}")


@asynccontextmanager
async def connected(url: str, **options: object) -> AsyncIterator[Client]:
    async with Client(url, **options) as client:  # type: ignore[arg-type]  # of many types
        async with asyncio.timeout(PATIENCE):
            await client.connected()
        yield client


async def test_calls_are_answered(other: Spawned) -> None:
    """Every command of the protocol has its answer, and an error is raised as one."""
    room = "calls"  # its own: clients of other tests may still be counted in theirs
    async with connected(other.url) as client:
        begun = await client.subscribe(room)
        await client.publish(room, {"n": 1})
        said = await heard(client, Published)
        history = await client.history(room, limit=1, reverse=True)
        presence = await client.presence(room)
        stats = await client.presence_stats(room)
        echoed = await client.rpc("echo", {"a": ["ü", 1]})
        with pytest.raises(CallFailed) as failure:
            await client.rpc("nothing of the kind", {})
        await client.unsubscribe(room)

    assert begun.recoverable
    assert isinstance(said, Published) and said.channel == room
    assert (json.loads(said.data), said.offset) == ({"n": 1}, begun.offset + 1)
    assert [bytes(one.data) for one in history.publications] == [b'{"n":1}']
    assert len(presence.presence) == stats.num_clients == 1
    assert json.loads(echoed) == {"a": ["ü", 1]}
    assert (failure.value.code, failure.value.temporary) == (104, False)


async def test_killed_server_costs_no_publication(
    redis_url: str, other: Spawned, doomed: Spawned
) -> None:
    """The client finds the next gateway by itself and hears what was published meanwhile, once."""
    async with connected(other.url) as author, connected(doomed.url) as client:
        await client.subscribe(CHAT)
        await author.publish(CHAT, 1)
        await heard(client, Published)
        kill(doomed)
        end = await heard(client, Disconnected)
        await author.publish(CHAT, 2)
        with gateway(redis_url, "--port", str(doomed.port)):
            again = await heard(client, Connected)
            missed = await heard(client, Published)
            await author.publish(CHAT, 3)
            live = await heard(client, Published)
            await client.close()

    assert isinstance(end, Disconnected) and end.code == 1006 and end.retry_seconds is not None
    assert isinstance(again, Connected)
    assert isinstance(missed, Published) and (missed.data, missed.at) == (b"2", None)
    assert isinstance(live, Published) and live.data == b"3" and live.at is not None


async def test_refused_token_ends_the_client(other: Spawned) -> None:
    """An invalid token is final: no further attempt, and every call says so."""
    async with Client(other.url, token="x.y.z") as client:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(Gone, match="3500"):
                await client.connected()
            with pytest.raises(Gone):
                await client.rpc("echo", 1)
            (end,) = [news async for news in client]

    assert isinstance(end, Disconnected)
    assert (end.code, end.retry_seconds) == (3500, None)


async def test_token_is_renewed_before_and_after_its_end(other: Spawned) -> None:
    """An expired token is replaced at once, a living one when it is time; the line stays."""
    asked: list[float] = []
    renewed = asyncio.Event()

    async def another() -> str:
        asked.append(time.monotonic())
        if len(asked) == 2:
            renewed.set()
        return token("ann", 3 if len(asked) == 1 else 600)

    async with connected(other.url, token=token("ann", -5), get_token=another) as client:
        refused = await heard(client, Disconnected)
        assert isinstance(refused, Disconnected) and refused.token_expired
        async with asyncio.timeout(PATIENCE):
            await renewed.wait()
        assert await client.rpc("echo", 1) == b"1"
        client.cut()
        await heard(client, Disconnected)
        await client.connected()

    assert len(asked) == 2, "the third connection goes on with the second token"
    assert asked[1] - asked[0] >= 2


async def test_token_that_nobody_can_renew_ends_the_client(other: Spawned) -> None:
    """What `get_token` raises ends the client, and is told to whoever closes it."""

    async def broken() -> str:
        raise RuntimeError("no shop")

    with pytest.raises(RuntimeError, match="no shop"):
        async with Client(other.url, token=token("ann", -5), get_token=broken) as client:
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(Gone):
                    await client.connected()


async def test_silent_server_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ping for longer than announced: the connection is taken for lost, and another one made."""
    monkeypatch.setattr("live.client.core.PING_GRACE_SECONDS", 0.2)
    script = Script(ping=1)
    async with server(script), connected(script.url) as client:
        end = await heard(client, Disconnected)
        await heard(client, Connected)

    assert isinstance(end, Disconnected) and end.reason == "no ping"
    assert len(script.connects) == 2


async def test_call_without_an_answer_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing, and one that nobody can reach, are both `NoAnswer`."""
    monkeypatch.setattr(aio, "COMMAND_SECONDS", 0.2)

    def silent(_: object) -> dict[str, object]:
        raise Hang

    script = Script({"offer.hold": silent})
    async with server(script), connected(script.url) as client:
        with pytest.raises(NoAnswer):
            await client.rpc("offer.hold", {})
    async with Client(script.url) as client:
        with pytest.raises(NoAnswer):
            await client.rpc("offer.hold", {})


async def test_reader_who_falls_behind_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unread news are bounded: who has begun to read and stops is cut off, and told so."""
    monkeypatch.setattr(aio, "NEWS_MAX", 5)
    script = Script()
    async with server(script), connected(script.url) as client:
        assert isinstance(await anext(client), Connected)
        for number in range(10):
            await script.publish("show:demo", {"n": number})
        async with asyncio.timeout(PATIENCE):
            news = [news async for news in client]

    assert len(news) == 6
    assert isinstance(news[-1], Disconnected) and news[-1].reason == "too slow a reader"


async def test_nobody_who_reads_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever only calls is not disconnected for what they never wanted to hear."""
    monkeypatch.setattr(aio, "NEWS_MAX", 5)
    script = Script({"time.now": lambda data: {}})
    async with server(script), connected(script.url) as client:
        for number in range(10):
            await script.publish("show:demo", {"n": number})
        await client.rpc("time.now", {})
        kept = [await anext(client) for _ in range(5)]

    assert [json.loads(one.data)["n"] for one in kept if isinstance(one, Published)] == [
        5,
        6,
        7,
        8,
        9,
    ]


GREEN = """
import sys
import gevent
from live.client import Disconnected, Gone, NoAnswer, Published
from live.client.green import GreenClient

url, channel = sys.argv[1:]
heard = []


def wait_for(count):
    with gevent.Timeout(10):
        while True:
            said = [(n.data, n.at is not None) for n in heard if isinstance(n, Published)]
            if len(said) >= count:
                return said
            gevent.sleep(0.01)


client = GreenClient(url, listener=heard.append)
client.connect()
client.answer(client.core.subscribe(channel))
assert client.rpc("echo", "hi") == b'"hi"'
client.publish(channel, 1)
wait_for(1)
print("ready", flush=True)
sys.stdin.readline()  # the server is killed, and comes back
assert client.closed.wait(10)
try:
    client.rpc("echo", 1)
    raise AssertionError("answered by nobody")
except NoAnswer:
    pass
client.stay()
wait_for(2)  # what was missed
client.publish(channel, 3)
said = wait_for(3)
assert said == [(b"1", True), (b"2", False), (b"3", True)], said
client.cut()
client.core.token = "x.y.z"
try:
    client.stay()
    raise AssertionError("welcome with a broken token")
except Gone:
    assert client.end.code == 3500
assert isinstance(heard[-1], Disconnected)
client.close()
print("done", flush=True)
"""


async def test_gevent_shell_comes_back_when_told(
    redis_url: str, other: Spawned, doomed: Spawned
) -> None:
    """Calls, a killed server, what was missed, a final end: in a process of its own."""
    green = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", GREEN, doomed.url, CHAT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert green.stdin is not None and green.stdout is not None
    async with asyncio.timeout(PATIENCE):
        assert await green.stdout.readline() == b"ready\n"
    kill(doomed)
    async with connected(other.url) as author:
        await author.publish(CHAT, 2)
    with gateway(redis_url, "--port", str(doomed.port)):
        async with asyncio.timeout(PATIENCE):
            out, _ = await green.communicate(b"on\n")
    assert (green.returncode, out) == (0, b"done\n")
