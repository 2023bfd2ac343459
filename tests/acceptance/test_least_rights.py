"""A whole evening by the least accounts: what the documents grant is enough, and not more is.

Method: an account of Redis with exactly the documented rule, a role of Postgres with exactly what
`live migrate --grant` gives, a show with everything that buyers and hosts do, a Redis that loses
its data in the middle of it; then nobody was refused anything.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest
import redis

from live.run.checks.redis_rights import acl_rule
from tests.acceptance.conftest import Service, Stage, on_air, until
from tests.support.sandbox import KEY, SandboxServer
from tests.support.servers import Postgres, Valkey, scratch_directory

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def least(postgres: Postgres) -> Iterator[Service]:
    place = scratch_directory()
    (place / "valkey").mkdir()
    (place / "sandbox").mkdir()
    valkey, sandbox = Valkey(place / "valkey"), SandboxServer(place / "sandbox")
    valkey.start()
    sandbox.start()
    role = f"r{uuid4().hex[:8]}"
    database = f"t{uuid4().hex}"
    asyncio.run(execute(postgres.url(), f"CREATE ROLE {role} LOGIN"))
    asyncio.run(execute(postgres.url(), f"CREATE DATABASE {database}"))
    with redis.Redis.from_url(valkey.url) as admin:
        admin.execute_command("ACL", "SETUSER", "live", "on", ">p", *acl_rule().split())
    environment = {
        "LIVE_REDIS_URL": f"{valkey.url}?username=live&password=p",
        "LIVE_DATABASE_URL": postgres.url(database),
        "LIVE_SANDBOX_URL": f"unix://{sandbox.uds}",
        "LIVE_SANDBOX_KEY": KEY,
    }
    found = Service(place, environment=environment)
    granted = found.live("migrate", "--grant", role)
    assert granted.returncode == 0, granted.stderr
    environment["LIVE_DATABASE_URL"] = postgres.url(database).replace("live@", f"{role}@")
    found.start()
    yield found
    found.stop()
    valkey.close()
    sandbox.kill()
    asyncio.run(execute(postgres.url(), f"DROP DATABASE {database} WITH (FORCE)"))
    asyncio.run(execute(postgres.url(), f"DROP ROLE {role}"))


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def stage(least: Service) -> AsyncIterator[Stage]:
    async with on_air(least, "evening") as found:
        yield found


async def lose_everything(service: Service) -> None:
    """What a Redis does that comes back without its data."""
    path = service.environment["LIVE_REDIS_URL"].partition("?")[0]
    with redis.Redis.from_url(path) as admin:
        admin.flushall()


async def test_evening_needs_no_right_beyond_the_documented_ones(stage: Stage) -> None:
    """Holds, payments, places in line, chat, bans, refunds, a rebuild, a closed offer, an audit."""
    offer, other = await stage.offer(2), await stage.offer(5)
    async with await stage.viewer() as first, await stage.viewer() as second:
        held = await first.hold(offer, 2)
        place = {"offer": offer, "qty": 1, "key": str(uuid4())}
        assert (await second.rpc("waitlist.join", place))["outcome"] == "waitlisted"
        await second.rpc("waitlist.leave", {"offer": offer, "key": place["key"]})
        assert (await first.checkout(held["hold"], "tok_decline"))["outcome"] == "declined"
        paid = await first.checkout(held["hold"])
        assert paid["outcome"] == "confirmed"
        line = {"channel": f"chat:{stage.show}", "data": {"text": "hello"}}
        assert "error" not in await first.ask({"publish": line})
        spare = await second.hold(other)
        await second.rpc("hold.release", {"hold": spare["hold"]})
        order = paid["order"]["order"]

        async def captured() -> bool:
            found = (await stage.http.get(f"/v1/orders/{order}")).json()
            return bool(found["state"] == "paid")

        await until(captured, seconds=60)
    refund = {"amount_minor": 900, "reason": "x"}
    assert (await stage.post(f"/v1/orders/{order}/refund", refund)).is_success
    await stage.post(f"/v1/offers/{other}/restock", {"quantity": 1})

    await lose_everything(stage.service)

    async def sells_again() -> bool:
        try:
            async with await stage.viewer() as viewer:
                return bool((await viewer.hold(other))["outcome"] == "held")
        except (AssertionError, KeyError, OSError):
            return False

    await until(sells_again, seconds=60)
    await stage.post(f"/v1/offers/{other}/close")
    done = await asyncio.to_thread(stage.service.live, "audit", "--json", "--repair")
    log = (stage.service.data / "log").read_text()

    assert b"denied" not in done.stderr and b"NOPERM" not in done.stderr, done.stderr
    assert done.returncode in (0, 1), done.stderr  # an open hold may still be under way
    assert "permission denied" not in log
    assert "NOPERM" not in log
