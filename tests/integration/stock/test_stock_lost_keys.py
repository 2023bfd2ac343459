"""Between the loss of one key of a show and its rebuild nothing is decided.

Whoever counts on what is gone lets buyers have more than they may, and the rebuild that comes after
makes it last. So each script refuses as soon as one of its keys is missing, whichever it is.
"""

from dataclasses import replace

import pytest

from live.base.errors import Busy
from live.domain.hold import Line
from live.domain.ids import ShowId
from live.domain.outcomes import Outcome
from live.redis.scripts import read_scripts
from live.stock.engine import StockEngine
from live.stock.keys import ShowKeys, show_keys
from tests.integration.stock.test_stock_life import Question
from tests.support.servers import Valkey
from tests.support.stock_kit import buyer, key, one, terms

FREE, MINE, PAYS, PAID = 0, key(), key(), key()
FULL = 1
STEPS: dict[str, Question] = {
    "apply": lambda engine, show: engine.apply_offer(terms(show, FREE, allotted=20, version=9)),
    "begin": lambda engine, show: engine.begin(show, buyer(1), MINE, window_ms=1),
    "buyer": lambda engine, show: engine.buyer_state(show, buyer(1)),
    "cancel": lambda engine, show: engine.cancel(show, buyer(3), PAID, payment="p"),
    "close": lambda engine, show: engine._run("close", show),
    "confirm": lambda engine, show: engine.confirm(show, buyer(2), PAYS, one(), payment="p"),
    "drain": lambda engine, show: engine._run("drain", show),
    "figures": lambda engine, show: engine.figures(show),
    "hold": lambda engine, show: engine.hold(show, buyer(9), key(), one()),
    "join": lambda engine, show: engine.join_waitlist(show, buyer(9), key(), Line(FULL, 1)),
    "leave": lambda engine, show: engine.leave_waitlist(show, buyer(4), FULL),
    "look": lambda engine, show: engine.look_at_line(show, buyer(9), key(), Line(FULL, 1)),
    "peek": lambda engine, show: engine.peek(show, buyer(9), key(), one()),
    "reap": lambda engine, show: engine.reap(show),
    "refuse": lambda engine, show: engine.refuse(show, buyer(9), key(), one(), payment="p"),
    "release": lambda engine, show: engine.release(show, buyer(1), MINE),
    "retake": lambda engine, show: engine.retake(show, buyer(9), key(), one(), payment="p"),
    "revert": lambda engine, show: engine.revert(show, buyer(2), PAYS, held_until=1),
    "sell": lambda engine, show: engine.sell(show, buyer(9), key(), one(), payment="p"),
}
OF_A_LIFE = {"install", "swap", "stop", "trim", "forget", "retire"}
READ_ALONE = {"buyer": {"buyers", "wait"}, "peek": {"buyers", "deadlines"}}
READ_ALONE["refuse"] = {"buyers", "refused"}
READ_ALONE["hold"] = {"buyers", "outbox", "deadlines", "guests"}
SELLING = {"cancel", "confirm", "figures", "retake", "sell"}
WORK = {"buyers", "outbox", "deadlines", "wait", "guests"}
COUNTED = {"meta", "offers"}
"""Keys that are told by what they say: test_stock_life.py."""

CASES = [
    (step, lost)
    for step in STEPS
    for lost in sorted(READ_ALONE.get(step, WORK | ({"refused"} if step in SELLING else set())))
]


def test_every_deciding_script_has_a_step() -> None:
    """A new script, or a new key, must be asked here, too."""
    assert STEPS.keys() == set(read_scripts("live.stock")) - OF_A_LIFE
    assert {lost for _, lost in CASES} | COUNTED == set(ShowKeys.__slots__)


async def prepare(engine: StockEngine, show: ShowId) -> None:
    """A hold (1), one being paid (2), a sale (3) and a place in the line (4)."""
    await engine.apply_offer(terms(show, FREE))
    await engine.apply_offer(terms(show, FULL, allotted=1))
    await engine.hold(show, buyer(8), key(), one(FULL))
    for who, mine in ((1, MINE), (2, PAYS), (3, PAID)):
        await engine.hold(show, buyer(who), mine, one())
    for who, mine in ((2, PAYS), (3, PAID)):
        await engine.begin(show, buyer(who), mine, window_ms=60_000)
    await engine.confirm(show, buyer(3), PAID, one(), payment="q")
    await engine.join_waitlist(show, buyer(4), key(), Line(FULL, 1))


async def contents(engine: StockEngine, show: ShowId) -> list[object]:
    names = [getattr(show_keys(show), name) for name in ShowKeys.__slots__]
    return [await engine._calls.send(b"DUMP", name) for name in names]


@pytest.mark.parametrize(("step", "lost"), CASES)
async def test_nothing_is_decided_while_a_key_is_lost(
    engine: StockEngine, show: ShowId, step: str, lost: str
) -> None:
    """Every script, for every key that it reads or writes."""
    await prepare(engine, show)
    await engine._calls.send(b"DEL", getattr(show_keys(show), lost))
    before = await contents(engine, show)

    with pytest.raises(Busy):
        await STEPS[step](engine, show)

    assert await contents(engine, show) == before


@pytest.mark.parametrize("lost", ["buyers", "guests", "deadlines", "outbox"])
async def test_batch_of_a_crowd_is_refused_at_once(
    engine: StockEngine, show: ShowId, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not asked of Redis again and again until the buyers' time is up."""
    await prepare(engine, show)
    await engine._calls.send(b"DEL", getattr(show_keys(show), lost))
    monkeypatch.setattr("live.stock.batcher.DEADLINE_SECONDS", 600.0)
    monkeypatch.setattr("live.stock.batcher.ATTEMPT_SECONDS", 600.0)

    for who in range(20, 23):  # the lanes are free again
        with pytest.raises(Busy):
            await engine.hold(show, buyer(who), key(), one())


async def test_loss_is_told_with_the_life_that_it_was_seen_in(
    stock_server: Valkey, show: ShowId
) -> None:
    """By batches and by single calls; never for a show that is only being rebuilt."""
    told: list[tuple[ShowId, int]] = []
    engine = StockEngine(stock_server.url, on_lost=lambda show, epoch: told.append((show, epoch)))
    await engine.open()
    await engine.install_show(show, stock_epoch=3)
    await prepare(engine, show)
    await engine.stop_show(show)
    for step in ("hold", "begin"):
        with pytest.raises(Busy):
            await STEPS[step](engine, show)
    assert told == []

    other = ShowId(f"{show}-other")
    await engine.install_show(other, stock_epoch=4)
    await prepare(engine, other)
    await engine._calls.send(b"DEL", show_keys(other).buyers)
    for step in ("hold", "begin"):
        with pytest.raises(Busy):
            await STEPS[step](engine, other)
    await engine.close()

    assert told == [(other, 4), (other, 4)]


async def test_limit_of_a_buyer_outlives_the_loss_of_his_records(
    engine: StockEngine, show: ShowId
) -> None:
    """Who bought what they may is not sold as much again before their records are back."""
    await engine.apply_offer(terms(show, per_buyer_limit=2))
    await engine.hold(show, buyer(1), MINE, one(qty=2))
    answer = await engine.hold(show, buyer(1), key(), one())
    assert answer.outcome is Outcome.LIMIT_REACHED

    await engine._calls.send(b"DEL", show_keys(show).buyers)

    with pytest.raises(Busy):
        await engine.hold(show, buyer(1), key(), one(qty=2))


@pytest.mark.parametrize("left", ["buyers", "outbox", "offers", "refused"])
async def test_show_is_not_installed_over_what_is_left_of_it(
    engine: StockEngine, show: ShowId, left: str
) -> None:
    """Where only its head was lost it is made again with a new life: its counter starts over."""
    await prepare(engine, show)
    keys = show_keys(show)
    gone = set(ShowKeys.__slots__) - {left}
    await engine._calls.send(b"DEL", *(getattr(keys, name) for name in gone))

    with pytest.raises(Busy):
        await engine.install_show(show, stock_epoch=1)

    await engine._calls.send(b"DEL", getattr(keys, left))
    await engine.install_show(show, stock_epoch=1)
    await engine.apply_offer(replace(terms(show), version=2))
