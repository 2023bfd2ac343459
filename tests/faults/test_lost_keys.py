"""Redis loses one key of a show, whichever, or all of them: it is noticed and made again.

Method: a whole settler in this process, one kind of key deleted, then what buyers and viewers need
of the show is asked for until it is there. The kinds are read from the builders of keys, so a new
key is in none of the tables below and fails the last test.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from live.api.ops import Probe
from live.base.errors import Busy
from live.chat import store as chat_store
from live.domain.channels import Channel, ChannelKind
from live.domain.events import AnnouncementEvent
from live.domain.hold import Line
from live.domain.ids import BuyerId, HoldKey, ShowId
from live.domain.outcomes import Outcome
from live.hosting.metrics import LOST_PARTS
from live.ledger.db.pool import Pool
from live.ledger.hosting.shows import ShowRows
from live.ledger.settle.waitlist import WaitlistRows
from live.showlog import keys
from live.stock.keys import GROUP, ShowKeys, show_keys
from live.wiring.settler import run_settler
from tests.integration.test_keeper import on_sale
from tests.support.api_kit import Stage, open_stage, settings
from tests.support.servers import Valkey
from tests.support.stock_kit import one

SECONDS = 8  # two seconds of the keeper's, on a busy machine
ANN, KEY = BuyerId(b"a" * 16), HoldKey(b"k" * 16)


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


@asynccontextmanager
async def settling(database_url: str, redis_url: str) -> AsyncIterator[None]:
    stop = asyncio.Event()
    wiring = replace(settings(), redis_url=redis_url, database_url=database_url)
    running = asyncio.create_task(run_settler(wiring, stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  # another task's work
            await asyncio.sleep(0.05)


async def epoch_of(stage: Stage, show: ShowId) -> int:
    found = await stage.pool.fetchval("SELECT stock_epoch FROM shows WHERE id = $1", show)
    assert isinstance(found, int)
    return found


async def sells(stage: Stage, show: ShowId) -> bool:
    """The hold from before is there, and a new one can be had and given back."""
    key = HoldKey(uuid4().bytes)
    try:
        state = await stage.stock.buyer_state(show, ANN)
        answer = await stage.stock.hold(show, BuyerId(b"b" * 16), key, one())
        await stage.stock.release(show, BuyerId(b"b" * 16), key)
        await stage.stock.figures(show)
    except Busy:
        return False
    return [hold.key for hold in state.holds] == [KEY] and answer.outcome is Outcome.HELD


STOCK = (*ShowKeys.__slots__, "group")


@pytest.mark.parametrize("lost", STOCK)
async def test_lost_part_of_the_stock_is_noticed_told_and_made_again(
    stage: Stage, database_url: str, redis_url: str, show: ShowId, lost: str
) -> None:
    """Also where buyers go on and the key is there again, without what it held."""
    await on_sale(stage, show, quantity=9)
    async with settling(database_url, redis_url):
        await stage.stock.hold(show, ANN, KEY, one(qty=2))
        await until(lambda: journaled(stage))
        part = "outbox" if lost == "group" else lost
        told, epoch = LOST_PARTS.labels(part)._value.get(), await epoch_of(stage, show)
        if lost == "group":
            await stage.redis.xgroup_destroy(show_keys(show).outbox, GROUP)
        else:
            await stage.redis.delete(getattr(show_keys(show), lost))
        for n in range(3):  # as a busy sale would, at once
            try:
                await stage.stock.hold(show, BuyerId(bytes([n]) * 16), KEY, one())
            except Busy:
                continue

        async def renewed() -> bool:
            return await epoch_of(stage, show) > epoch and await sells(stage, show)

        await until(renewed)

    assert LOST_PARTS.labels(part)._value.get() == told + 1
    assert await stage.pool.fetchval("SELECT count(*) FROM stock_doubts") == 0
    assert (await stage.stock.figures(show)).offers[0].sold == 0


async def asked_meanwhile(
    stage: Stage, show: ShowId, ask: Callable[[], Awaitable[Outcome]]
) -> set[Outcome]:
    """Lose the records of all buyers; what somebody is answered from then on, and just after."""
    epoch, answers = await epoch_of(stage, show), set[Outcome]()
    await stage.redis.delete(show_keys(show).buyers)

    async def answered_again() -> bool:
        try:
            answers.add(await ask())
        except Busy:
            return False
        return await epoch_of(stage, show) > epoch

    await until(answered_again)
    return answers


async def test_limit_holds_from_the_loss_of_the_records_on(
    stage: Stage, database_url: str, redis_url: str, show: ShowId
) -> None:
    """Who has what they may gets nothing more before their records are there again."""
    await on_sale(stage, show, quantity=9)  # two for each
    async with settling(database_url, redis_url):
        await stage.stock.hold(show, ANN, KEY, one(qty=2))
        await until(lambda: journaled(stage))

        async def ask() -> Outcome:
            return (await stage.stock.hold(show, ANN, HoldKey(uuid4().bytes), one())).outcome

        assert await asked_meanwhile(stage, show, ask) == {Outcome.LIMIT_REACHED}

    assert (await stage.stock.figures(show)).offers[0].held == 2


async def test_line_stays_as_it_was_from_the_loss_of_the_records_on(
    stage: Stage, database_url: str, redis_url: str, show: ShowId
) -> None:
    """Who waits and asks again has one place, the one that they had."""
    offer, (ben, cleo) = await on_sale(stage, show, quantity=2), (BuyerId(b"b" * 16), ANN)
    rows, owner = WaitlistRows(stage.pool), BuyerId(b"o" * 16)

    async def join(who: BuyerId) -> Outcome:
        key = HoldKey(uuid4().bytes)
        await rows.ask(show, offer, who, who.decode(), key, 1)
        return (await stage.stock.join_waitlist(show, who, key, Line(0, 1))).outcome

    async def in_line() -> int:
        waiting = "SELECT count(*) FROM waitlist WHERE state = 'waiting'"
        return int(await stage.pool.fetchval(waiting))

    async def both_wait() -> bool:
        return await in_line() == 2

    async with settling(database_url, redis_url):
        await stage.stock.hold(show, owner, KEY, one(qty=2))
        await join(ben)
        await join(cleo)
        await until(both_wait)
        answers = await asked_meanwhile(stage, show, lambda: join(ben))

    assert answers == {Outcome.WAITLISTED}
    assert await in_line() == 2
    places = [(await stage.stock.buyer_state(show, who)).waiting for who in (ben, cleo)]
    assert [[one.position for one in mine] for mine in places] == [[1], [2]]
    await stage.stock.release(show, owner, KEY)
    assert len((await stage.stock.buyer_state(show, ben)).holds) == 1


async def journaled(stage: Stage) -> bool:
    return bool(await stage.pool.fetchval("SELECT count(*) FROM holds"))


async def test_readiness_names_the_shows_that_are_made_again(stage: Stage, show: ShowId) -> None:
    """They are no reason to take a gateway away, which serves all others."""
    await on_sale(stage, show)
    probe = Probe(stage.pool, stage.stock)
    assert await probe.rebuilding() == {}
    await ShowRows(stage.pool).doubt(show, "Redis lost its buyers")

    assert await probe.rebuilding() == {show: "Redis lost its buyers"}
    assert await probe.faults() == {}


LOGS = tuple(kind for kind in ChannelKind if kind not in (ChannelKind.PULSE, ChannelKind.PERSONAL))


@pytest.mark.parametrize("kind", [*LOGS, "logs", "state"], ids=str)
async def test_lost_log_begins_anew_and_lost_state_comes_back(
    stage: Stage, database_url: str, redis_url: str, show: ShowId, kind: ChannelKind | str
) -> None:
    """Viewers are given the show, and hear what is published next."""
    await on_sale(stage, show)
    async with settling(database_url, redis_url):
        await until(lambda: is_known(stage, show))
        name = keys.log_key(show, kind.value) if isinstance(kind, ChannelKind) else ""
        lost = {"logs": keys.logs_key(show), "state": keys.state_key(show)}.get(str(kind), name)
        await stage.redis.delete(lost)

        await until(lambda: is_known(stage, show))
        heard = kind if isinstance(kind, ChannelKind) else ChannelKind.SHOW
        event = AnnouncementEvent(at=1, text="hello", until=None)
        offset = await stage.log.publish(Channel(heard, show), event)
        await until(lambda: is_known(stage, show))

    read = await stage.log.store.read_back(show, heard.value, offset, 1)
    assert [one.offset for one in read] == [offset]
    for lasting in (keys.logs_key(show), keys.state_key(show)):
        assert await stage.redis.ttl(lasting) == -1


async def is_known(stage: Stage, show: ShowId) -> bool:
    return await stage.log.store.stored_version(show) is not None


async def test_everything_lost_comes_back(
    pool: Pool, database_url: str, own_valkey: Valkey, show: ShowId
) -> None:
    """FLUSHALL, as a restart with an empty disk: stock, state and hold are there again."""
    async with open_stage(pool, own_valkey.url) as stage:
        await on_sale(stage, show)
        async with settling(database_url, own_valkey.url):
            await stage.stock.hold(show, ANN, KEY, one(qty=2))
            await until(lambda: journaled(stage))
            await stage.redis.flushall()

            async def back() -> bool:
                return await sells(stage, show) and await is_known(stage, show)

            await until(back)


COMES_BACK = {
    "log_key": "test_lost_log_begins_anew_and_lost_state_comes_back",
    "logs_key": "test_lost_log_begins_anew_and_lost_state_comes_back",
    "state_key": "test_lost_log_begins_anew_and_lost_state_comes_back",
    "live_channel": "not stored",
    "viewers_key": "written again with each gateway's next heartbeat",
    "reactions_key": "figures of one evening, kept nowhere else: they begin anew",
    "presence_key": "written again with each gateway's next refresh",
    "_bans_key": "read from Postgres again with the next line of chat",
    "_pace_key": "ends by itself within seconds",
    "_flow_key": "ends by itself within seconds",
    "_recent_key": "what can still be pinned: begins anew",
}


def test_every_kind_of_key_has_an_answer_to_its_loss() -> None:
    """A new key must be made again when it is lost, or say here why it need not be."""
    made_by = {
        name
        for module in (keys, chat_store)
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and next(iter(inspect.signature(value).parameters), "") == "show"
        and inspect.signature(value).return_annotation is str
    }

    assert made_by == set(COMES_BACK)
    assert set(ShowKeys.__slots__) <= set(STOCK)
