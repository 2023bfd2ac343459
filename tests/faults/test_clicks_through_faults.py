"""Clicks through the whole gateway while an engine behind it is away."""

import asyncio
import signal
from typing import Any
from uuid import uuid4

import pytest

from live.api.auth import Authenticator
from live.base.settings import Guests
from live.domain.caller import ALL_SHOWS, Role
from live.tools.bench.gateways import BenchStage, Side, open_side, set_stage
from live.tools.bench.offer import OFFER
from tests.support.servers import Postgres, Valkey
from tests.support.wire import Wire, join

PATIENCE_SECONDS = 0.5  # of a client; what they wait for does not come before they have given up
REPEATS_SECONDS = 20


async def viewer(stage: BenchStage, side: Side) -> Wire:
    """Join the show as a person of their own."""
    auth = Authenticator(stage.secret, guests=Guests.OFF)
    token = auth.mint(role=Role.VIEWER, sub=uuid4().hex, shows=(ALL_SHOWS,), ttl=600)
    return await join(f"ws://127.0.0.1:{side.port}/connection/websocket", token, stage.show)


async def hold_at_last(wire: Wire, key: str) -> dict[str, Any]:
    """Repeat as an SDK's user does while the answer is "temporary"."""
    async with asyncio.timeout(REPEATS_SECONDS):
        while "error" in (answer := await wire.hold(OFFER, key=key)):
            assert answer["error"]["temporary"], answer
    return answer


async def test_hold_whose_answer_was_too_late_is_the_same_hold(
    own_valkey: Valkey, database_url: str
) -> None:
    """The client gives up and repeats with its key: one hold, and one unit less."""
    async with (
        set_stage(own_valkey.url, database_url) as stage,
        open_side(stage, "ours") as side,
        await viewer(stage, side) as ann,
        await viewer(stage, side) as bob,
    ):
        before = (await bob.hold(OFFER))["left"]
        key = str(uuid4())
        own_valkey.signal(signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ann.hold(OFFER, key=key), PATIENCE_SECONDS)
        finally:
            own_valkey.signal(signal.SIGCONT)

        repeated = await hold_at_last(ann, key)
        again = await ann.hold(OFFER, key=key)

        assert (repeated["outcome"], repeated["hold"]) == ("held", key)
        assert again == repeated
        assert (await bob.hold(OFFER))["left"] == before - 2


async def test_viewers_come_subscribe_and_hold_without_postgres(
    redis_url: str, own_postgres: Postgres
) -> None:
    """No query on the way of a click: with Postgres stopped all of it works."""
    async with (
        set_stage(redis_url, own_postgres.url()) as stage,
        open_side(stage, "ours") as side,
    ):
        own_postgres.stop()
        async with await viewer(stage, side) as ann:
            assert ann.hello["data"]["show"]["id"] == stage.show
            chat = f"chat:{stage.show}"
            assert "unsubscribe" in await ann.ask({"unsubscribe": {"channel": chat}})
            assert "subscribe" in await ann.ask({"subscribe": {"channel": chat}})
            held = await ann.hold(OFFER)
            assert held["outcome"] == "held"
            released = await ann.rpc("hold.release", {"hold": held["hold"]})
            assert released == {"outcome": "released"}
