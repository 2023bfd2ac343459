"""The door of a rehearsal: its passcode cannot be guessed."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from live.api.join import PASSCODES_BURST, Join
from live.base.errors import Busy, Rehearsing
from live.buying.me import MeView
from live.connection.application import Gateway
from live.domain.caller import Caller
from live.domain.ids import ShowId
from live.domain.show import ShowStatus, passcode_digest
from tests.support.realtime_parts import gateway
from tests.support.sale_kit import viewer
from tests.support.show_states import make_state

PASSCODE = "break a leg"
CREW, GUESSER, NEIGHBOUR = "192.0.2.1", "198.51.100.1", "198.51.100.99"


class Nobody:
    """Nothing belongs to anybody, and nobody is banned."""

    async def view(self, caller: Caller, show: ShowId) -> MeView:
        return MeView()

    async def refuse_banned(self, caller: Caller, show: ShowId) -> None:
        return None


@pytest.fixture
async def made(redis_url: str, show: ShowId) -> AsyncIterator[Gateway]:
    async with gateway(redis_url, show) as opened:
        await rehearse(opened, show)
        yield opened


async def rehearse(made: Gateway, show: ShowId) -> None:
    state = make_state(show, version=1)
    digest = passcode_digest(show, PASSCODE)
    state = replace(state, status=ShowStatus.REHEARSAL, passcode=digest)
    await made.log.publish_state(state, None)


async def enter(join: Join, show: ShowId, passcode: str, address: str | None) -> str:
    """`in`, `wrong` or `too many`."""
    asked = b'{"show": "%b", "passcode": "%b"}' % (show.encode(), passcode.encode())
    try:
        await join.snapshot(viewer(), show, asked, address)
    except Rehearsing:
        return "wrong"
    except Busy as error:
        assert error.temporary
        assert error.retry_ms >= 1_000
        return "too many"
    return "in"


async def test_passcode_is_guessed_so_often_and_no_more(made: Gateway, show: ShowId) -> None:
    """Then not even the right one is told from the wrong; elsewhere nobody notices."""
    join = Join(made.follower, Nobody(), Nobody())
    guesses = [await enter(join, show, f"{number}", GUESSER) for number in range(PASSCODES_BURST)]

    assert guesses == ["wrong"] * PASSCODES_BURST
    assert await enter(join, show, PASSCODE, GUESSER) == "too many"
    assert await enter(join, show, PASSCODE, NEIGHBOUR) == "too many"
    assert await enter(join, show, PASSCODE, CREW) == "in"


async def test_guesses_behind_an_unnamed_proxy_count_together(made: Gateway, show: ShowId) -> None:
    """All viewers are of this machine then; a socket without an address is, too."""
    join = Join(made.follower, Nobody(), Nobody())
    for number in range(PASSCODES_BURST):
        assert await enter(join, show, f"{number}", "127.0.0.1") == "wrong"
    assert await enter(join, show, PASSCODE, None) == "too many"


async def test_who_knows_the_passcode_or_waits_without_one_counts_for_nothing(
    made: Gateway, show: ShowId
) -> None:
    """SDKs of those who wait for the show come back again and again."""
    join = Join(made.follower, Nobody(), Nobody())
    for _ in range(PASSCODES_BURST + 1):
        assert await enter(join, show, "", CREW) == "wrong"
        assert await enter(join, show, PASSCODE, CREW) == "in"
    assert await enter(join, show, "typo", CREW) == "wrong"
    assert await enter(join, show, PASSCODE, CREW) == "in"


async def test_guesses_at_one_show_keep_nobody_out_of_another(made: Gateway, show: ShowId) -> None:
    """Each show counts for itself."""
    other = ShowId(f"{show}-2")
    await rehearse(made, other)
    join = Join(made.follower, Nobody(), Nobody())
    for number in range(PASSCODES_BURST):
        await enter(join, show, f"{number}", GUESSER)
    assert await enter(join, other, PASSCODE, GUESSER) == "in"


async def test_guest_and_nameless_are_told_of_ways_that_are_open_to_them(
    made: Gateway, show: ShowId
) -> None:
    """Invoices are for those who can be held to them."""
    join = Join(made.follower, Nobody(), Nobody(), providers=("sandbox", "invoice"))
    await made.log.publish_state(make_state(show, version=2), None)
    nobody = replace(viewer(), sub="", buyer=None)
    told = [await join.snapshot(one, show) for one in (viewer(guest=True), nobody, viewer())]
    assert [one.providers for one in told] == [("sandbox",), ("sandbox",), ("sandbox", "invoice")]
