"""One connection's state machine, without I/O: what it answers and how it ends."""

import json
from collections.abc import Callable

import pytest
from msgspec import Raw

from live.protocol import codes
from live.protocol.codec_json import JSON
from live.protocol.codec_protobuf import PROTOBUF
from live.protocol.codes import Close
from live.protocol.commands import (
    Command,
    ConnectResult,
    HistoryResult,
    RpcRequest,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribeRequest,
    UnsubscribeResult,
)
from live.protocol.limits import Limits
from live.protocol.session import Session
from tests.support.session_kit import CONNECT, Application, connected, make, rpc

# Frames


@pytest.mark.parametrize(
    "frame",
    [
        rpc(1),
        b'{"id":1,"subscribe":{"channel":"a"}}',
        b'{"send":{"data":1}}',
        b'{"id":1,"later_command":{}}',
        b"{}",
    ],
)
def test_command_before_connect_closes_3501(frame: bytes) -> None:
    """Whatever comes first must be a connect."""
    line = make()
    line.session.receive(frame)
    assert line.peer.closed == codes.BAD_FRAME
    assert line.app.asked == []


def test_second_connect_closes_3501() -> None:
    """A connection connects once."""
    line = connected()
    line.session.receive(CONNECT)
    assert line.peer.closed == codes.BAD_FRAME


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\n",
        b"garbage",
        b"[]",
        b"5",
        b'{"connect":{}}',
        b'{"id":0,"connect":{}}',
        b'{"id":-1,"connect":{}}',
        b'{"id":4294967296,"connect":{}}',
        b'{"id":"1","connect":{}}',
        b'{"id":true,"connect":{}}',
        b'{"id":1.5,"connect":{}}',
        b"[" * 60_000,
        b'{"id":1,"connect":{"data":' + b"[" * 2_000,
        b'{"id":1,"connect":{}}\n\n{"id":2,"rpc":{}}',
    ],
)
def test_unparsable_frame_closes_3501(frame: bytes) -> None:
    """Garbage, a missing or impossible id, deep nests: the same clean close."""
    line = make()
    line.session.receive(frame)
    assert line.peer.closed == codes.BAD_FRAME


def test_invalid_utf8_closes_1007() -> None:
    """Also inside raw data, which nobody parses on the way to other viewers."""
    line = connected()
    line.session.receive(b'{"id":2,"rpc":{"method":"m","data":"\xff"}}')
    assert line.peer.closed == codes.INVALID_UTF8


def test_commands_of_one_frame_are_answered_in_order() -> None:
    """A frame may carry several commands; each gets its own reply."""
    line = make()
    line.session.receive(CONNECT + b"\n" + rpc(2) + b"\n" + rpc(3) + b"\n")
    assert [command.id for command in line.app.asked] == [2, 3]
    assert line.peer.replies()[0]["id"] == 1


def test_frame_stops_after_a_failed_connect() -> None:
    """SDKs send their subscriptions behind the connect; with a bad token none is executed."""
    line = make()
    frame = [b'{"id":1,"connect":{"token":"bad"}}']
    frame += [b'{"id":%d,"subscribe":{"channel":"c%d"}}' % (n, n) for n in (2, 3, 4)]
    line.session.receive(b"\n".join(frame))
    assert line.peer.closed == codes.INVALID_TOKEN
    assert line.app.asked == [] and line.peer.sent == []


def test_commands_behind_a_slow_connect_wait_for_it() -> None:
    """While the connect is being answered nothing else runs; afterwards all do, in order."""
    line = make(app=Application(accepts=False))
    line.session.receive(CONNECT + b'\n{"id":2,"subscribe":{"channel":"a"}}\n' + rpc(3))
    assert line.app.asked == []

    line.session.accept(1, ConnectResult(client="c"))

    assert line.app.asked[0] == Command(2, SubscribeRequest(channel="a"))
    line.session.finish(2, SubscribeResult())
    assert [command.id for command in line.app.asked] == [2, 3]


def test_ordered_commands_run_one_after_another() -> None:
    """An unsubscribe must not overtake its subscribe; an rpc may."""
    line = connected()
    line.session.receive(
        b'{"id":2,"subscribe":{"channel":"a"}}\n{"id":3,"unsubscribe":{"channel":"a"}}\n' + rpc(4)
    )
    assert [command.id for command in line.app.asked] == [2, 4]

    line.session.finish(2, SubscribeResult())

    assert line.app.asked[-1] == Command(3, UnsubscribeRequest(channel="a"))


def test_many_ordered_commands_do_not_exhaust_the_stack() -> None:
    """Each is answered at once; the queue is worked off by a loop and not by recursion."""

    class Prompt(Application):
        def ordered(self, session: Session, command: Command) -> None:
            super().ordered(session, command)
            if command.id != 2:  # the first one holds all others up
                session.finish(command.id, UnsubscribeResult())

    line = make(app=Prompt(), limits=Limits(commands_burst=1_000))
    line.session.receive(CONNECT)
    for number in range(2, 200):
        line.session.receive(b'{"id":%d,"unsubscribe":{"channel":"a"}}' % number)
    line.session.finish(2, UnsubscribeResult())
    assert [command.id for command in line.app.asked] == list(range(2, 200))


def test_known_command_with_bad_types_is_error_107() -> None:
    """The error names the field; the connection stays."""
    line = connected()
    line.session.receive(b'{"id":2,"subscribe":{"channel":5}}')
    error = line.peer.replies()[0]["error"]
    assert isinstance(error, dict) and error["code"] == 107 and "channel" in error["message"]
    assert line.peer.closed is None


def test_unknown_command_is_error_104() -> None:
    """A newer client's command is refused, not punished."""
    line = connected()
    line.session.receive(b'{"id":2,"map_publish":{"channel":"a"}}')
    assert line.peer.replies() == [{"id": 2, "error": {"code": 104, "message": "method not found"}}]


def test_unknown_fields_are_ignored() -> None:
    """A newer client's fields do no harm."""
    line = connected()
    line.session.receive(b'{"id":2,"rpc":{"method":"m","data":1,"later":[{}]},"more":7}')
    assert len(line.app.asked) == 1


def test_send_closes_3508_and_ping_closes_3501() -> None:
    """There is no handler for `send`, and SDKs never send `ping`."""
    line = connected()
    line.session.receive(b'{"send":{"data":{}}}')
    assert line.peer.closed == codes.CLOSED_NOT_AVAILABLE
    line = connected()
    line.session.receive(b'{"id":2,"ping":{}}')
    assert line.peer.closed == codes.BAD_FRAME


def test_rpc_data_stays_raw() -> None:
    """The handler gets the bytes that the client wrote, key order and numbers untouched."""
    line = connected()
    line.session.receive(b'{"id":2,"rpc":{"method":"m","data":{"b":1.0,"a":18446744073709551616}}}')
    body = line.app.asked[0].body
    assert isinstance(body, RpcRequest)
    assert bytes(body.data) == b'{"b":1.0,"a":18446744073709551616}'


def test_empty_results_are_present() -> None:
    """SDKs index the result by the command's name even when it is empty."""
    assert JSON.reply(7, UnsubscribeResult()) == b'{"id":7,"unsubscribe":{}}'
    assert PROTOBUF.reply(7, UnsubscribeResult()) == b"\x04\x08\x07\x3a\x00"


# The end


def test_idle_connection_is_closed_at_once() -> None:
    """Also one whose connect is not answered yet: it has done nothing."""
    idle, joining = connected(), make(app=Application(accepts=False))
    joining.session.receive(CONNECT)
    for line in (idle, joining):
        line.session.close_when_idle(codes.SHUTDOWN)
        assert line.peer.closed == codes.SHUTDOWN


def test_connection_is_closed_behind_its_last_reply() -> None:
    """Calls, ordered commands, and those that wait for one."""
    line = connected()
    session = line.session
    session.receive(rpc(2))
    session.receive(b'{"id":3,"subscribe":{"channel":"a"}}\n{"id":4,"unsubscribe":{"channel":"a"}}')
    session.close_when_idle(codes.SHUTDOWN)
    session.finish(3, SubscribeResult())
    before: list[codes.Close | None] = [line.peer.closed]
    session.receive(rpc(5))
    session.reply_rpc(2, b"{}")
    session.fail(5, codes.INTERNAL)
    before.append(line.peer.closed)
    session.finish(4, UnsubscribeResult())
    assert (before, line.peer.closed) == ([None, None], codes.SHUTDOWN)
    assert [reply["id"] for reply in line.peer.replies()] == [3, 2, 5, 4]


def test_application_hears_of_the_end_once() -> None:
    """Whether we close, the peer goes, or both."""
    line = connected()
    line.session.close(codes.FORCED)
    line.session.lost()
    assert line.app.lost == [line.session]
    line.session.reply_rpc(9, b"{}")
    line.session.push(b"{}")
    assert line.peer.sent == []


def test_end_before_connect_is_told_as_well() -> None:
    """Whoever wakes the session has to forget it; there was no viewer."""
    line = make()
    line.session.lost()
    assert line.app.lost == [line.session]


@pytest.mark.parametrize("close", codes.ALL_CLOSES)
def test_close_reason_is_plain_words(close: Close) -> None:
    """Never empty and never JSON, at most 32 ASCII bytes: else SDKs do the opposite."""
    assert 0 < len(close.reason.encode("ascii")) <= 32
    with pytest.raises(ValueError):
        json.loads(close.reason)


def test_every_close_is_checked() -> None:
    """The list that the test above walks is complete."""
    defined = {value for value in vars(codes).values() if isinstance(value, Close)}
    assert defined == set(codes.ALL_CLOSES)


def test_raw_of_another_codec_is_the_same() -> None:
    """Both codecs hand the application equal requests."""
    line = make(codec=PROTOBUF)
    line.session.receive(b"\x04\x08\x01\x22\x00")
    data = b'{"a":1}'
    body = b"\x0a" + bytes([len(data)]) + data + b"\x12\x01m"
    command = b"\x08\x02\x6a" + bytes([len(body)]) + body
    line.session.receive(bytes([len(command)]) + command)
    request = line.app.asked[0].body
    assert isinstance(request, RpcRequest)
    assert (request.name, bytes(request.data)) == ("m", bytes(Raw(data)))


def test_refused_connect_ends_the_connection() -> None:
    """The error is told first; afterwards nothing is."""
    line = make(app=Application(accepts=False))
    line.session.receive(CONNECT)
    line.session.refuse(1, codes.PERMISSION_DENIED, codes.CLOSED_FOR_ROLE)
    assert line.peer.replies()[0]["error"]["code"] == codes.PERMISSION_DENIED.code
    assert line.peer.closed == codes.CLOSED_FOR_ROLE
    line.session.refuse(1, codes.PERMISSION_DENIED, codes.CLOSED_FOR_ROLE)
    assert len(line.peer.sent) == 1


def test_failed_command_makes_way_for_the_next() -> None:
    """What waited behind it starts; its own caller is told why it failed."""
    line = connected()
    for number in (2, 3):
        line.session.receive(b'{"id":%d,"subscribe":{"channel":"a"}}' % number)
    assert [command.id for command in line.app.asked] == [2]
    line.session.finish_failed(2, codes.METHOD_NOT_FOUND)
    assert [command.id for command in line.app.asked] == [2, 3]
    (told,) = line.peer.replies()
    assert (told["id"], told["error"]["code"]) == (2, codes.METHOD_NOT_FOUND.code)


def test_push_is_for_the_open_connection() -> None:
    """As it was encoded."""
    line = connected()
    line.session.push(b'{"push":{}}')
    assert line.peer.sent == [b'{"push":{}}']


@pytest.mark.parametrize(
    "answer",
    [
        lambda session: session.reply_rpc(2, b""),
        lambda session: session.reply(2, HistoryResult((), "e", 0)),
        lambda session: session.fail(2, codes.INTERNAL),
    ],
    ids=["rpc", "reply", "error"],
)
def test_one_call_under_way_keeps_the_connection(answer: Callable[[Session], None]) -> None:
    """Told to leave, it goes behind that answer, whatever its kind."""
    line = connected()
    line.session.receive(rpc(2))
    line.session.close_when_idle(codes.SHUTDOWN)
    before = line.peer.closed
    answer(line.session)
    assert (before, line.peer.closed) == (None, codes.SHUTDOWN)
    (told,) = line.peer.replies()
    assert told["id"] == 2 and told.get("rpc", {}) == {}


def test_connection_that_ended_wants_no_clock() -> None:
    """0.0: never again; the same at the moment when its token ends it."""
    line = connected()
    line.session.expire_in(60)
    line.clock.now += 60 + Limits().expired_grace_seconds
    assert line.session.wake(line.clock.now) == 0.0
    assert line.peer.closed == codes.EXPIRED
    assert line.session.wake(line.clock.now) == 0.0
