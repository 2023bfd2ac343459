"""The JSON wire format: one object a line, several lines a message.

Requests are decoded typed in one pass; only when that fails a second, loose pass finds out whom to
tell. Raw values never contain a line break: the line was split there, so it would not have parsed.
"""

from collections.abc import Sequence

import msgspec
import orjson
from msgspec import Raw

from live.protocol.codec import COMMANDS_PER_MESSAGE_MAX, Codec, FrameError, TextError
from live.protocol.codes import Failure
from live.protocol.commands import (
    REQUESTS,
    Command,
    Malformed,
    Pong,
    Publication,
    Push,
    Request,
    Result,
    Unknown,
)
from live.protocol.halves import FAULT, path_of_half, read_with_halves

_ID_MAX = 2**32 - 1
_PONG = Command(0, Pong())


def _envelope() -> type[msgspec.Struct]:
    """One optional field per command, so that a whole line decodes in one call."""
    fields: list[tuple[str, object, object]] = [("id", int, 0)]
    fields += [(request.method, request | None, None) for request in REQUESTS]
    return msgspec.defstruct("Envelope", fields, frozen=True, gc=False)


_METHODS = tuple(request.method for request in REQUESTS)
_typed = msgspec.json.Decoder(_envelope())
_loose = msgspec.json.Decoder(dict[str, Raw])
_id = msgspec.json.Decoder(int)
_encode = msgspec.json.Encoder().encode


def _decode_line(line: bytes) -> Command:
    if line == b"{}":
        return _PONG
    try:
        envelope = _typed.decode(line)
    except msgspec.ValidationError as fault:
        return _decode_malformed(line, str(fault))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as fault:
        command = _decode_halves(line)
        if command is None:
            raise FrameError("not JSON") from fault
        return command
    number: int = getattr(envelope, "id")  # noqa: B009  # the struct is made at run time
    for method in _METHODS:
        body: Request | None = getattr(envelope, method)
        if body is not None:
            return _checked(number, body)
    if number == 0 and not line.strip(b" \t\r{}"):
        return _PONG
    return _checked(number, Unknown())


def _checked(number: int, body: Request | Unknown) -> Command:
    if not 0 <= number <= _ID_MAX:
        raise FrameError("id out of range")
    if number == 0 and not (isinstance(body, Request) and body.method == "send"):
        raise FrameError("id missing")
    return Command(number, body)


def _decode_malformed(line: bytes, fault: str) -> Command:
    """Find the id of a command whose fields have wrong types, so that it can be told."""
    try:
        number = _id.decode(_loose.decode(line).get("id", Raw(b"0")))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise FrameError("no object with a numeric id") from error
    if not 0 < number <= _ID_MAX:
        raise FrameError("id missing or out of range")
    return Command(number, Malformed(fault))


def _decode_halves(line: bytes) -> Command | None:
    """Find out whom to tell that a text has half a character in it; None: that is not the fault."""
    loaded = read_with_halves(line)
    path = path_of_half(loaded)
    number = loaded.get("id") if isinstance(loaded, dict) else None
    if path is None or type(number) is not int or not 0 < number <= _ID_MAX:
        return None
    method, _, field = path.partition(".")
    data, _, inside = field.partition(".")
    if method in _METHODS and data == "data":
        return Command(number, Malformed(f"{inside or 'data'}: {FAULT}", in_data=True))
    return Command(number, Malformed(f"{field or path}: {FAULT}"))


def _check_text(frame: bytes) -> None:
    """Raw values are skipped, not read, so nobody else looks at their encoding."""
    try:
        frame.decode()
    except UnicodeDecodeError as fault:
        raise TextError("not UTF-8") from fault


class JsonCodec:
    name = "json"
    binary = False
    ping = b"{}"

    def at_epoch(self, epoch: str) -> Codec:
        return self

    def decode(self, frame: bytes) -> list[Command]:
        if not frame.isascii():
            _check_text(frame)
        lines = frame.split(b"\n") if b"\n" in frame else [frame]
        if len(lines) > COMMANDS_PER_MESSAGE_MAX:
            raise FrameError("too many commands in one message")
        # One trailing line break is harmless and some clients write it; other blank lines are not.
        if len(lines) > 1 and not lines[-1]:
            lines.pop()
        return [_decode_line(line) for line in lines]

    def reply(self, command: int, result: Result) -> bytes:
        return b'{"id":%d,"%s":%s}' % (command, result.method.encode(), _encode(result))

    def rpc_reply(self, command: int, data: bytes) -> bytes:
        if not data:
            return b'{"id":%d,"rpc":{}}' % command
        return b'{"id":%d,"rpc":{"data":%s}}' % (command, data)

    def error(self, command: int, failure: Failure) -> bytes:
        temporary = b',"temporary":true' if failure.temporary else b""
        text = orjson.dumps(failure.message)
        return b'{"id":%d,"error":{"code":%d,"message":%s%s}}' % (
            command,
            failure.code,
            text,
            temporary,
        )

    def publication(self, channel: str, publication: Publication) -> bytes:
        return b'{"push":{"channel":%s,"pub":%s}}' % (orjson.dumps(channel), _encode(publication))

    def push(self, channel: str, push: Push) -> bytes:
        return b'{"push":{"channel":%s,"%s":%s}}' % (
            orjson.dumps(channel),
            push.kind.encode(),
            _encode(push),
        )

    def join(self, messages: Sequence[bytes]) -> bytes:
        return messages[0] if len(messages) == 1 else b"\n".join(messages)


JSON = JsonCodec()
