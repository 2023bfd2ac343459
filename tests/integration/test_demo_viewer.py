"""A simulated viewer against a scripted server on a real socket: what they repeat, believes,
counts.

The script does what a healthy service does not do on demand: it loses answers, is busy, throws
people out. Method: one viewer, one script, then their record.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from live.tools.demo import purchase
from live.tools.demo.crowd import CrowdShares, Fate, Plan, plan_viewer
from live.tools.demo.stage import Stage
from live.tools.demo.tally import KeyVerdict, Told
from live.tools.demo.viewer import DemoViewer
from tests.support.answers import Json
from tests.support.demo_script import (
    OFFER,
    PATIENCE,
    SHOW,
    SUB,
    Drop,
    Hang,
    Refuse,
    Script,
    server,
    until,
)

PLAN = replace(
    plan_viewer(CrowdShares(), seed=1, index=1, per_buyer_limit=2),
    buys=True,
    qty=1,
    clicks_same_key=1,
    extra_keys=0,
    eager=False,
    waits=False,
    fate=Fate.PAY,
    reaction_ms=0,
    think_ms=0,
    chat_at=(),
    react_at=(),
    drop_at=None,
)


def held(data: Json) -> Json:
    deadline = round(time.time() * 1000) + 5_000
    return {"outcome": "held", "hold": data["key"], "expires_at": deadline}


def confirmed(data: Json) -> Json:
    return {"outcome": "confirmed", "order": "o1", "hold": data["hold"]}


def once(fault: Exception, then: Callable[[Json], Json]) -> Callable[[Json], Json]:
    faults = [fault]

    def answer(data: Json) -> Json:
        if faults:
            raise faults.pop()
        return then(data)

    return answer


@dataclass
class Played:
    stage: Stage
    script: Script

    @property
    def told(self) -> list[Told]:
        return self.stage.told


async def play(
    script: Script, plan: Plan, *, done: Callable[[Stage], object] = lambda stage: stage.told
) -> Played:
    """One viewer through an opening, until `done`; then they leave."""
    async with server(script):
        stage = Stage(
            url=script.url,
            show=SHOW,
            offer=OFFER,
            per_buyer_limit=2,
            sale_seconds=1.0,
            gate=asyncio.Semaphore(1),
        )
        running = asyncio.create_task(DemoViewer(stage, plan, SUB, "token", seed=1).run())
        await asyncio.wait_for(script.joined.wait(), PATIENCE)
        await script.offer("opened", "open")
        await until(lambda: done(stage))
        stage.stop.set()
        await asyncio.wait_for(running, PATIENCE)
        return Played(stage, script)


async def test_buyer_who_pays_is_told_of_an_order() -> None:
    """Click, hold, checkout: one key, one verdict, latencies measured."""
    played = await play(Script({"offer.hold": held, "hold.checkout": confirmed}), PLAN)

    (word,) = played.told
    assert (word.verdict, word.order) == (KeyVerdict.OK, "o1")
    assert [word.key] == played.script.keys("offer.hold")
    tally = played.stage.tally
    assert (tally.held, tally.confirmed, tally.confirmed_units, tally.unknown) == (1, 1, 1, 0)
    assert (tally.fanout.count, tally.hold.count, tally.checkout.count) == (1, 1, 1)


@pytest.mark.parametrize("fault", [Refuse(111), Drop()])
async def test_unanswered_hold_is_repeated_with_its_key(fault: Exception) -> None:
    """Busy or cut off in the middle: the same key again, and one purchase."""
    script = Script({"offer.hold": once(fault, held), "hold.checkout": confirmed})

    played = await play(script, PLAN)

    first, second = script.keys("offer.hold")
    assert first == second
    assert [word.verdict for word in played.told] == [KeyVerdict.OK]
    assert played.stage.tally.held == 1


async def test_opening_that_was_missed_is_recovered_but_not_measured() -> None:
    """A publication from the log starts the purchase and is no latency sample."""
    script = Script({"offer.hold": held, "hold.checkout": confirmed})
    async with server(script):
        stage = Stage(script.url, SHOW, OFFER, 2, 1.0, asyncio.Semaphore(1))
        viewer = DemoViewer(stage, PLAN, SUB, "token", seed=1)
        running = asyncio.create_task(viewer.run())
        await asyncio.wait_for(script.joined.wait(), PATIENCE)
        await until(lambda: stage.tally.connected)
        await script.publish(f"show:{SHOW}", {"type": "announcement", "at": 0, "text": "soon"})
        lines, script.lines = script.lines, set()
        await script.offer("opened", "open")
        for line in lines:
            line.transport.abort()
        await until(lambda: stage.told)
        stage.stop.set()
        await asyncio.wait_for(running, PATIENCE)

    assert len(script.connects) == 2
    assert script.connects[1]["subs"][f"show:{SHOW}"] == {
        "recover": True,
        "epoch": "e",
        "offset": 1,
    }
    assert stage.tally.recovered == 1
    assert stage.tally.fanout.count == 0
    assert [word.verdict for word in stage.told] == [KeyVerdict.OK]


async def test_order_confirmed_by_event_alone_counts() -> None:
    """The checkout's answer is lost; the person's own channel tells, and that is believed."""
    script = Script({"offer.hold": held})
    tasks = set()

    def processing(data: Json) -> Json:
        order = {"order": "o7", "hold": data["hold"], "state": "confirmed"}
        event = {"type": "order.confirmed", "at": 0, "order": order}
        tasks.add(asyncio.create_task(script.publish(f"#{SUB}", event)))
        return {"outcome": "processing", "hold": data["hold"]}

    script.on["hold.checkout"] = processing

    played = await play(script, PLAN)

    assert [(word.verdict, word.order) for word in played.told] == [(KeyVerdict.OK, "o7")]
    assert played.stage.tally.confirmed == 1


async def test_checkout_that_stays_open_is_repeated_with_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is heard after `processing`: the same attempt again, which tells how it ended."""
    monkeypatch.setattr(purchase, "PROCESSING_SECONDS", 0.05)
    answers = [{"outcome": "declined"}, {"outcome": "processing"}]
    script = Script(
        {
            "offer.hold": held,
            "hold.checkout": lambda data: answers.pop(),
            "hold.release": lambda data: {"outcome": "released"},
        }
    )

    played = await play(script, replace(PLAN, fate=Fate.DECLINE))

    first, second = script.keys("hold.checkout")
    assert first == second
    assert played.stage.tally.declined == 1
    assert [word.verdict for word in played.told] == [KeyVerdict.REFUSED]


async def test_order_is_looked_up_where_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice `processing` and no word: `order.get` by the hold is the last question."""
    monkeypatch.setattr(purchase, "PROCESSING_SECONDS", 0.05)
    script = Script(
        {
            "offer.hold": held,
            "hold.checkout": lambda data: {"outcome": "processing"},
            "order.get": lambda data: {"order": "o3", "hold": data["hold"], "state": "paid"},
        }
    )

    played = await play(script, PLAN)

    assert [(word.verdict, word.order) for word in played.told] == [(KeyVerdict.OK, "o3")]


async def test_declined_buyer_gives_his_units_back() -> None:
    """A refused card is counted once, the hold is released, the verdict is no."""
    script = Script(
        {
            "offer.hold": held,
            "hold.checkout": lambda data: {"outcome": "declined", "hold": data["hold"]},
            "hold.release": lambda data: {"outcome": "released"},
        }
    )

    played = await play(script, replace(PLAN, fate=Fate.DECLINE))

    assert [(word.verdict, word.outcome) for word in played.told] == [
        (KeyVerdict.REFUSED, "released")
    ]
    assert played.stage.tally.declined == 1
    assert script.keys("hold.release") == script.keys("offer.hold")


async def test_sold_out_buyer_pays_what_the_waitlist_grants() -> None:
    """Refused, then in line under a key of its own, granted, paid."""
    script = Script(
        {
            "offer.hold": lambda data: {"outcome": "sold_out", "offer": OFFER, "left": 0},
            "hold.checkout": confirmed,
        }
    )
    tasks = set()

    def join(data: Json) -> Json:
        event = {"type": "hold.granted", "at": 0, "hold": {"hold": data["key"]}}
        tasks.add(asyncio.create_task(script.publish(f"#{SUB}", event)))
        return {"outcome": "waitlisted", "position": 1}

    script.on["waitlist.join"] = join

    played = await play(script, replace(PLAN, waits=True), done=lambda stage: len(stage.told) == 2)

    assert {word.verdict for word in played.told} == {KeyVerdict.OK, KeyVerdict.REFUSED}
    assert script.keys("waitlist.join") != script.keys("offer.hold")
    tally = played.stage.tally
    assert (tally.refused, tally.waitlisted, tally.granted, tally.confirmed) == (1, 1, 1, 1)


async def test_units_beyond_the_limit_are_noticed() -> None:
    """A server that lets a buyer hold more than the limit is found out by the buyer themselves."""
    script = Script({"offer.hold": held, "hold.checkout": confirmed})

    played = await play(
        script, replace(PLAN, qty=2, extra_keys=1), done=lambda stage: len(stage.told) == 2
    )

    assert played.stage.tally.over_limit == 1


async def test_double_click_is_one_hold() -> None:
    """Two clicks with one key are two requests, one hold and one verdict."""
    script = Script({"offer.hold": held, "hold.checkout": confirmed})

    played = await play(script, replace(PLAN, clicks_same_key=2))

    first, second = script.keys("offer.hold")
    assert first == second
    assert (played.stage.tally.clicks, played.stage.tally.held) == (2, 1)
    assert len(played.told) == 1


async def test_error_is_a_refusal_and_not_repeated() -> None:
    """A plain error ends the purchase: no repeat, nothing unknown."""

    def broken(data: Json) -> Json:
        raise Refuse(1404)

    played = await play(Script({"offer.hold": broken}), PLAN)

    assert [(word.verdict, word.outcome) for word in played.told] == [
        (KeyVerdict.REFUSED, "error 1404")
    ]
    assert len(played.script.asked) == 1


async def test_hold_without_an_end_is_unknown() -> None:
    """Told to stop with a question open, the viewer says that they do not know."""

    def silent(data: Json) -> Json:
        raise Hang

    script = Script({"offer.hold": silent})

    played = await play(script, PLAN, done=lambda stage: script.asked)

    assert [(word.verdict, word.outcome) for word in played.told] == [
        (KeyVerdict.UNKNOWN, "unfinished")
    ]


async def test_viewer_thrown_out_for_good_stays_out() -> None:
    """After a close code that forbids it nobody reconnects."""
    script = Script(reject=3500)
    async with server(script):
        stage = Stage(script.url, SHOW, OFFER, 2, 1.0, asyncio.Semaphore(1))
        await asyncio.wait_for(DemoViewer(stage, PLAN, SUB, "token", seed=1).run(), PATIENCE)

    assert len(script.connects) == 1
    assert stage.tally.failures["closed 3500"] == 1
