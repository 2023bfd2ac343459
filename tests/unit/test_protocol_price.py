"""What commands cost by the size of their answers: a short question for a long log is no lever."""

import json

from msgspec import Raw

from live.protocol.codes import FLOOD
from live.protocol.commands import HistoryResult, Publication, SubscribeResult
from live.protocol.limits import Limits
from tests.support.session_kit import Line, connected, rpc

LIMITS = Limits(commands_burst=100.0, commands_per_second=10.0)
UNIT = LIMITS.reply_bytes_per_command


def history(number: int, limit: int) -> bytes:
    return b'{"id":%d,"history":{"channel":"a","limit":%d}}' % (number, limit)


def accepted(line: Line) -> int:
    """How many commands the application was asked, before they are refused."""
    return len(line.app.asked)


def test_history_is_paid_by_what_it_asks_for() -> None:
    """In advance: many long ones at once are refused although none was read yet."""
    line = connected(limits=LIMITS)
    for number in range(2, 10):
        line.session.receive(history(number, 100))  # 26 each
    assert accepted(line) == 3
    assert {reply["id"] for reply in line.peer.replies()} == set(range(5, 10))
    line.session.receive(rpc(20))  # what is left is enough for others
    assert accepted(line) == 4


def test_history_without_a_limit_costs_as_much_as_the_longest() -> None:
    """-1 asks for all there is; no price is more than a whole bucket."""
    for limit in (-1, 300, 10**9):
        line = connected(limits=Limits(commands_burst=80.0))
        line.session.receive(history(2, limit))
        line.session.receive(history(3, 8))
        assert accepted(line) == 2
        line.session.receive(history(4, 8))
        assert accepted(line) == 2


def test_position_alone_costs_as_any_command() -> None:
    """A limit of 0 asks for no entry."""
    line = connected(limits=LIMITS)
    for number in range(2, 102):
        line.session.receive(history(number, 0))
        line.session.reply(number, HistoryResult((), "e", 1))
    assert accepted(line) == 100


def test_long_answers_cost_what_they_take_to_send() -> None:
    """After them commands wait until the bucket has filled again; short ones are free."""
    line = connected(limits=LIMITS)
    line.session.receive(rpc(2))
    line.session.reply_rpc(2, json.dumps("x" * 150 * UNIT).encode())

    line.session.receive(rpc(3))
    assert accepted(line) == 1
    line.clock.now += 5.2  # 99 - 150 + 52
    line.session.receive(rpc(4))
    assert accepted(line) == 2
    line.session.reply_rpc(4, b"1" * (UNIT // 2))
    line.clock.now += 0.1
    line.session.receive(rpc(5))
    assert accepted(line) == 3


def test_commands_that_waited_are_refused_behind_a_long_answer() -> None:
    """They were paid for when nobody knew what the first would cost."""
    line = connected(limits=LIMITS)
    asked = b"\n".join(b'{"id":%d,"subscribe":{"channel":"c%d"}}' % (n, n) for n in (2, 3, 4))
    line.session.receive(asked)
    missed = Publication(Raw(json.dumps("x" * 200 * UNIT).encode()), 1)

    line.session.finish(2, SubscribeResult(recovered=True, publications=(missed,)))

    codes = [reply.get("error", {}).get("code") for reply in line.peer.replies()]
    assert codes == [None, 111, 111]
    assert line.peer.closed is None


def test_who_goes_on_in_debt_is_cut_off() -> None:
    """As for any other flood."""
    line = connected(limits=Limits(commands_burst=10.0, excess_max=5))
    line.session.receive(rpc(2))
    line.session.reply_rpc(2, json.dumps("x" * 50 * UNIT).encode())
    for number in range(3, 9):
        line.session.receive(rpc(number))
    assert line.peer.closed == FLOOD
