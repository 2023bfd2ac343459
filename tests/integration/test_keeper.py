"""The keeper on real engines: what is due happens, what Redis lacks arrives, also done twice."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from live.base.errors import Busy
from live.domain.hold import MovementKind
from live.domain.ids import BuyerId, HoldKey, OfferId, ShowId
from live.domain.outcomes import Outcome
from live.keeping.duty import Duty
from live.keeping.keeper import Keeper, Rebuild
from live.ledger.db.pool import Pool
from live.ledger.hosting.offer_rows import OfferRows
from live.ledger.hosting.shows import ShowRows
from live.stock.keys import show_keys
from live.stock.outbox import Outbox
from tests.support.answers import Json, decoded, entries_by_stream
from tests.support.api_kit import Stage, open_stage
from tests.support.shows_kit import HOST, offer, set_stage, terms_of
from tests.support.stock_kit import one

WAIT_SECONDS = 8.0
BUYER, KEY = BuyerId(b"b" * 16), HoldKey(b"k" * 16)


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


@pytest.fixture
async def stream(redis_url: str) -> AsyncIterator[Outbox]:
    outbox = Outbox(redis_url)
    await outbox.open()
    yield outbox
    await outbox.close()


class Rebuilds:
    """Stands for the ledger's rebuild, which has tests of its own."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[ShowId] = asyncio.Queue()

    async def __call__(self, show: ShowId) -> None:
        self.asked.put_nowait(show)


@asynccontextmanager
async def keeping(
    stage: Stage, stream: Outbox, *, rebuild: Rebuilds | None = None, count: int = 1
) -> AsyncIterator[None]:
    """Run so many keepers, each as a process of its own would."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            keeper = Keeper(
                stage.pool,
                stage.projector,
                backlog=stream,
                rebuild=rebuild or Rebuilds(),
                renew=Rebuilds(),
            )
            group.create_task(keeper.run(stop))
        try:
            yield
        finally:
            stop.set()


async def heard(stage: Stage, show: ShowId, kind: str, *, version: int | None = None) -> Json:
    """Wait for the first event of this type (and offer's version) in the show log."""
    key, last = f"live:{{{show}}}:log:show", "0"
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            for _, found in entries_by_stream(await stage.redis.xread({key: last}, block=1000)):
                for entry, fields in found:
                    last = decoded(entry)
                    event: Json = orjson.loads(fields[b"d"])
                    right = version is None or event.get("offer", {}).get("version") == version
                    if event["type"] == kind and right:
                        return event


async def on_sale(stage: Stage, show: ShowId, *, on_hand: int = 10, **terms: Any) -> OfferId:
    """A live show with an open (or scheduled) offer, carried to Redis."""
    new = offer(**terms)
    await set_stage(stage.pool, show, on_hand=on_hand)
    shows, offers = ShowRows(stage.pool), OfferRows(stage.pool)
    await stage.projector.project(await shows.read_state(show), fresh=True)
    await shows.start(show, HOST)
    await offers.create(show, new, HOST)
    await stage.projector.project(await offers.open(new.id, HOST))
    return new.id


async def hold_for_a_second(stage: Stage, show: ShowId) -> None:
    """Make the hold time of all offers shorter than a host may."""
    await stage.pool.execute("UPDATE offers SET hold_seconds = 1, version = version + 1")
    await stage.pool.execute("UPDATE shows SET version = version + 1 WHERE id = $1", show)
    await stage.projector.project(await ShowRows(stage.pool).read_state(show))


async def test_scheduled_offer_opens_when_its_time_comes(
    stage: Stage, stream: Outbox, show: ShowId
) -> None:
    """The audience hears it, the stock engine sells, Postgres knows."""
    name = await on_sale(stage, show, countdown=300)
    async with keeping(stage, stream):
        await stage.pool.execute("UPDATE offers SET opens_at = now() WHERE id = $1", name)
        event = await heard(stage, show, "offer.opened")

    assert event["offer"]["phase"] == "open"
    assert (await stage.stock.hold(show, BUYER, KEY, one())).outcome is Outcome.HELD


async def test_offer_closes_by_the_clock_and_ends_in_the_outbox(
    stage: Stage, stream: Outbox, show: ShowId
) -> None:
    """No new holds from then on; with nothing held, the `closed` entry follows."""
    name = await on_sale(stage, show, duration=60)
    async with keeping(stage, stream):
        await stage.pool.execute("UPDATE offers SET closes_at = now() WHERE id = $1", name)
        await heard(stage, show, "offer.closing")
        kinds: list[MovementKind] = []
        async with asyncio.timeout(WAIT_SECONDS):
            while MovementKind.CLOSED not in kinds:
                batches = await stream.read([show], consumer="t", entries_max=100, block_ms=500)
                kinds += [move.kind for batch in batches for move in batch.movements]

    answer = await stage.stock.hold(show, BUYER, KEY, one())
    assert answer.outcome is Outcome.CLOSED


async def test_expired_hold_gives_its_unit_back(stage: Stage, stream: Outbox, show: ShowId) -> None:
    """Reaped without anybody asking for the unit; the shelf is told empty and full again."""
    name = await on_sale(stage, show, quantity=1)
    await hold_for_a_second(stage, show)
    async with keeping(stage, stream):
        assert (await stage.stock.hold(show, BUYER, KEY, one())).left == 0
        sold_out = await heard(stage, show, "offer.sold_out")
        back = await heard(stage, show, "offer.restocked")

    assert (sold_out["offer"]["id"], sold_out["offer"]["sold_out"]) == (name, True)
    assert back["offer"]["left"] == 1


async def test_expired_units_are_on_sale_within_250_ms(
    stage: Stage, stream: Outbox, show: ShowId
) -> None:
    """By Redis' own clock, from deadline to the call that gave the units back; nobody asks for
    them. The median of holds that end at different instants: a stall of the machine is no rule."""
    await on_sale(stage, show, quantity=20, on_hand=20)
    await hold_for_a_second(stage, show)
    deadlines: dict[BuyerId, int] = {}
    ended: dict[BuyerId, int] = {}
    async with keeping(stage, stream):
        for n in range(20):
            who, key = BuyerId(bytes([n]) * 16), HoldKey(bytes([n]) * 16)
            deadlines[who] = (await stage.stock.hold(show, who, key, one())).expires_at
            if n % 4:  # the others end with their batch, these each at an instant of its own
                began = await stage.stock.begin(show, who, key, window_ms=1_000 + 70 * n)
                deadlines[who] = began.expires_at
        async with asyncio.timeout(WAIT_SECONDS):
            while ended.keys() != deadlines.keys():
                batches = await stream.read([show], consumer="t", entries_max=100, block_ms=500)
                for move in (each for batch in batches for each in batch.movements):
                    if move.kind is MovementKind.EXPIRED:
                        ended[move.buyer] = move.at

    late = [ended[who] - deadline for who, deadline in deadlines.items()]
    assert min(late) >= 0
    assert median(late) <= 250
    figures = (await stage.stock.figures(show)).offers[0]
    assert (figures.left, figures.held) == (20, 0)


async def test_command_that_never_reached_redis_is_carried(
    stage: Stage, stream: Outbox, show: ShowId
) -> None:
    """As after a gateway that died between Postgres and Redis."""
    name = await on_sale(stage, show)
    await OfferRows(stage.pool).restock(name, 3, HOST)

    async with keeping(stage, stream):
        event = await heard(stage, show, "offer.restocked")

    assert (event["offer"]["quantity"], event["offer"]["left"]) == (8, 8)
    assert (await stage.stock.figures(show)).offers[0].allotted == 8


async def test_everything_is_told_once_whoever_carries_it(
    stage: Stage, stream: Outbox, show: ShowId
) -> None:
    """A state carried three times at once, beside two keepers that look for differences."""
    name = await on_sale(stage, show)
    offers = OfferRows(stage.pool)
    async with keeping(stage, stream, count=2):
        for _ in range(3):
            paused = await offers.pause(name, HOST)
            await asyncio.gather(*(stage.projector.project(paused) for _ in range(3)))
            resumed = await offers.resume(name, HOST)  # left to the keepers
            await heard(stage, show, "offer.opened", version=terms_of(resumed, name).version)

    types = await stage.types(show)
    assert types.count("show.started") == 1
    assert types.count("offer.paused") == 3
    assert types.count("offer.opened") == 4


async def test_lost_stock_is_handed_to_a_rebuild(
    stage: Stage, stream: Outbox, show: ShowId
) -> None:
    """Redis answers and does not know the show: not for the keeper to invent stock."""
    await on_sale(stage, show)
    rebuilds = Rebuilds()
    async with keeping(stage, stream, rebuild=rebuilds):
        await stage.redis.delete(show_keys(show).meta)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await rebuilds.asked.get() == show

    with pytest.raises(Busy):
        await stage.stock.figures(show)


async def test_lost_offer_is_handed_to_a_rebuild(
    stage: Stage, stream: Outbox, show: ShowId
) -> None:
    """The show is there, one offer is not: carried again it would sell what is held already."""
    await on_sale(stage, show)
    await stage.stock.hold(show, BUYER, KEY, one(qty=2))
    rebuilds = Rebuilds()
    async with keeping(stage, stream, rebuild=rebuilds):
        await stage.redis.hdel(show_keys(show).offers, b"\0\0")
        async with asyncio.timeout(WAIT_SECONDS):
            assert await rebuilds.asked.get() == show

    assert await stage.redis.hlen(show_keys(show).offers) == 0


async def test_part_that_the_reaper_misses_is_handed_to_a_rebuild_at_once(
    stage: Stage, stream: Outbox, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the show is decided until then, so nobody waits for the next look at it."""

    async def nobody(self: Keeper) -> list[ShowId]:
        return []

    for others in ("_moving", "_all"):  # whom duties look at that would notice it later
        monkeypatch.setattr(Keeper, others, nobody)
    await on_sale(stage, show)
    rebuilds = Rebuilds()
    async with keeping(stage, stream, rebuild=rebuilds):
        await stage.redis.delete(show_keys(show).guests)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await rebuilds.asked.get() == show

    reason = await stage.pool.fetchval("SELECT reason FROM stock_doubts WHERE show = $1", show)
    assert reason == "Redis lost its guests"


async def test_doubted_stock_is_handed_to_a_rebuild(
    stage: Stage, stream: Outbox, show: ShowId
) -> None:
    """Redis knows the show and is not to be believed: the settler that said so may be dead."""
    await on_sale(stage, show)
    await stage.pool.execute("INSERT INTO stock_doubts (show, reason) VALUES ($1, 'test')", show)
    rebuilds = Rebuilds()
    async with keeping(stage, stream, rebuild=rebuilds), asyncio.timeout(WAIT_SECONDS):
        assert await rebuilds.asked.get() == show


async def test_pulse_and_desk_tell_the_figures(stage: Stage, stream: Outbox, show: ShowId) -> None:
    """Viewers get stock, hosts money as well, moderators no money."""
    name = await on_sale(stage, show)
    await stage.stock.hold(show, BUYER, KEY, one(qty=2))
    found: dict[str, dict[str, Any]] = {}
    async with stage.redis.pubsub() as listener:
        await listener.ssubscribe(f"live:{{{show}}}:live")
        async with keeping(stage, stream), asyncio.timeout(WAIT_SECONDS):
            while found.keys() != {"pulse", "desk", "staff"}:
                message = await listener.get_message(ignore_subscribe_messages=True, timeout=1)
                if message is not None and message["data"].startswith(b"f "):
                    head, _, body = message["data"].partition(b"\n")
                    found[head.split()[1].decode()] = orjson.loads(body)

    units = [{"id": name, "left": 3, "held": 2, "sold": 0}]
    assert found["pulse"]["offers"] == found["desk"]["offers"] == units
    assert (found["desk"]["revenue_minor"], found["staff"]["revenue_minor"]) == (0, None)


def shows_of(*names: str) -> Callable[[], Coroutine[Any, Any, list[ShowId]]]:
    async def give() -> list[ShowId]:
        return [ShowId(name) for name in names]

    return give


async def test_failing_show_does_not_stop_the_others() -> None:
    """One show's Redis slot is gone; the duty goes on for the rest and comes back to it."""
    stop, calls, mended = asyncio.Event(), [], asyncio.Event()

    async def work(show: ShowId) -> None:
        calls.append(show)
        if show == "bad" and calls.count(show) < 3:
            raise Busy("rebuilding")
        if show == "bad":
            mended.set()

    running = asyncio.create_task(Duty("test", 0.01, shows_of("bad", "good"), work).run(stop))
    await asyncio.wait_for(mended.wait(), WAIT_SECONDS)
    stop.set()
    await running

    assert calls.count(ShowId("bad")) == 3
    assert calls.count(ShowId("good")) > 10


async def test_waiting_show_does_not_hold_up_the_others() -> None:
    """One show's Redis node is silent for long; the rounds of the rest go on meanwhile."""
    stop, calls, enough = asyncio.Event(), [], asyncio.Event()

    async def work(show: ShowId) -> None:
        calls.append(show)
        if calls.count(ShowId("good")) > 10:
            enough.set()
        if show == "silent":
            await asyncio.Event().wait()

    running = asyncio.create_task(Duty("test", 0.01, shows_of("silent", "good"), work).run(stop))
    await asyncio.wait_for(enough.wait(), WAIT_SECONDS)
    stop.set()
    await running

    assert calls.count(ShowId("silent")) == 1


async def test_bug_in_a_duty_costs_its_show_alone_and_is_told() -> None:
    """The others go on, and the log has one record with the duty, the show and the traceback."""
    stop, done = asyncio.Event(), []

    async def work(show: ShowId) -> None:
        if show == "bad":
            raise KeyError("a bug")
        done.append(show)
        if len(done) > 10:
            stop.set()

    with capture_logs() as lines:
        async with asyncio.timeout(WAIT_SECONDS):
            await Duty("test", 0.01, shows_of("bad", "good"), work).run(stop)

    [line] = lines
    assert (line["loop"], line["show"]) == ("test", "bad")
    assert isinstance(line["exc_info"], KeyError)


@asynccontextmanager
async def leading(
    stage: Stage, stream: Outbox, *, renew: Rebuild | None = None
) -> AsyncIterator[Keeper]:
    """A keeper that leads what is active now, and does only what the test asks of it."""
    keeper = Keeper(
        stage.pool, stage.projector, backlog=stream, rebuild=Rebuilds(), renew=renew or Rebuilds()
    )
    await keeper.lead_once()
    try:
        yield keeper
    finally:
        await keeper._leadership.give_up()


async def end_at_once(stage: Stage, keeper: Keeper) -> None:
    """The show is over and Redis knows; this keeper hears of it now."""
    await stage.pool.execute("UPDATE offers SET phase = 'closed'")
    await stage.pool.execute(
        "UPDATE shows SET status = 'ended', carried_version = version, retired_at = now()"
    )
    await keeper.lead_once()


@pytest.mark.parametrize("duty", ["_catch_up", "_pulse", "_desk"])
async def test_show_that_ends_before_its_turn_is_left_alone(
    stage: Stage, stream: Outbox, show: ShowId, duty: str
) -> None:
    """Between the listing of a round and the work nobody promises that the show is still there."""
    await on_sale(stage, show)
    async with leading(stage, stream) as keeper:
        await end_at_once(stage, keeper)

        await getattr(keeper, duty)(show)


async def test_show_that_ends_while_its_rehearsal_is_cleared_is_left_alone(
    stage: Stage, stream: Outbox, show: ShowId
) -> None:
    """The rebuild takes a while, and the show may be over after it."""
    await on_sale(stage, show)
    await stage.pool.execute("UPDATE shows SET rehearsed = true")

    async def renew(_: ShowId) -> None:
        await stage.pool.execute("UPDATE shows SET rehearsed = false")
        await end_at_once(stage, keeper)

    async with leading(stage, stream, renew=renew) as keeper:
        await keeper._catch_up(show)

        assert await keeper._all() == []
