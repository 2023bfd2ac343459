"""Redis' memory is full: newcomers come in and look on, and every instrument says what is wrong.

Method: a service of both roles on a Redis of its own with a real `maxmemory`, far below its use.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import redis

from live.base.settings import Settings
from live.domain.caller import Role
from live.run.doctor import Diagnosis, examine_engines
from tests.acceptance.conftest import Service, Stage, on_air, until
from tests.support.servers import Postgres, Valkey, scratch_directory
from tests.support.wire import join

pytestmark = pytest.mark.timeout(180)

FULL_BYTES = 2**20  # an empty server uses more
SOON_SECONDS = 60  # nothing here takes so long, on any machine


@pytest.fixture(scope="module")
def own_redis(scratch: Path) -> Iterator[Valkey]:
    directory = scratch / f"told-{uuid4().hex[:6]}"
    directory.mkdir()
    server = Valkey(directory)
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def service(own_redis: Valkey, postgres: Postgres) -> Iterator[Service]:
    name = f"t{uuid4().hex}"
    asyncio.run(postgres.copy("template1", name))
    found = Service(
        scratch_directory(),
        environment={"LIVE_REDIS_URL": own_redis.url, "LIVE_DATABASE_URL": postgres.url(name)},
    )
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def settler(service: Service) -> Iterator[Service]:
    """Another one, alone, with a port of its own."""
    options = ("--role", "settler", "--ops-port", "0")
    found = Service(scratch_directory(), options, dict(service.environment))
    found.start()
    yield found
    found.stop()


@pytest.fixture
async def stage(service: Service, own_redis: Valkey) -> AsyncIterator[Stage]:
    async with on_air(service, f"s{uuid4().hex[:10]}") as found:
        yield found
        limit(own_redis, 0)


def limit(server: Valkey, size: int) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", size)


def used_bytes(server: Valkey) -> int:
    with redis.Redis.from_url(server.url) as client:
        used: int = client.info("memory")["used_memory"]
    return used


async def told(service: Service) -> tuple[int, dict[str, str]]:
    """The status of /readyz and its warnings."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=10) as http:
        answer = await http.get("/readyz")
    assert answer.json()["faults"] == {}
    return answer.status_code, answer.json()["warnings"]


async def figure(service: Service, name: str) -> float:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=10) as http:
        text = (await http.get("/metrics")).text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not told"
    return float(found[1])


def lines(service: Service, event: str) -> list[dict[str, object]]:
    rows = (service.data / "log").read_text().splitlines()
    return [row for row in map(json.loads, rows) if row.get("event") == event]


async def test_newcomers_come_in_while_memory_is_full(stage: Stage, own_redis: Valkey) -> None:
    """At a gateway that has the show open, and at one that opens it for its first viewer."""
    offer = await stage.offer(5)
    fresh = Service(scratch_directory(), ("--role", "gateway"), dict(stage.service.environment))
    limit(own_redis, FULL_BYTES)
    try:
        fresh.start()  # no room is open here: all that a first viewer asks is asked anew
        for place in (stage.service, fresh):
            for role in (Role.VIEWER, Role.MODERATOR, Role.HOST):
                token = place.token(role, f"n{uuid4().hex[:8]}", stage.show)
                async with await join(place.socket_url, token, stage.show) as wire:
                    assert wire.hello["data"]["show"]["offers"][0]["id"] == offer
    finally:
        limit(own_redis, 0)
        fresh.stop()


async def test_full_memory_is_told_and_its_end(
    stage: Stage, settler: Service, own_redis: Valkey
) -> None:
    """Both roles warn and stay ready, figures move, the log has a line; so has its end."""
    service, offer = stage.service, await stage.offer(5)
    for role in (service, settler):
        await until(lambda role=role: _is_told(role, full=False), seconds=SOON_SECONDS)
    assert await figure(service, "live_redis_memory_used_ratio") == 0
    before = len(lines(service, "redis.memory_full"))

    limit(own_redis, FULL_BYTES)
    async with await stage.viewer() as viewer:
        assert (await viewer.hold(offer))["error"]["code"] == 111
    for role in (service, settler):
        await until(lambda role=role: _is_told(role, full=True), seconds=SOON_SECONDS)
    assert await figure(service, "live_redis_memory_used_ratio") > 1
    assert await figure(service, "live_redis_writes_refused_total") > 0
    assert len(lines(service, "redis.memory_full")) > before

    limit(own_redis, 0)
    for role in (service, settler):
        await until(lambda role=role: _is_told(role, full=False), seconds=SOON_SECONDS)
    assert lines(service, "redis.memory_freed")


async def _is_told(service: Service, *, full: bool) -> bool:
    status, warnings = await told(service)
    assert status == 200  # every gateway would go, and that helps nobody
    return ("redis_memory" in warnings) is full


async def _look(service: Service, tmp_path: Path) -> Diagnosis:
    settings = Settings.from_env(service.env | {"LIVE_DATA_DIR": str(tmp_path)})
    found = await asyncio.to_thread(examine_engines, settings)
    return {one.name: one for one in found}["redis memory"]


async def test_doctor_tells_how_full_memory_is(
    stage: Stage, own_redis: Valkey, tmp_path: Path
) -> None:
    """No limit and room: fine; little room: a word; none: nothing can be sold."""
    used = used_bytes(own_redis)
    assert (await _look(stage.service, tmp_path)).ok

    limit(own_redis, used * 10)
    assert (await _look(stage.service, tmp_path)).ok
    limit(own_redis, used * 100 // 90)
    short = await _look(stage.service, tmp_path)
    assert (short.ok, short.stops) == (False, False)
    limit(own_redis, FULL_BYTES)
    full = await _look(stage.service, tmp_path)

    assert (full.ok, full.stops) == (False, True)
    assert "maxmemory" in full.fix
    assert (await asyncio.to_thread(stage.service.live, "doctor")).returncode == 1
