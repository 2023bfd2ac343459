"""The one-way wire format: server-sent events, each of them one push without its wrapper.

Only `connect` travels to the server, as the request's URL or body; everything else goes out. An
error that answers it becomes a `disconnect` event, because there is no reply to carry it.
"""

from collections.abc import Sequence

import orjson

from live.protocol import codes
from live.protocol.codec_json import JSON
from live.protocol.codes import Close, Failure
from live.protocol.commands import Command, Publication, Push, Result

_PUSH_HEAD, _PUSH_TAIL = b'{"push":', b"}"
_EXPIRED = (109, 110)  # a token: the client comes back with another one
_DENIED = codes.PERMISSION_DENIED.code


def event(body: bytes, *, identity: bytes = b"") -> bytes:
    head = b"id: %s\n" % identity if identity else b""
    return b"%sdata: %s\n\n" % (head, body)


def disconnect_event(close: Close) -> bytes:
    """Tell the client that the stream ends, and whether to come back."""
    body = {"code": close.code, "reason": close.reason}
    if close.code < 3500 or 4000 <= close.code < 4500:
        body["reconnect"] = True
    return event(orjson.dumps({"disconnect": body}))


def connect_frame(request: bytes) -> bytes:
    """Make the frame that a session expects of a ConnectRequest given as JSON."""
    return b'{"id":1,"connect":%s}' % request.strip()


class SseCodec:
    """With an epoch each publication carries its position as the event's id."""

    binary = False
    ping = event(b"{}")

    def __init__(self, epoch: str = "") -> None:
        self.name = f"sse:{epoch}"
        self._epoch = epoch.encode()

    def at_epoch(self, epoch: str) -> "SseCodec":
        return SseCodec(epoch)

    def decode(self, frame: bytes) -> list[Command]:
        return JSON.decode(frame)

    def reply(self, command: int, result: Result) -> bytes:
        return event(_unwrap(JSON.reply(command, result), b'{"id":%d,' % command, b"{"))

    def rpc_reply(self, command: int, data: bytes) -> bytes:
        raise AssertionError("a one-way stream has no calls")

    def error(self, command: int, failure: Failure) -> bytes:
        return disconnect_event(_close_of(failure))

    def publication(self, channel: str, publication: Publication) -> bytes:
        body = _unwrap(JSON.publication(channel, publication), _PUSH_HEAD)[: -len(_PUSH_TAIL)]
        if not self._epoch or not publication.offset:
            return event(body)
        return event(body, identity=b"%s:%d" % (self._epoch, publication.offset))

    def push(self, channel: str, push: Push) -> bytes:
        return event(_unwrap(JSON.push(channel, push), _PUSH_HEAD)[: -len(_PUSH_TAIL)])

    def join(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(messages)


def _close_of(failure: Failure) -> Close:
    """Say in the number whether to come back, and in the reason what a reply would have said."""
    if failure.code in _EXPIRED:
        return codes.EXPIRED
    if failure.code == codes.TOO_MANY_REQUESTS.code:
        return Close(codes.FLOOD.code, failure.message)
    if failure.temporary:
        return Close(codes.SERVER_ERROR.code, failure.message)
    close = codes.CLOSED_FOR_ROLE if failure.code == _DENIED else codes.CLOSED_NOT_AVAILABLE
    return Close(close.code, failure.message)


def _unwrap(body: bytes, head: bytes, instead: bytes = b"") -> bytes:
    assert body.startswith(head), body
    return instead + body[len(head) :]


SSE = SseCodec()
