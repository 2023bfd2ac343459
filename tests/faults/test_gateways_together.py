"""Two gateways of one service, in processes of their own: chat, moderation and figures are one.

Method: a service with two workers and a gateway beside it share a Redis and a Postgres; people are
connected to both; then a worker is killed outright.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import httpx
import psutil
import pytest

from live.domain.caller import Role
from tests.acceptance.conftest import Service, Stage, until
from tests.faults.bad_day import runs
from tests.support.servers import Postgres, Valkey, scratch_directory
from tests.support.wire import Wire, dial, join

pytestmark = pytest.mark.timeout(90)

SOON_SECONDS = 20.0  # nothing here takes so long, on any machine


@pytest.fixture(scope="module")
def pair(valkey: Valkey, postgres: Postgres) -> Iterator[tuple[Service, Service]]:
    """A service with two workers, and another gateway on the same engines."""
    name = f"t{uuid4().hex}"
    asyncio.run(_execute(postgres.url(), f'CREATE DATABASE "{name}"'))
    engines = {"LIVE_REDIS_URL": valkey.url, "LIVE_DATABASE_URL": postgres.url(name)}
    first = Service(scratch_directory(), ("--workers", "2"), engines)
    second = Service(scratch_directory(), ("--role", "gateway"), engines)
    done = first.live("migrate")
    assert done.returncode == 0, done.stderr
    first.start()
    second.start()
    yield first, second
    second.stop()
    first.stop()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def stage(pair: tuple[Service, Service]) -> AsyncIterator[Stage]:
    """A show on air, its host calling the first service."""
    show = f"s{uuid4().hex[:10]}"
    headers = {"Authorization": f"Bearer {pair[0].token(Role.HOST, 'host')}"}
    async with httpx.AsyncClient(
        base_url=pair[0].url, headers=headers, trust_env=False, timeout=10
    ) as http:
        found = Stage(pair[0], http, show)
        made = await found.post("/v1/shows", {"id": show, "title": "A show", "currency": "USD"})
        assert made.status_code == 201, made.text
        assert (await found.post(f"/v1/shows/{show}/start")).status_code == 200
        yield found
        await found.post(f"/v1/shows/{show}/end")


async def enter(service: Service, show: str, sub: str) -> Wire:
    return await join(service.socket_url, service.token(Role.VIEWER, sub, show), show)


async def say(wire: Wire, show: str, text: str) -> dict[str, object]:
    """Publish a line; the error, or {} where it was taken."""
    reply = await wire.ask({"publish": {"channel": f"chat:{show}", "data": {"text": text}}})
    error: dict[str, object] = reply.get("error", {})
    return error


async def moderate(stage: Stage, action: str, sub: str) -> None:
    body: dict[str, object] = {"action": action, "sub": sub}
    answer = await stage.post(f"/v1/shows/{stage.show}/moderation", body)
    assert answer.status_code == 202, answer.text


async def test_one_pace_on_all_gateways(pair: tuple[Service, Service], stage: Stage) -> None:
    """What was said here is a duplicate there; slow mode counts both sockets of a person."""
    show = stage.show
    async with (
        await enter(pair[0], show, "ada") as here,
        await enter(pair[1], show, "ada") as there,
    ):
        assert await say(here, show, "first!") == {}
        duplicate = await say(there, show, "FIRST!!")
        path = f"/v1/shows/{show}"
        patched = await stage.http.patch(path, json={"slow_mode_seconds": 60})
        assert patched.status_code == 200

        async def told() -> bool:
            state = await there.rpc("show.state", {"show": show})
            return bool(state["show"]["slow_mode_seconds"] == 60)

        await until(told)
        slow = await say(there, show, "something else")

    assert duplicate["code"] == 1409
    assert slow["code"] == 111 and "slow mode" in str(slow["message"])


async def test_mute_and_shadow_ban_count_on_all_gateways(
    pair: tuple[Service, Service], stage: Stage
) -> None:
    """Said by the host on one gateway, felt on the other; a shadow ban by its author never."""
    show = stage.show
    async with (
        await enter(pair[0], show, "eve") as here,
        await enter(pair[1], show, "eve") as there,
        await enter(pair[1], show, "bob") as reader,
    ):
        await moderate(stage, "mute", "eve")
        assert (await say(there, show, "muted"))["code"] == 103
        await moderate(stage, "unmute", "eve")
        await moderate(stage, "shadow_ban", "eve")
        assert await say(there, show, "in the shadow") == {}
        for own in (here, there):
            async with asyncio.timeout(SOON_SECONDS):
                assert (await own.event("chat.message"))["text"] == "in the shadow"
        await moderate(stage, "unban", "eve")
        assert await say(there, show, "in the light") == {}
        async with asyncio.timeout(SOON_SECONDS):
            assert (await reader.event("chat.message"))["text"] == "in the light"


async def test_log_out_and_ban_close_sockets_everywhere(
    pair: tuple[Service, Service], stage: Stage
) -> None:
    """Both sockets of the person, nobody else's; a ban keeps them out."""
    show = stage.show
    other = await enter(pair[1], show, "ann")
    for act, sub in (("logout", "lea"), ("ban", "max")):
        sockets = [await enter(service, show, sub) for service in pair]
        if act == "logout":
            assert (await stage.post(f"/v1/users/{sub}/logout")).status_code == 200
        else:
            await moderate(stage, "ban", "max")
        async with asyncio.timeout(SOON_SECONDS):
            assert [(await one.closed())[0] for one in sockets] == [3503, 3503], act

    for service in pair:
        wire = await dial(service.socket_url)
        token = service.token(Role.VIEWER, "max", show)
        await wire.send({"id": 1, "connect": {"token": token, "data": {"show": show}}})
        async with asyncio.timeout(SOON_SECONDS):
            assert await wire.closed() == (3503, "banned from this show")
    assert await say(other, show, "still here") == {}
    await other.socket.close()


async def test_ban_counts_for_who_did_not_name_the_show(
    pair: tuple[Service, Service], stage: Stage
) -> None:
    """A connection without a show, subscribed to one by name: closed by the ban, and kept out."""
    channel = f"chat:{stage.show}"
    inside, late = [await dial(service.socket_url) for service in pair]
    for wire, service in zip((inside, late), pair, strict=True):
        await wire.ask({"connect": {"token": service.token(Role.VIEWER, "moe", stage.show)}})
    assert "subscribe" in await inside.ask({"subscribe": {"channel": channel}})

    await moderate(stage, "ban", "moe")

    async with asyncio.timeout(SOON_SECONDS):
        assert (await inside.closed())[0] == 3503
    assert (await late.ask({"subscribe": {"channel": channel}}))["error"]["code"] == 103
    await late.socket.close()


async def test_figures_survive_a_killed_worker(pair: tuple[Service, Service], stage: Stage) -> None:
    """Viewers are counted right again; reactions and chat go on where they were."""
    show = stage.show
    watcher = await enter(pair[1], show, "watcher")
    crowd = [await enter(pair[0], show, f"c{n}") for n in range(8)]
    await pulse_with(watcher, "viewers", 9)
    for wire in (watcher, *crowd):
        assert await wire.rpc("react", {"show": show, "kind": "heart"}) == {}
    await pulse_with(watcher, "reactions", {"heart": 9})

    assert pair[0].process is not None
    family = psutil.Process(pair[0].process.pid).children()
    workers = [one for one in family if runs(one, "run-gateway")]
    assert len(workers) == 2
    workers[0].send_signal(signal.SIGKILL)
    left = [wire for wire in crowd if not await is_cut(wire)]
    await pulse_with(watcher, "viewers", 1 + len(left))

    for wire in (watcher, *left):
        await wire.rpc("react", {"show": show, "kind": "heart"})
    await pulse_with(watcher, "reactions", {"heart": 9 + 1 + len(left)})
    assert await say(watcher, show, "what was that?") == {}
    again = await enter(pair[0], show, "c0")
    await pulse_with(watcher, "viewers", 2 + len(left))
    for wire in (watcher, again, *left):
        await wire.socket.close()


async def is_cut(wire: Wire) -> bool:
    """Whether this connection's worker is gone."""
    try:
        async with asyncio.timeout(0.1):
            await wire.socket.wait_closed()
    except TimeoutError:
        return False
    return True


async def pulse_with(wire: Wire, field: str, value: object) -> None:
    """Wait for a pulse that says so."""
    async with asyncio.timeout(SOON_SECONDS):
        while (await wire.event("pulse"))[field] != value:
            pass
