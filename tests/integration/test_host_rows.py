"""Shows and offers in a real Postgres: one transaction a command, no unit allotted twice."""

import asyncio
from dataclasses import replace

import pytest

from live.base.errors import CallError, Conflict, NotFound
from live.domain.ids import OfferId, ShowId, Sku
from live.domain.offer import Phase
from live.domain.show import Announcement, ShowStatus, passcode_digest
from live.ledger.db.pool import Pool
from live.ledger.hosting import actions
from live.ledger.hosting.catalogue import Catalogue
from live.ledger.hosting.offer_rows import NewOffer, OfferRows
from live.ledger.hosting.shows import ShowPatch, ShowRows
from live.ledger.money.payments import PaymentRows
from live.ledger.settle.rebuild import raise_epoch
from tests.support.ledger_kit import new_buyer, new_payment
from tests.support.shows_kit import HOST, new_show, offer, product, set_stage, terms_of

LAMP = Sku("lamp")


async def prepare(pool: Pool, show: ShowId, new: NewOffer) -> OfferId:
    await set_stage(pool, show)
    await OfferRows(pool).create(show, new, HOST)
    return new.id


async def allotted(pool: Pool) -> int:
    return (await Catalogue(pool).get(LAMP)).allotted


async def move_clock_past(pool: Pool, column: str, name: OfferId) -> None:
    """Postgres' clock is the judge, so a test moves the deadline instead of waiting for it."""
    await pool.execute(f"UPDATE offers SET {column} = now() - interval '1 ms' WHERE id = $1", name)


async def test_new_show_is_scheduled_and_taken_once(pool: Pool, show: ShowId) -> None:
    """A show starts at version 1; its id cannot be taken again."""
    state = await ShowRows(pool).create(new_show(show), HOST)

    assert (state.status, state.version, state.offers) == (ShowStatus.SCHEDULED, 1, ())
    with pytest.raises(Conflict):
        await ShowRows(pool).create(new_show(show), HOST)


async def test_show_goes_through_its_states_and_no_others(pool: Pool, show: ShowId) -> None:
    """start, pause, resume, end; each only from the state before it."""
    rows = ShowRows(pool)
    await rows.create(new_show(show), HOST)

    for refused in (rows.pause, rows.resume):
        with pytest.raises(Conflict):
            await refused(show, HOST)
    assert (await rows.start(show, HOST)).status is ShowStatus.LIVE
    with pytest.raises(Conflict):
        await rows.start(show, HOST)
    assert (await rows.pause(show, HOST)).status is ShowStatus.PAUSED
    assert (await rows.resume(show, HOST)).status is ShowStatus.LIVE
    assert (await rows.end(show, HOST)).status is ShowStatus.ENDED
    with pytest.raises(Conflict):
        await rows.end(show, HOST)


async def test_command_on_an_unknown_show_is_not_found(pool: Pool, show: ShowId) -> None:
    """No row, no log entry, an error that says so."""
    with pytest.raises(NotFound):
        await ShowRows(pool).start(show, HOST)


async def test_every_command_is_one_version_and_one_action(pool: Pool, show: ShowId) -> None:
    """The audit log has a row per command, chained; a refused command leaves neither."""
    name = await prepare(pool, show, offer(duration=60))
    shows, offers = ShowRows(pool), OfferRows(pool)
    steps = [
        shows.start(show, HOST),
        shows.patch(show, ShowPatch(title="Later"), HOST),
        shows.set_run_order(show, [LAMP], HOST),
        shows.pin(show, [LAMP], HOST),
        shows.announce(show, "Hello", None, HOST),
        offers.open(name, HOST),
        offers.pause(name, HOST),
        offers.resume(name, HOST),
        offers.extend(name, 30, HOST),
        offers.restock(name, 1, HOST),
        offers.close(name, HOST),
        shows.end(show, HOST),
    ]

    versions = [(await step).version for step in steps]
    with pytest.raises(Conflict):
        await offers.open(name, HOST)

    assert versions == list(range(3, 3 + len(steps)))
    async with pool.acquire() as connection:
        logged = await actions.read(connection, show)
        assert await actions.verify(connection, show) is None
    assert [one.action for one in logged] == [
        "show.create",
        "offer.create",
        "show.start",
        "show.patch",
        "show.run_order",
        "show.pin",
        "show.announce",
        "offer.open",
        "offer.pause",
        "offer.resume",
        "offer.extend",
        "offer.restock",
        "offer.close",
        "show.end",
    ]
    assert {one.caller for one in logged} == {HOST.sub}


async def test_two_offers_never_share_a_unit(pool: Pool, show: ShowId) -> None:
    """Ten units, eight offers of three at once: three get theirs, the rest a conflict."""
    await set_stage(pool, show, on_hand=10)
    offers = OfferRows(pool)

    async def attempt() -> bool:
        try:
            await offers.create(show, offer(quantity=3), HOST)
        except Conflict:
            return False
        return True

    made = await asyncio.gather(*(attempt() for _ in range(8)))

    view = await Catalogue(pool).get(LAMP)
    assert (sum(made), view.allotted, view.available) == (3, 9, 1)
    slots = await pool.fetch("SELECT slot FROM offers WHERE show = $1 ORDER BY slot", show)
    assert [row["slot"] for row in slots] == [0, 1, 2]


async def test_restock_takes_no_more_than_is_available(pool: Pool, show: ShowId) -> None:
    """Up to the last free unit, and not one further."""
    name = await prepare(pool, show, offer(quantity=6))
    offers = OfferRows(pool)

    with pytest.raises(Conflict):
        await offers.restock(name, 5, HOST)
    state = await offers.restock(name, 4, HOST)

    assert (terms_of(state, name).quantity, terms_of(state, name).allotted) == (10, 10)
    assert (await Catalogue(pool).get(LAMP)).available == 0


async def test_offer_without_countdown_opens_at_once(pool: Pool, show: ShowId) -> None:
    """`closes_at` is absolute: opening plus duration, by Postgres' clock."""
    name = await prepare(pool, show, offer(duration=90))

    terms = terms_of(await OfferRows(pool).open(name, HOST), name)

    assert terms.phase is Phase.OPEN
    assert terms.opens_at is not None and terms.closes_at == terms.opens_at + 90_000


async def test_offer_with_countdown_is_scheduled_and_opened_by_the_clock(
    pool: Pool, show: ShowId
) -> None:
    """Not due: nothing moves and nothing is logged. Due: open, once."""
    name = await prepare(pool, show, offer(countdown=300))
    offers = OfferRows(pool)
    scheduled = terms_of(await offers.open(name, HOST), name)

    assert scheduled.phase is Phase.SCHEDULED
    assert await offers.due() == []
    assert await offers.advance(show) is None
    await move_clock_past(pool, "opens_at", name)
    assert await offers.due() == [show]
    opened = await offers.advance(show)
    assert opened is not None and terms_of(opened, name).phase is Phase.OPEN
    assert terms_of(opened, name).version == scheduled.version + 1
    assert await offers.advance(show) is None


async def test_second_open_skips_the_countdown(pool: Pool, show: ShowId) -> None:
    """A host who cannot wait presses again."""
    name = await prepare(pool, show, offer(countdown=300))
    await OfferRows(pool).open(name, HOST)

    assert terms_of(await OfferRows(pool).open(name, HOST), name).phase is Phase.OPEN


async def test_offer_closes_by_the_clock(pool: Pool, show: ShowId) -> None:
    """Its units stay allotted: only the settler knows what was sold."""
    name = await prepare(pool, show, offer(duration=60))
    await OfferRows(pool).open(name, HOST)
    await move_clock_past(pool, "closes_at", name)

    state = await OfferRows(pool).advance(show)

    assert state is not None
    assert (terms_of(state, name).phase, terms_of(state, name).allotted) == (Phase.CLOSING, 5)


async def test_draft_that_is_closed_gives_its_units_back(pool: Pool, show: ShowId) -> None:
    """Nobody could buy it, so it goes straight to closed."""
    name = await prepare(pool, show, offer(quantity=6))

    state = await OfferRows(pool).close(name, HOST)

    assert (terms_of(state, name).phase, terms_of(state, name).allotted) == (Phase.CLOSED, 0)
    assert (await Catalogue(pool).get(LAMP)).available == 10


async def test_end_of_a_show_closes_every_offer(pool: Pool, show: ShowId) -> None:
    """What was on sale closes in order, drafts are given back at once."""
    open_one, draft = offer(quantity=2), offer(quantity=3)
    await set_stage(pool, show)
    offers = OfferRows(pool)
    for new in (open_one, draft):
        await offers.create(show, new, HOST)
    await offers.open(open_one.id, HOST)

    state = await ShowRows(pool).end(show, HOST)

    assert terms_of(state, open_one.id).phase is Phase.CLOSING
    assert terms_of(state, draft.id).phase is Phase.CLOSED
    assert (await Catalogue(pool).get(LAMP)).allotted == 2
    with pytest.raises(Conflict):
        await offers.create(show, offer(quantity=1), HOST)


async def test_freeze_refuses_configuration_and_lets_prepared_offers_run(
    pool: Pool, show: ShowId
) -> None:
    """During the peak only what was prepared is used; the switch itself goes back."""
    name = await prepare(pool, show, offer(duration=60))
    shows, offers = ShowRows(pool), OfferRows(pool)
    await shows.patch(show, ShowPatch(frozen=True), HOST)

    refused = (
        offers.create(show, offer(quantity=1), HOST),
        shows.patch(show, ShowPatch(title="Other"), HOST),
        shows.set_run_order(show, [LAMP], HOST),
    )
    for call in refused:
        with pytest.raises(Conflict):
            await call
    await shows.patch(show, ShowPatch(slow_mode_seconds=5), HOST)
    await offers.open(name, HOST)
    await offers.close(name, HOST)
    state = await shows.patch(show, ShowPatch(frozen=False), HOST)

    assert (state.frozen, state.slow_mode_seconds, state.title) == (False, 5, "Friday drop")


async def test_extension_needs_a_closing_time_within_a_day(pool: Pool, show: ShowId) -> None:
    """An offer that has none cannot be extended, and none for more than a day ahead."""
    endless, timed = offer(quantity=1), offer(quantity=1, duration=60)
    await set_stage(pool, show)
    offers = OfferRows(pool)
    for new in (endless, timed):
        await offers.create(show, new, HOST)
        await offers.open(new.id, HOST)

    for name, seconds in ((endless.id, 10), (timed.id, 86_400)):
        with pytest.raises(Conflict):
            await offers.extend(name, seconds, HOST)
    before = terms_of(await ShowRows(pool).read_state(show), timed.id)
    after = terms_of(await offers.extend(timed.id, 45, HOST), timed.id)

    assert before.closes_at is not None and after.closes_at == before.closes_at + 45_000


async def test_offer_needs_a_product_of_the_shows_currency(pool: Pool, show: ShowId) -> None:
    """1900 cents and 1900 yen are not the same price."""
    await set_stage(pool, show)
    await Catalogue(pool).create(product("fan", currency="JPY"))

    with pytest.raises(Conflict, match="JPY"):
        await OfferRows(pool).create(show, offer("fan"), HOST)
    with pytest.raises(NotFound):
        await OfferRows(pool).create(show, offer("ghost"), HOST)


async def test_unknown_products_cannot_be_pinned_or_ordered(pool: Pool, show: ShowId) -> None:
    """A run order names products that exist, each once."""
    await set_stage(pool, show)
    rows = ShowRows(pool)

    for call in (
        rows.pin(show, [Sku("ghost")], HOST),
        rows.set_run_order(show, [LAMP, Sku("ghost")], HOST),
        rows.set_run_order(show, [LAMP, LAMP], HOST),
    ):
        with pytest.raises(CallError):
            await call

    assert (await rows.read_state(show)).run_order == ()


async def test_announcement_is_set_and_taken_down(pool: Pool, show: ShowId) -> None:
    """An empty text takes the bar down."""
    rows = ShowRows(pool)
    await rows.create(new_show(show), HOST)

    state = await rows.announce(show, "Two minutes!", 1_900_000_000_123, HOST)
    assert state.announcement == Announcement("Two minutes!", 1_900_000_000_123)
    assert (await rows.announce(show, "", None, HOST)).announcement is None


async def test_draft_is_edited_and_its_units_follow(pool: Pool, show: ShowId) -> None:
    """Price, units and duration of a draft; the product gives or gets the difference."""
    await set_stage(pool, show, on_hand=10)
    offers, new = OfferRows(pool), offer(quantity=5)
    await offers.create(show, new, HOST)

    more = await offers.edit(new.id, {"quantity": 8, "price_minor": 700}, HOST)
    assert (terms_of(more, new.id).allotted, await allotted(pool)) == (8, 8)
    less = await offers.edit(new.id, {"quantity": 2, "duration_seconds": None}, HOST)
    terms = terms_of(less, new.id)
    assert (terms.quantity, terms.allotted, terms.price_minor) == (2, 2, 700)
    with pytest.raises(Conflict):
        await offers.edit(new.id, {"quantity": 11}, HOST)

    assert await allotted(pool) == 2
    moved = await pool.fetch("SELECT kind, qty FROM stock_movements WHERE offer = $1", new.id)
    assert sum(row["qty"] for row in moved) == 2
    await offers.open(new.id, HOST)
    with pytest.raises(Conflict):
        await offers.edit(new.id, {"price_minor": 1}, HOST)


async def test_sold_out_by_its_host_sells_on_after_resume(pool: Pool, show: ShowId) -> None:
    """It is paused and says "sold out"; resuming takes the word back."""
    await set_stage(pool, show)
    offers, new = OfferRows(pool), offer()
    await offers.create(show, new, HOST)
    with pytest.raises(Conflict):
        await offers.mark_sold_out(new.id, HOST)
    await offers.open(new.id, HOST)

    marked = terms_of(await offers.mark_sold_out(new.id, HOST), new.id)
    resumed = terms_of(await offers.resume(new.id, HOST), new.id)

    assert (marked.phase, marked.sold_out) == (Phase.PAUSED, True)
    assert (resumed.phase, resumed.sold_out) == (Phase.OPEN, False)


async def test_announcement_ends_by_the_clock(pool: Pool, show: ShowId) -> None:
    """The keeper takes it down when its time is over; one without an end stays."""
    rows, offers = ShowRows(pool), OfferRows(pool)
    await rows.create(new_show(show), HOST)
    await rows.announce(show, "for ever", None, HOST)
    assert await offers.due() == []
    await rows.announce(show, "a moment", 1_000, HOST)

    assert await offers.due() == [show]
    state = await offers.advance(show)

    assert state is not None and state.announcement is None
    assert await offers.due() == [] and await offers.advance(show) is None


async def test_start_time_is_told_and_moved(pool: Pool, show: ShowId) -> None:
    """Viewers of a scheduled show count down to it."""
    rows = ShowRows(pool)
    state = await rows.create(replace(new_show(show), starts_at=1_900_000_000_000), HOST)
    assert state.starts_at == 1_900_000_000_000
    moved = await rows.patch(show, ShowPatch(starts_at=1_900_000_000_123), HOST)
    assert moved.starts_at == 1_900_000_000_123
    assert (await rows.patch(show, ShowPatch(title="x"), HOST)).starts_at == moved.starts_at


async def test_no_payment_is_written_in_a_rehearsal(pool: Pool, show: ShowId) -> None:
    """The ledger itself refuses, whatever a gateway believes, until the rehearsal is cleared."""
    await set_stage(pool, show)
    rows, payments = ShowRows(pool), PaymentRows(pool)
    buyer = new_buyer()
    await rows.patch(show, ShowPatch(rehearsal_passcode="x"), HOST)
    await rows.rehearse(show, HOST)

    with pytest.raises(Conflict):
        await payments.open_payment(new_payment(show, buyer))
    await rows.end(show, HOST)
    with pytest.raises(Conflict):
        await payments.open_payment(new_payment(show, buyer))
    assert await pool.fetchval("SELECT count(*) FROM payments") == 0
    await raise_epoch(pool, show)
    assert (await payments.open_payment(new_payment(show, buyer))).fresh


async def test_passcode_stays_out_of_state_and_log(pool: Pool, show: ShowId) -> None:
    """The state travels through Redis and the log to hosts; neither needs the secret itself."""
    rows = ShowRows(pool)
    await rows.create(new_show(show), HOST)

    state = await rows.patch(show, ShowPatch(rehearsal_passcode="opensesame"), HOST)

    assert state.passcode == passcode_digest(show, "opensesame")
    assert "opensesame" not in repr(state)
    async with pool.acquire() as connection:
        logged = await actions.read(connection, show)
    assert "opensesame" not in "".join(one.detail for one in logged)


async def test_commands_at_once_follow_each_other(pool: Pool, show: ShowId) -> None:
    """Twenty pins at once: twenty versions, twenty rows, an unbroken chain."""
    await set_stage(pool, show)
    rows = ShowRows(pool)

    states = await asyncio.gather(*(rows.pin(show, [LAMP], HOST) for _ in range(20)))

    assert sorted(state.version for state in states) == list(range(2, 22))
    async with pool.acquire() as connection:
        assert await actions.verify(connection, show) is None


async def test_active_shows_are_those_with_work_left(pool: Pool, show: ShowId) -> None:
    """An ended show stays until its offers are closed, Redis knows its end and forgets it."""
    name = await prepare(pool, show, offer())
    shows = ShowRows(pool)

    async def active() -> list[tuple[bool, bool, bool]]:
        return [(one.selling, one.running, one.over) for one in await shows.active()]

    assert await active() == [(False, False, False)]
    await shows.note_carried(show, (await shows.read_state(show)).version)
    assert await active() == []  # it only waits
    await shows.start(show, HOST)
    await OfferRows(pool).open(name, HOST)
    assert await active() == [(True, True, False)]
    await shows.end(show, HOST)
    assert await active() == [(True, False, False)]
    await pool.execute("UPDATE offers SET phase = 'closed', allotted = 0")
    assert await active() == [(False, False, False)]
    await shows.note_carried(show, (await shows.read_state(show)).version)
    assert await active() == [(False, False, True)]
    await shows.note_retired(show, 1)
    assert await active() == []
