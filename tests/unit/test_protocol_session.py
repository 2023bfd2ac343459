"""One connection's state machine, without I/O: what it answers, when it closes, what it bounds."""

import json
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from msgspec import Raw

from live.protocol import codes
from live.protocol.codec import Codec
from live.protocol.codec_json import JSON
from live.protocol.codec_protobuf import PROTOBUF
from live.protocol.codes import Close
from live.protocol.commands import (
    Command,
    ConnectRequest,
    ConnectResult,
    RpcRequest,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribeRequest,
    UnsubscribeResult,
)
from live.protocol.limits import Limits
from live.protocol.session import Session
from live.protocol.shared import Shared

CONNECT = b'{"id":1,"connect":{}}'


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Peer:
    """A port that remembers; `closed` is what the connection ended with."""

    compresses: ClassVar[bool] = False

    sent: list[bytes] = field(default_factory=list)
    closed: Close | None = None

    def write(self, data: bytes) -> None:
        assert self.closed is None, "nothing may be written after the close"
        self.sent.append(data)

    def write_shared(self, frame: Shared) -> None:
        self.write(frame.payload)

    def close(self, close: Close) -> None:
        assert self.closed is None, "a connection is closed once"
        self.closed = close

    def buffered(self) -> int:
        return 0

    def replies(self) -> list[dict[str, object]]:
        return [json.loads(line) for message in self.sent for line in message.split(b"\n")]


class Application:
    """Accepts connects unless told to wait; keeps what it was asked."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.accepts = accepts
        self.asked: list[Command] = []
        self.lost: list[Session] = []

    def connect(self, session: Session, command: int, request: ConnectRequest) -> None:
        if request.token == "bad":
            session.close(codes.INVALID_TOKEN)
        elif self.accepts:
            session.accept(command, ConnectResult(client=session.client, ping=25, pong=True))

    def ordered(self, session: Session, command: Command) -> None:
        self.asked.append(command)

    def call(self, session: Session, command: Command) -> None:
        self.asked.append(command)

    def gone(self, session: Session) -> None:
        self.lost.append(session)


@dataclass
class Line:
    session: Session
    peer: Peer
    app: Application
    clock: Clock


def make(
    *, app: Application | None = None, codec: Codec = JSON, limits: Limits | None = None
) -> Line:
    peer, clock, app = Peer(), Clock(), app or Application()
    session = Session(peer, codec, app, clock=clock, limits=limits or Limits())
    return Line(session, peer, app, clock)


def connected(*, limits: Limits | None = None) -> Line:
    line = make(limits=limits)
    line.session.receive(CONNECT)
    line.peer.sent.clear()
    return line


def rpc(number: int) -> bytes:
    return b'{"id":%d,"rpc":{"method":"m","data":{}}}' % number


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
    assert line.peer.closed is None
    line.session.receive(bad)
    assert line.peer.closed == codes.TOO_MANY_ERRORS

    line = connected()
    for _ in range(40):
        line.clock.now += 3.2
        line.session.receive(bad)
    assert line.peer.closed is None


def test_calls_at_once_are_bounded() -> None:
    """One more than the bound is told 111; an answer makes room again."""
    line = connected(limits=Limits(outstanding_max=2))
    for number in (2, 3, 4):
        line.session.receive(rpc(number))
    assert [command.id for command in line.app.asked] == [2, 3]
    assert line.peer.replies()[0]["id"] == 4

    line.session.reply_rpc(2, b"{}")
    line.session.receive(rpc(5))

    assert line.app.asked[-1].id == 5


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


# The end


# Going


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
    assert line.peer.closed is None
    session.receive(rpc(5))
    session.reply_rpc(2, b"{}")
    session.fail(5, codes.INTERNAL)
    assert line.peer.closed is None
    session.finish(4, UnsubscribeResult())
    assert line.peer.closed == codes.SHUTDOWN
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


def test_end_before_connect_is_nobodys_business() -> None:
    """The application never heard of it."""
    line = make()
    line.session.lost()
    assert line.app.lost == []


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
