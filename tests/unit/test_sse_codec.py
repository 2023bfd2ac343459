"""The one-way stream, byte for byte."""

import orjson
import pytest
from msgspec import Raw

from live.protocol import codes
from live.protocol.codec_sse import SSE, SseCodec, connect_frame, disconnect_event
from live.protocol.codes import Close, Failure
from live.protocol.commands import ConnectResult, Publication, UnsubscribePush


def body_of(event: bytes) -> object:
    """What an event without an id says."""
    assert event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2
    return orjson.loads(event[6:])


def test_publication_carries_its_position_as_the_events_id() -> None:
    """Where the stream has an epoch and the publication an offset; `EventSource` sends it back."""
    publication = Publication(Raw(b'{"n":1}'), 7)
    at_epoch = SSE.at_epoch("e5")
    assert at_epoch.name == "sse:e5"
    assert at_epoch.publication("room", publication) == (
        b'id: e5:7\ndata: {"channel":"room","pub":{"data":{"n":1},"offset":7}}\n\n'
    )
    pulse = Publication(Raw(b"1"), 0)
    for codec, one in ((SSE, publication), (at_epoch, pulse)):
        said = body_of(codec.publication("room", one))
        assert isinstance(said, dict) and said["channel"] == "room"
    assert SSE.name == "sse:"


def test_push_and_reply_lose_their_wrappers() -> None:
    """A push is told without `push`, the connect reply without its id."""
    push = UnsubscribePush(code=2500, reason="gone")
    assert body_of(SSE.push("room", push)) == {
        "channel": "room",
        "unsubscribe": {"code": 2500, "reason": "gone"},
    }
    said = body_of(SSE.reply(1, ConnectResult(client="c", version="1", ping=25)))
    assert isinstance(said, dict) and said["connect"]["client"] == "c" and set(said) == {"connect"}
    with pytest.raises(AssertionError, match="no calls"):
        SSE.rpc_reply(1, b"{}")


def test_events_are_joined_and_pinged_as_they_are() -> None:
    """Text alone: no binary frame exists there."""
    assert SSE.join([b"data: 1\n\n", b"data: 2\n\n"]) == b"data: 1\n\ndata: 2\n\n"
    assert (SSE.ping, SSE.binary) == (b"data: {}\n\n", False)


def test_request_becomes_the_connect_command() -> None:
    """As the session expects it, blanks around it taken away."""
    (command,) = SseCodec().decode(connect_frame(b' {"token":"t"}\n'))
    assert (command.id, getattr(command.body, "token", None)) == (1, "t")


@pytest.mark.parametrize(
    ("code", "reconnect"),
    [
        (3000, True),
        (3499, True),
        (3500, False),
        (3999, False),
        (4000, True),
        (4499, True),
        (4500, False),
    ],
)
def test_end_says_whether_to_come_back(code: int, reconnect: bool) -> None:
    """By the ranges of the protocol's close codes."""
    expected = {"code": code, "reason": "why"} | ({"reconnect": True} if reconnect else {})
    assert body_of(disconnect_event(Close(code, "why"))) == {"disconnect": expected}


@pytest.mark.parametrize(
    ("failure", "close"),
    [
        (Failure(109, "the token has expired"), codes.EXPIRED),
        (Failure(110, "the token has expired"), codes.EXPIRED),
        (codes.TOO_MANY_REQUESTS, Close(codes.FLOOD.code, codes.TOO_MANY_REQUESTS.message)),
        (Failure(100, "busy", temporary=True), Close(codes.SERVER_ERROR.code, "busy")),
        (
            Failure(codes.PERMISSION_DENIED.code, "not yours"),
            Close(codes.CLOSED_FOR_ROLE.code, "not yours"),
        ),
        (Failure(102, "no such show"), Close(codes.CLOSED_NOT_AVAILABLE.code, "no such show")),
    ],
)
def test_refusal_ends_the_stream(failure: Failure, close: Close) -> None:
    """The code says whether to come back, the reason what a reply would have said."""
    assert SSE.error(1, failure) == disconnect_event(close)
