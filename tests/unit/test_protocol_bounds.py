"""One connection's state machine, without I/O: what it bounds, in number and in time."""

from collections.abc import Callable

import pytest

from live.protocol import codes
from live.protocol.commands import HistoryResult
from live.protocol.limits import Limits
from live.protocol.session import Session
from tests.support.session_kit import connected, make, rpc

# Bounds


def test_excess_commands_get_111_and_stay_connected() -> None:
    """The bucket's last token is served, the next command is told to come back."""
    line = connected(limits=Limits(commands_burst=3, commands_per_second=1))
    for number in (2, 3, 4):
        line.session.receive(rpc(number))
    line.session.receive(rpc(5))
    assert [command.id for command in line.app.asked] == [2, 3, 4]
    error = line.peer.replies()[0]
    assert error == {
        "id": 5,
        "error": {"code": 111, "message": "too many requests", "temporary": True},
    }

    line.clock.now += 1.0
    line.session.receive(rpc(6))

    assert line.app.asked[-1].id == 6


def test_flood_that_goes_on_closes_3013() -> None:
    """Whoever ignores the answer is cut; 111 itself never counts as a client's error."""
    line = connected(limits=Limits(commands_burst=1, commands_per_second=1, excess_max=30))
    for number in range(2, 33):
        line.session.receive(rpc(number))
        assert line.peer.closed is None
    line.session.receive(rpc(40))
    assert line.peer.closed == codes.FLOOD


def test_flood_of_pongs_closes_3013() -> None:
    """Nobody asked for them: they cost what commands cost, and there is nothing to answer."""
    line = connected(limits=Limits(commands_burst=5, commands_per_second=1, excess_max=30))
    for _ in range(5 + 30):
        line.session.receive(b"{}")
    assert line.peer.closed is None and line.peer.sent == []
    line.session.receive(b"{}")
    assert line.peer.closed == codes.FLOOD


def test_pong_that_answers_a_ping_is_free() -> None:
    """Once a ping, whatever else the bucket has to pay; the next is not asked for."""
    line = connected(limits=Limits(commands_burst=1, commands_per_second=0.001, excess_max=0))
    for _ in range(20):
        line.clock.now = line.session.wake(line.clock.now)
        line.session.wake(line.clock.now)
        line.session.receive(b"{}")
    line.session.receive(b"{}")
    assert line.peer.closed is None
    line.session.receive(b"{}")
    assert line.peer.closed == codes.FLOOD


def test_twenty_errors_in_a_minute_close_3509() -> None:
    """The twentieth error within the window ends it; spread wider they do not."""
    bad = b'{"id":2,"map_publish":{}}'
    line = connected()
    for _ in range(19):
        line.session.receive(bad)
    before = line.peer.closed
    line.session.receive(bad)
    assert (before, line.peer.closed) == (None, codes.TOO_MANY_ERRORS)

    line = connected()
    for _ in range(40):
        line.clock.now += 3.2
        line.session.receive(bad)
    before = line.peer.closed
    line.session.receive(bad)  # however many came before, the last twenty count
    assert (before, line.peer.closed) == (None, codes.TOO_MANY_ERRORS)


@pytest.mark.parametrize(
    "answer",
    [
        lambda session: session.reply_rpc(2, b"{}"),
        lambda session: session.reply(2, HistoryResult((), "e", 0)),
        lambda session: session.fail(2, codes.INTERNAL),
    ],
    ids=["rpc", "reply", "error"],
)
def test_calls_at_once_are_bounded(answer: Callable[[Session], None]) -> None:
    """One more than the bound is told 111; an answer of any kind makes room again, for one."""
    line = connected(limits=Limits(outstanding_max=3))
    for number in (2, 3, 4, 5):
        line.session.receive(rpc(number))
    assert [command.id for command in line.app.asked] == [2, 3, 4]
    assert line.peer.replies()[0]["id"] == 5

    answer(line.session)
    for number in (6, 7):
        line.session.receive(rpc(number))

    assert [command.id for command in line.app.asked] == [2, 3, 4, 6]
    assert line.peer.replies()[-1]["error"]["code"] == codes.TOO_MANY_REQUESTS.code


def test_waiting_commands_are_bounded() -> None:
    """A client that piles up subscriptions behind a slow one is a flood."""
    line = connected(limits=Limits(queued_max=2))
    for number in (2, 3, 4):
        line.session.receive(b'{"id":%d,"subscribe":{"channel":"a"}}' % number)
    assert line.peer.closed is None
    line.session.receive(b'{"id":5,"subscribe":{"channel":"a"}}')
    assert line.peer.closed == codes.FLOOD


# Time


def test_connection_without_connect_closes_3502() -> None:
    """15 s without a valid connect; a moment earlier it is still welcome."""
    line = make()
    due = line.session.wake(line.clock.now)
    assert due == line.clock.now + 15
    assert line.session.wake(due - 0.1) == due
    assert line.session.wake(due) == 0.0
    assert line.peer.closed == codes.STALE


def test_first_ping_is_spread_and_then_regular() -> None:
    """Between half a period and a whole one, so that a mass reconnect does not ping in step."""
    first = []
    for _ in range(50):
        line = connected()
        first.append(line.session.wake(line.clock.now) - line.clock.now)
    assert all(12.5 <= seconds <= 25 for seconds in first)
    assert max(first) - min(first) > 2

    line.clock.now = line.session.wake(line.clock.now)
    line.session.wake(line.clock.now)
    assert line.peer.sent == [b"{}"]
    line.session.receive(b"{}")
    assert line.session.wake(line.clock.now) == line.clock.now + 25


def test_missing_pong_closes_3012() -> None:
    """8 s after the ping; a pong in time keeps the connection."""
    line = connected()
    line.clock.now = line.session.wake(line.clock.now)
    due = line.session.wake(line.clock.now)
    assert due == line.clock.now + 8
    assert line.session.wake(due) == 0.0
    assert line.peer.closed == codes.NO_PONG


def test_expired_token_closes_3005_after_grace() -> None:
    """A refresh is welcome until 25 s after the end; a later end moves the close."""
    line = connected(limits=Limits(ping_seconds=1_000))
    line.session.expire_in(60)
    end = line.clock.now + 85
    assert line.session.wake(end - 0.1) == end
    line.session.expire_in(120)
    assert line.session.wake(end) > end

    line.session.wake(line.clock.now + 145)
    assert line.peer.closed == codes.EXPIRED


def test_errors_are_counted_over_a_whole_minute() -> None:
    """The twentieth at its very end still counts; a moment later the first is forgotten."""
    bad = b'{"id":2,"map_publish":{}}'
    for late, closed in ((60.0, codes.TOO_MANY_ERRORS), (60.001, None)):
        line = connected()
        for _ in range(19):
            line.session.receive(bad)
        line.clock.now += late
        line.session.receive(bad)
        assert line.peer.closed == closed


def test_token_without_an_end_never_expires() -> None:
    """Neither one that never had an end, nor one that was renewed into one."""
    line = connected()
    line.session.expire_in(60)
    line.session.expire_in(None)
    line.clock.now += 10**6
    line.session.wake(line.clock.now)
    assert line.peer.closed != codes.EXPIRED
