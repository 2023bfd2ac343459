"""The Protobuf wire format: `varint(length)` and a message, as often as there are messages.

The same commands and answers as in JSON; raw values are UTF-8 JSON inside bytes fields, checked
here because a JSON subscriber will get them as they are. Field numbers are client.proto's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

from live.protocol import commands as c
from live.protocol.codec import COMMANDS_PER_MESSAGE_MAX, Codec, FrameError
from live.protocol.codes import Failure
from live.protocol.halves import FAULT, path_of_half, read_with_halves
from live.protocol.wire import (
    Value,
    put_bytes,
    put_message,
    put_number,
    put_text,
    read_chunk,
    read_fields,
    varint,
)

_raw = msgspec.json.Decoder(Raw)


class _BadField(Exception):
    """A field of a known command has the wrong type: the client is told with error 107."""

    in_data = False


class _BadData(_BadField):
    """The fault is in what the application would have read: error 1400."""

    in_data = True


# Reading


def _text(value: Value) -> str:
    if isinstance(value, int):
        raise _BadField("expected text")
    try:
        return value.decode()
    except UnicodeDecodeError as fault:
        raise _BadField("text is not UTF-8") from fault


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise _BadField("expected a number")
    return value


def _offset(value: Value) -> int:
    number = _number(value)
    if number > c.OFFSET_MAX:
        raise _BadField("offset out of range")
    return number


def _signed(value: Value) -> int:
    number = _number(value)
    return number - 2**64 if number >= 2**63 else number


def _flag(value: Value) -> bool:
    return _number(value) != 0


def _json(value: Value) -> Raw:
    if isinstance(value, int):
        raise _BadField("expected bytes")
    if not value:
        return c.NO_DATA
    try:
        value.decode()
        _raw.decode(value)
        # On one line: line breaks end a message on a JSON connection.
        return Raw(msgspec.json.format(value, indent=-1) if b"\n" in value else value)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as fault:
        path = path_of_half(read_with_halves(value))
        if path is not None:
            raise _BadData(f"{path or 'data'}: {FAULT}") from fault
        raise _BadField("data is not JSON") from fault


Read = Callable[[Value], object]
Fields = Mapping[int, tuple[str, Read]]


@dataclass(frozen=True, slots=True)
class _Message:
    """How to read one submessage into its struct."""

    make: Callable[..., msgspec.Struct]
    fields: Fields

    def __call__(self, value: Value) -> msgspec.Struct:
        if isinstance(value, int):
            raise _BadField("expected a message")
        found: dict[str, object] = {}
        for number, item in read_fields(value):
            known = self.fields.get(number)
            if known is None:
                continue
            name, read = known
            if isinstance(read, _MapOf):
                entries = found.setdefault(name, {})
                assert isinstance(entries, dict), "a map field is read into a dict"
                key, entry = read(item)
                entries[key] = entry
            else:
                found[name] = read(item)
        return self.make(**found)


@dataclass(frozen=True, slots=True)
class _MapOf:
    """A map travels as repeated messages with a key (1) and a value (2)."""

    read: Read
    default: object

    def __call__(self, value: Value) -> tuple[str, object]:
        if isinstance(value, int):
            raise _BadField("expected a map entry")
        key, entry = "", self.default
        for number, item in read_fields(value):
            if number == 1:
                key = _text(item)
            elif number == 2:
                entry = self.read(item)
        return key, entry


_SUBSCRIBE = _Message(
    c.SubscribeRequest,
    {
        1: ("channel", _text),
        2: ("token", _text),
        3: ("recover", _flag),
        6: ("epoch", _text),
        7: ("offset", _offset),
        8: ("data", _json),
        9: ("positioned", _flag),
        10: ("recoverable", _flag),
        11: ("join_leave", _flag),
        12: ("delta", _text),
        13: ("tf", lambda value: Raw(b"{}") if value else c.NO_DATA),
        14: ("flag", _signed),
        15: ("type", _signed),
    },
)
_CONNECT = _Message(
    c.ConnectRequest,
    {
        1: ("token", _text),
        2: ("data", _json),
        3: ("subs", _MapOf(_SUBSCRIBE, c.SubscribeRequest())),
        4: ("name", _text),
        5: ("version", _text),
        6: ("headers", _MapOf(_text, "")),
    },
)
_POSITION = _Message(c.StreamPosition, {1: ("offset", _offset), 2: ("epoch", _text)})
_CHANNEL: Fields = {1: ("channel", _text)}
_REQUESTS: Mapping[int, _Message] = {
    4: _CONNECT,
    5: _SUBSCRIBE,
    6: _Message(c.UnsubscribeRequest, _CHANNEL),
    7: _Message(
        c.PublishRequest,
        {
            1: ("channel", _text),
            2: ("data", _json),
            3: ("type", _signed),
            4: ("key", _text),
            5: ("removed", _flag),
        },
    ),
    8: _Message(c.PresenceRequest, _CHANNEL),
    9: _Message(c.PresenceStatsRequest, _CHANNEL),
    10: _Message(
        c.HistoryRequest,
        {
            1: ("channel", _text),
            7: ("limit", _signed),
            8: ("since", _POSITION),
            9: ("reverse", _flag),
        },
    ),
    11: _Message(c.PingRequest, {}),
    12: _Message(c.SendRequest, {1: ("data", _json)}),
    13: _Message(c.RpcRequest, {1: ("data", _json), 2: ("name", _text)}),
    14: _Message(c.RefreshRequest, {1: ("token", _text)}),
    15: _Message(c.SubRefreshRequest, {1: ("channel", _text), 2: ("token", _text)}),
}
_ID_MAX = 2**32 - 1


def _decode_command(message: bytes) -> c.Command:
    if not message:
        return c.Command(0, c.Pong())
    number, found = 0, {}
    for field, value in read_fields(message):
        if field == 1:
            if not isinstance(value, int) or value > _ID_MAX:
                raise FrameError("bad id")
            number = value
        elif field in _REQUESTS:
            found[field] = value
    body: c.Body = c.Unknown()
    if found:
        field = min(found)
        try:
            read = _REQUESTS[field](found[field])
            assert isinstance(read, c.Request), read
            body = read
        except _BadField as fault:
            body = c.Malformed(str(fault), in_data=fault.in_data)
    if number == 0 and not isinstance(body, c.SendRequest):
        raise FrameError("id missing")
    return c.Command(number, body)


# Writing


def _data(field: int, raw: Raw | UnsetType) -> bytes:
    return b"" if raw is UNSET else put_bytes(field, bytes(raw))


def _client_info(info: c.ClientInfo) -> bytes:
    return (
        put_text(1, info.user)
        + put_text(2, info.client)
        + _data(3, info.conn_info)
        + _data(4, info.chan_info)
    )


def _publication(publication: c.Publication) -> bytes:
    info = publication.info
    return (
        put_bytes(4, bytes(publication.data))
        + (b"" if info is None else put_message(5, _client_info(info)))
        + put_number(6, publication.offset)
    )


def _subscribe_result(result: c.SubscribeResult) -> bytes:
    return (
        put_number(1, result.expires)
        + put_number(2, result.ttl)
        + put_number(3, result.recoverable)
        + put_text(6, result.epoch)
        + b"".join(put_message(7, _publication(item)) for item in result.publications)
        + put_number(8, result.recovered)
        + put_number(9, result.offset)
        + put_number(10, result.positioned)
        + _data(11, result.data)
        + put_number(12, result.was_recovering)
    )


def _put_map(field: int, entries: Mapping[str, bytes]) -> bytes:
    return b"".join(
        put_message(field, put_text(1, key) + put_message(2, value))
        for key, value in entries.items()
    )


def _connect_result(result: c.ConnectResult) -> bytes:
    return (
        put_text(1, result.client)
        + put_text(2, result.version)
        + put_number(3, result.expires)
        + put_number(4, result.ttl)
        + _data(5, result.data)
        + _put_map(6, {name: _subscribe_result(sub) for name, sub in result.subs.items()})
        + put_number(7, result.ping)
        + put_number(8, result.pong)
        + put_number(11, result.time)
    )


def _result(result: c.Result) -> tuple[int, bytes]:
    """Return the field of a reply that carries this result, and the result."""
    match result:
        case c.ConnectResult():
            return 5, _connect_result(result)
        case c.SubscribeResult():
            return 6, _subscribe_result(result)
        case c.UnsubscribeResult():
            return 7, b""
        case c.PublishResult():
            return 8, b""
        case c.PresenceResult():
            infos = {client: _client_info(info) for client, info in result.presence.items()}
            return 9, _put_map(1, infos)
        case c.PresenceStatsResult():
            return 10, put_number(1, result.num_clients) + put_number(2, result.num_users)
        case c.HistoryResult():
            items = b"".join(put_message(1, _publication(item)) for item in result.publications)
            return 11, items + put_text(2, result.epoch) + put_number(3, result.offset)
        case c.RpcResult():
            return 13, _data(1, result.data)
        case c.RefreshResult():
            return 14, (
                put_text(1, result.client)
                + put_text(2, result.version)
                + put_number(3, result.expires)
                + put_number(4, result.ttl)
            )
        case c.SubRefreshResult():
            return 15, put_number(1, result.expires) + put_number(2, result.ttl)


def _push(push: c.Push) -> bytes:
    match push:
        case c.JoinPush():
            return put_message(5, put_message(1, _client_info(push.info)))
        case c.LeavePush():
            return put_message(6, put_message(1, _client_info(push.info)))
        case c.UnsubscribePush():
            return put_message(7, put_number(2, push.code) + put_text(3, push.reason))


def _framed(message: bytes) -> bytes:
    return varint(len(message)) + message


class ProtobufCodec:
    name = "protobuf"
    binary = True
    ping = b"\x00"

    def at_epoch(self, epoch: str) -> Codec:
        return self

    def decode(self, frame: bytes) -> list[c.Command]:
        if not frame:
            raise FrameError("empty message")
        commands = []
        at = 0
        while at < len(frame):
            message, at = read_chunk(frame, at)
            commands.append(_decode_command(message))
            if len(commands) > COMMANDS_PER_MESSAGE_MAX:
                raise FrameError("too many commands in one message")
        return commands

    def reply(self, command: int, result: c.Result) -> bytes:
        field, body = _result(result)
        return _framed(put_number(1, command) + put_message(field, body))

    def rpc_reply(self, command: int, data: bytes) -> bytes:
        return _framed(put_number(1, command) + put_message(13, put_bytes(1, data)))

    def error(self, command: int, failure: Failure) -> bytes:
        body = (
            put_number(1, failure.code)
            + put_text(2, failure.message)
            + put_number(3, failure.temporary)
        )
        return _framed(put_number(1, command) + put_message(2, body))

    def publication(self, channel: str, publication: c.Publication) -> bytes:
        body = put_text(2, channel) + put_message(4, _publication(publication))
        return _framed(put_message(4, body))

    def push(self, channel: str, push: c.Push) -> bytes:
        return _framed(put_message(4, put_text(2, channel) + _push(push)))

    def join(self, messages: Sequence[bytes]) -> bytes:
        return messages[0] if len(messages) == 1 else b"".join(messages)


PROTOBUF = ProtobufCodec()
