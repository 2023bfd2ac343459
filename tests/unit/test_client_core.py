"""The client's protocol without a socket: frames in, events and commands out.

Method: `FarEnd` is the other side of the same bytes; frames are JSON, by no codec of ours.
"""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from live.client import (
    CallFailed,
    ClientCore,
    Connected,
    Disconnected,
    NoAnswer,
    Published,
    Subscribed,
    SubscriptionEnded,
)
from live.client.core import COMMANDS_MAX, LineState
from live.client.events import Answered, Event, Failed
from live.client.frames import messages
from live.client.retry import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN, retry_seconds
from live.client.shell import settle
from live.protocol.codec import COMMANDS_PER_MESSAGE_MAX, MESSAGE_BYTES_MAX
from live.protocol.commands import PublishResult, RpcResult
from tests.support.far_end import FarEnd

URL = "ws://127.0.0.1:1/connection/websocket"
SHOW = "show:demo"
LOGGED = {"recoverable": True, "epoch": "e"}


def new_core(*, renewable: bool = False) -> ClientCore:
    return ClientCore(
        URL, token="t", data={"show": "demo"}, renewable=renewable, spread=lambda: 0.5
    )


def joined(core: ClientCore, **result: object) -> FarEnd:
    far = FarEnd(core)
    far.welcome(**result)
    return far


def end_of(events: list[Event]) -> Disconnected:
    (end,) = events
    assert isinstance(end, Disconnected)
    return end


def published(events: list[Event]) -> list[tuple[str, int, bool]]:
    """Channel, offset, and whether it came live."""
    return [(e.channel, e.offset, e.at is not None) for e in events if isinstance(e, Published)]


def test_connect_is_the_first_command() -> None:
    """Token, data and name go with it, and nothing else is sent before its answer."""
    core = new_core()
    far = FarEnd(core)
    with pytest.raises(NoAnswer):
        core.rpc("time.now", {})
    assert far.commands == [
        {"id": 1, "connect": {"name": "live", "token": "t", "data": {"show": "demo"}}}
    ]


def test_guest_sends_no_token() -> None:
    """An empty token is left out: it would be an invalid one."""
    far = FarEnd(ClientCore(URL))
    assert far.commands == [{"id": 1, "connect": {"name": "live"}}]


def test_snapshot_comes_with_the_connection() -> None:
    """The connect answer's data is told as it was sent, with the bounds of the connection."""
    core = new_core()
    far = FarEnd(core)
    (event,) = far.welcome(data={"show": None}, ping=25, pong=True, expires=True, ttl=60)
    assert isinstance(event, Connected)
    assert (event.data, event.recovered) == (b'{"show":null}', None)
    assert (core.silence_seconds, core.refresh_seconds) == (35.0, 60)


def test_commands_share_a_frame_and_answers_find_them() -> None:
    """Answers in any order go to the command of their number."""
    core = new_core()
    far = joined(core)
    frames = far.frames
    first, second = core.rpc("time.now", {}), core.publish("chat:demo", {"text": "hi"})
    far.listen()
    assert far.frames == frames + 1
    assert far.commands[-1]["publish"] == {"channel": "chat:demo", "data": {"text": "hi"}}

    events = far.say({"id": second, "publish": {}}, {"id": first, "rpc": {"data": 1}})

    published_, called = events
    assert published_ == Answered(second, PublishResult())
    assert isinstance(called, Answered) and isinstance(called.result, RpcResult)
    assert (called.number, bytes(called.result.data or b"")) == (first, b"1")


def test_error_answers_the_command() -> None:
    """Code, text and whether to repeat arrive where the answer would have."""
    core = new_core()
    far = joined(core)
    number = core.rpc("offer.hold", {})
    (event,) = far.say({"id": number, "error": {"code": 111, "message": "no", "temporary": True}})
    assert isinstance(event, Failed)
    failure = CallFailed(event.failure)
    assert (event.number, failure.code, failure.temporary) == (number, 111, True)


def test_answer_that_nobody_waits_for_is_not_told() -> None:
    """Forgotten commands, and numbers that were never given, answer nothing."""
    core = new_core()
    far = joined(core)
    number = core.rpc("time.now", {})
    core.forget(number)
    assert far.say({"id": number, "rpc": {"data": 1}}, {"id": 77, "rpc": {"data": 2}}) == []


def test_ping_is_answered_where_the_server_asked_for_it() -> None:
    """An empty message is answered with an empty one, or with nothing."""
    for pong, answers in ((True, 1), (False, 0)):
        far = joined(new_core(), ping=25, pong=pong)
        before = len(far.commands)
        assert far.say({}) == []
        assert far.commands[before:] == [{}] * answers


def test_repeated_publication_is_dropped() -> None:
    """An offset is told once; a publication without a log is told as often as it comes."""
    far = joined(new_core(), subs={SHOW: {**LOGGED, "offset": 4}, "pulse:demo": {}})
    events = [*far.publish(SHOW, 5), *far.publish(SHOW, 5), *far.publish(SHOW, 4)]
    events += [*far.publish(SHOW, 6), *far.publish("pulse:demo", 0), *far.publish("pulse:demo", 0)]
    assert [offset for _, offset, _ in published(events)] == [5, 6, 0, 0]


def test_missed_publications_are_told_after_a_reconnect() -> None:
    """The next connection asks from the last offset, and what it gets is marked as recovered."""
    core = new_core()
    far = joined(core, subs={SHOW: {**LOGGED, "offset": 4}})
    far.publish(SHOW, 5)
    core.lost("tunnel")

    far = FarEnd(core)
    asked = far.commands[0]["connect"]["subs"]
    recovered = {"was_recovering": True, "recovered": True, "offset": 5}
    missed = [{"data": 1, "offset": 6}, {"data": 2, "offset": 7}]
    events = far.welcome(subs={SHOW: {**LOGGED, **recovered, "publications": missed}})

    assert asked == {SHOW: {"recover": True, "epoch": "e", "offset": 5}}
    assert isinstance(events[0], Connected) and events[0].recovered is True
    assert published(events) == [(SHOW, 6, False), (SHOW, 7, False)]
    assert published(far.say({"push": {"channel": SHOW, "pub": {"data": 3, "offset": 7}}})) == []


def test_snapshot_counts_where_recovery_failed() -> None:
    """Not recovered: the position jumps to the server's, and nothing is replayed."""
    core = new_core()
    joined(core, subs={SHOW: {**LOGGED, "offset": 7}})
    core.lost("tunnel")
    far = FarEnd(core)
    again = {"recoverable": True, "epoch": "b", "offset": 3, "was_recovering": True}
    (event,) = far.welcome(subs={SHOW: again})
    core.lost("tunnel")

    assert isinstance(event, Connected) and event.recovered is False
    asked = FarEnd(core).commands[0]["connect"]["subs"]
    assert asked == {SHOW: {"recover": True, "epoch": "b", "offset": 3}}


def test_channel_that_the_server_dropped_is_not_asked_for() -> None:
    """A reconnect without a channel ends what was kept of it."""
    core = new_core()
    joined(core, subs={SHOW: {**LOGGED, "offset": 7}, "chat:demo": {**LOGGED, "offset": 1}})
    core.lost("tunnel")
    joined(core, subs={SHOW: {**LOGGED, "offset": 7}})
    core.lost("tunnel")
    assert list(FarEnd(core).commands[0]["connect"]["subs"]) == [SHOW]


def test_own_subscription_is_renewed_with_its_position() -> None:
    """After a reconnect it is subscribed again from where it was; what was missed is told."""
    core = new_core()
    far = joined(core)
    number = core.subscribe("chat:x", token="s")
    far.say({"id": number, "subscribe": {**LOGGED, "offset": 2}})
    core.lost("tunnel")

    far = FarEnd(core)
    assert "subs" not in far.commands[0]["connect"]
    far.welcome()
    command = far.commands[-1]
    wanted = {"recover": True, "epoch": "e", "offset": 2}
    assert command["subscribe"] == {"channel": "chat:x", "token": "s", **wanted}
    result = {**LOGGED, "offset": 2, "was_recovering": True, "recovered": True}
    missed = [{"data": 1, "offset": 3}]
    events = far.say({"id": command["id"], "subscribe": {**result, "publications": missed}})
    assert isinstance(events[0], Subscribed)
    assert published(events) == [("chat:x", 3, False)]


@pytest.mark.parametrize(
    ("code", "renewed", "recovers"), [(2000, False, False), (2500, True, True), (2502, True, False)]
)
def test_server_ends_a_subscription(code: int, renewed: bool, recovers: bool) -> None:
    """Below 2500 for good; from there on it is renewed, with 2502 from the beginning."""
    core = new_core()
    far = joined(core)
    far.say({"id": core.subscribe("chat:x"), "subscribe": {**LOGGED, "offset": 2}})
    before = len(far.commands)

    events = far.say({"push": {"channel": "chat:x", "unsubscribe": {"code": code, "reason": "r"}}})

    assert events == ([] if renewed else [SubscriptionEnded("chat:x", code, "r")])
    again = far.commands[before:]
    assert ["recover" in command["subscribe"] for command in again] == ([recovers] * renewed)


@pytest.mark.parametrize(
    ("temporary", "expected"), [(False, SubscriptionEnded), (True, Disconnected)]
)
def test_renewal_that_fails_is_told(temporary: bool, expected: type) -> None:
    """Refused for good it ends; refused for now the connection begins anew, as with the SDKs."""
    core = new_core()
    far = joined(core)
    far.say({"id": core.subscribe("chat:x"), "subscribe": {}})
    far.say({"push": {"channel": "chat:x", "unsubscribe": {"code": 2500, "reason": "r"}}})
    error = {"code": 103, "message": "no", "temporary": temporary}
    (event,) = far.say({"id": far.commands[-1]["id"], "error": error})
    assert isinstance(event, expected)


@pytest.mark.parametrize(
    ("code", "returns"),
    [
        *[(code, True) for code in (1000, 1001, 1006, 1011, 3000, 3001, 3005, 3499)],
        *[(code, False) for code in (1009, 3500, 3503, 3999, 4500, 4999)],
        *[(code, True) for code in (4000, 4499)],
    ],
)
def test_close_codes_decide_who_returns(code: int, returns: bool) -> None:
    """The ranges of the SDKs, the same for a close frame and for a push."""
    if code != 1006:  # which no frame may carry
        core = new_core()
        end = end_of(joined(core).close(code, "why"))
        assert (end.code, end.reason, end.was_connected) == (code, "why", True)
        assert (end.retry_seconds is not None) is returns
        assert (core.state is LineState.DOWN) is returns

    core = new_core()
    push = {"push": {"disconnect": {"code": code, "reason": "why"}}}
    assert (end_of(joined(core).say(push)).retry_seconds is not None) is returns


@pytest.mark.parametrize(
    ("error", "renewable", "returns"),
    [
        ({"code": 111, "message": "busy", "temporary": True}, False, True),
        ({"code": 7, "message": "of an SDK"}, False, True),
        ({"code": 1404, "message": "unknown show"}, False, False),
        ({"code": 109, "message": "token expired"}, False, False),
        ({"code": 109, "message": "token expired"}, True, True),
    ],
)
def test_connect_error_decides_who_returns(
    error: dict[str, object], renewable: bool, returns: bool
) -> None:
    """Temporary ones repeat, an expired token where there is another one; the rest is final."""
    far = FarEnd(new_core(renewable=renewable))
    end = end_of(far.say({"id": 1, "error": error}))
    assert (end.code, end.refused, end.was_connected) == (error["code"], True, False)
    assert (end.retry_seconds is not None) is returns
    assert end.token_expired is (error["code"] == 109)


def test_pauses_grow_until_connected() -> None:
    """Each failure doubles the window; a connection begins it anew."""
    core = new_core()
    pauses = []
    for _ in range(4):
        core.begin()
        pauses.append(end_of(core.lost("nobody there")).retry_seconds)
    joined(core)
    pauses.append(end_of(core.lost("tunnel")).retry_seconds)
    assert pauses == [0.75, 1.0, 1.5, 2.5, 0.75]


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_pauses_keep_their_bounds(tries: int, spread: float) -> None:
    """Never sooner than half a second, never later than twenty."""
    assert RETRY_SECONDS_MIN <= retry_seconds(tries, spread) <= RETRY_SECONDS_MAX


@pytest.mark.parametrize(
    "text", [b"no json", b'{"id":1}', b'{"id":1,"rpc":{}}', b'{"push":{"pub":{}}}']
)
def test_nonsense_ends_the_connection(text: bytes) -> None:
    """A frame that is not the protocol, or an answer to another question: nothing is guessed."""
    end = end_of(FarEnd(new_core()).say_raw(text))
    assert end.code == 1006 and end.retry_seconds is not None


def test_nothing_is_heard_after_the_end() -> None:
    """What follows a disconnect in the same message is dropped, and the end is told once."""
    core = new_core()
    far = joined(core)
    late = {"push": {"channel": SHOW, "pub": {"data": 1}}}
    end = end_of(far.say({"push": {"disconnect": {"code": 3001, "reason": "shutdown"}}}, late))
    assert end.code == 3001
    assert [core.lost("again"), far.say(late)] == [[], []]


def test_refused_upgrade_is_tried_again() -> None:
    """A server that sheds load answers 503: back off, and come back."""
    core = new_core()
    core.begin()
    core.data_to_send()
    end = end_of(core.receive(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
    assert "503" in end.reason and end.retry_seconds is not None


def test_who_leaves_does_not_come_back() -> None:
    """Leaving is an end for good, told once; a call after it is refused."""
    core = new_core()
    joined(core)
    end = end_of(core.leave())
    assert (end.code, end.retry_seconds, core.state) == (1000, None, LineState.GONE)
    assert core.leave() == []
    with pytest.raises(NoAnswer):
        core.rpc("time.now", {})


def test_refresh_renews_the_token() -> None:
    """The new token is the connection's and that of the next one; its ttl is kept."""
    core = new_core()
    far = joined(core, expires=True, ttl=5)
    number = core.refresh("t2")
    far.say({"id": number, "refresh": {"client": "c", "expires": True, "ttl": 90}})
    assert core.refresh_seconds == 90
    core.lost("tunnel")
    assert FarEnd(core).commands[0]["connect"]["token"] == "t2"


def test_commands_are_bounded() -> None:
    """Beyond so many without an answer a call fails; one too big for any server is an error."""
    core = new_core()
    joined(core)
    for _ in range(COMMANDS_MAX):
        core.rpc("time.now", {})
    with pytest.raises(NoAnswer):
        core.rpc("time.now", {})

    core = new_core()
    joined(core)
    with pytest.raises(ValueError, match="at most"):
        core.publish("chat:demo", {"text": "x" * MESSAGE_BYTES_MAX})


@given(st.lists(st.binary(min_size=1, max_size=400).map(lambda b: b * 90), max_size=600))
def test_messages_keep_the_servers_bounds(lines: list[bytes]) -> None:
    """All lines, in order, in messages that any server takes."""
    lines = [line.replace(b"\n", b" ") for line in lines]
    sent = list(messages(lines))
    assert [line for message in sent for line in message.split(b"\n")] == lines
    assert all(len(message) <= MESSAGE_BYTES_MAX for message in sent)
    assert all(message.count(b"\n") < COMMANDS_PER_MESSAGE_MAX for message in sent)


@given(st.data())
def test_publications_are_told_once_and_in_order(data: st.DataObject) -> None:
    """However a log is cut into connections and however often parts repeat: 1, 2, 3, …"""
    core, heard, top = new_core(), list[int](), 0
    for _ in range(data.draw(st.integers(1, 5))):
        far = FarEnd(core)
        asked = far.commands[0]["connect"].get("subs", {}).get(SHOW)
        sub: dict[str, object] = {**LOGGED, "offset": top}
        if asked is not None:
            top += data.draw(st.integers(0, 3))
            missed = [{"data": n, "offset": n} for n in range(asked["offset"] + 1, top + 1)]
            sub |= {"offset": asked["offset"], "was_recovering": True, "recovered": True}
            sub |= {"publications": missed}
        events = far.welcome(subs={SHOW: sub})
        for _ in range(data.draw(st.integers(0, 4))):
            top += 1
            low = data.draw(st.integers(max(1, top - 2), top))
            events += [e for n in range(low, top + 1) for e in far.publish(SHOW, n)]
        heard += [offset for _, offset, _ in published(events)]
        core.lost("tunnel")
    assert heard == list(range(1, top + 1))


@given(st.binary(max_size=200))
@example(b'{"id":1,"connect":{}}')
@example(b'{"id":1,"connect":{}}\n{"push":{"disconnect":{"code":3000}}}')
def test_no_bytes_break_the_core(noise: bytes) -> None:
    """Whatever a server sends, the worst is an end, told once and last."""
    core = new_core()
    far = FarEnd(core)
    events = far.say_raw(noise) + core.receive(noise)
    ends = [isinstance(event, Disconnected) for event in events]
    assert not any(ends[:-1])
    assert any(ends) == (core.state in {LineState.DOWN, LineState.GONE})


def test_answer_settles_who_waits() -> None:
    """Answers and errors go to their promise, an end to all; the rest is for the owner."""

    class Promise:
        outcome: object = None

        def done(self) -> bool:
            return self.outcome is not None

        def set_result(self, result: object) -> None:
            self.outcome = result

        set_exception = set_result

    far = joined(core := new_core())
    numbers = [core.rpc("time.now", {}) for _ in range(3)]
    promises = [Promise() for _ in numbers]
    waiting = dict(zip(numbers, promises, strict=True))
    events = far.say(
        {"id": numbers[0], "rpc": {"data": 1}},
        {"id": numbers[1], "error": {"code": 104, "message": "?"}},
    )
    events += core.lost("tunnel")

    told = [settle(waiting, event) for event in events]

    answered, failed, cut_off = (promise.outcome for promise in promises)
    assert isinstance(answered, RpcResult)
    assert isinstance(failed, CallFailed) and failed.code == 104
    assert isinstance(cut_off, NoAnswer)
    assert (told, waiting) == ([None, None, events[-1]], {})
