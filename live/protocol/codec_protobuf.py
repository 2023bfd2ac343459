"""The Protobuf wire format: `varint(length)` and a message, as often as there are messages.

The same commands and answers as in JSON; client.proto says their fields. Raw values are UTF-8 JSON
inside bytes fields, checked here because a JSON subscriber will get them as they are.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from google.protobuf.message import DecodeError, Message
from msgspec import UNSET, Raw, UnsetType

from live.protocol import client_pb2 as pb
from live.protocol import commands as c
from live.protocol.codec import COMMANDS_PER_MESSAGE_MAX, Codec, FrameError
from live.protocol.codes import Failure
from live.protocol.halves import FAULT, path_of_half, read_with_halves

VARINT_BYTES_MAX = 5  # of a length; a client message has 64 KiB at most

_raw = msgspec.json.Decoder(Raw)


class _BadField(Exception):
    """A field of a known command is not what it needs: the client is told with error 107."""

    in_data = False


class _BadData(_BadField):
    """The fault is in what the application would have read: error 1400."""

    in_data = True


# Reading


def split_frame(frame: bytes) -> Iterator[bytes]:
    """The messages of a frame. Raises FrameError where one ends too early."""
    at = 0
    while at < len(frame):
        length, at = _read_varint(frame, at)
        if length > len(frame) - at:
            raise FrameError("a length reaches beyond the message")
        yield frame[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at this place and the place behind it."""
    number = 0
    for index, byte in enumerate(data[at : at + VARINT_BYTES_MAX]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, at + index + 1
    raise FrameError("bad varint")


def _offset(number: int) -> int:
    if number > c.OFFSET_MAX:
        raise _BadField("offset out of range")
    return number


def _json(value: bytes) -> Raw:
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


def _subscribe(asked: pb.SubscribeRequest) -> c.SubscribeRequest:
    return c.SubscribeRequest(
        channel=asked.channel,
        token=asked.token,
        recover=asked.recover,
        epoch=asked.epoch,
        offset=_offset(asked.offset),
        data=_json(asked.data),
        positioned=asked.positioned,
        recoverable=asked.recoverable,
        join_leave=asked.join_leave,
        delta=asked.delta,
        tf=Raw(b"{}") if asked.tf else c.NO_DATA,
        flag=asked.flag,
        type=asked.type,
    )


def _connect(asked: pb.ConnectRequest) -> c.ConnectRequest:
    return c.ConnectRequest(
        token=asked.token,
        data=_json(asked.data),
        name=asked.name,
        version=asked.version,
        headers=dict(asked.headers),
        subs={channel: _subscribe(sub) for channel, sub in asked.subs.items()},
    )


def _publish(asked: pb.PublishRequest) -> c.PublishRequest:
    data = _json(asked.data)
    return c.PublishRequest(asked.channel, data, asked.type, asked.key, asked.removed)


def _history(asked: pb.HistoryRequest) -> c.HistoryRequest:
    since = None
    if asked.HasField("since"):
        since = c.StreamPosition(_offset(asked.since.offset), asked.since.epoch)
    return c.HistoryRequest(asked.channel, asked.limit, since, asked.reverse)


def _request(asked: Message) -> c.Request:
    match asked:
        case pb.ConnectRequest():
            return _connect(asked)
        case pb.SubscribeRequest():
            return _subscribe(asked)
        case pb.UnsubscribeRequest():
            return c.UnsubscribeRequest(asked.channel)
        case pb.PublishRequest():
            return _publish(asked)
        case pb.PresenceRequest():
            return c.PresenceRequest(asked.channel)
        case pb.PresenceStatsRequest():
            return c.PresenceStatsRequest(asked.channel)
        case pb.HistoryRequest():
            return _history(asked)
        case pb.PingRequest():
            return c.PingRequest()
        case pb.SendRequest():
            return c.SendRequest(_json(asked.data))
        case pb.RpcRequest():
            return c.RpcRequest(_json(asked.data), asked.method)
        case pb.RefreshRequest():
            return c.RefreshRequest(asked.token)
        case pb.SubRefreshRequest():
            return c.SubRefreshRequest(asked.channel, asked.token)
    raise AssertionError(f"no command: {asked}")


def _decode_command(message: bytes) -> c.Command:
    if not message:
        return c.Command(0, c.Pong())
    try:
        command = pb.Command.FromString(message)
    except DecodeError as fault:
        raise FrameError("no command") from fault
    # In the order of their numbers, so the first one counts, as it does in JSON.
    bodies = [value for field, value in command.ListFields() if field.number != _ID]
    body: c.Body = c.Unknown()
    if bodies:
        try:
            body = _request(bodies[0])
        except _BadField as fault:
            body = c.Malformed(str(fault), in_data=fault.in_data)
    if command.id == 0 and not isinstance(body, c.SendRequest):
        raise FrameError("id missing")
    return c.Command(command.id, body)


_ID = pb.Command.ID_FIELD_NUMBER


# Writing


def _data(raw: Raw | UnsetType) -> bytes:
    return b"" if raw is UNSET else bytes(raw)


def _client_info(info: c.ClientInfo) -> pb.ClientInfo:
    return pb.ClientInfo(
        user=info.user,
        client=info.client,
        conn_info=_data(info.conn_info),
        chan_info=_data(info.chan_info),
    )


def _publication(publication: c.Publication) -> pb.Publication:
    return pb.Publication(
        data=bytes(publication.data),
        info=None if publication.info is None else _client_info(publication.info),
        offset=publication.offset,
    )


def _subscribe_result(result: c.SubscribeResult) -> pb.SubscribeResult:
    return pb.SubscribeResult(
        expires=result.expires,
        ttl=result.ttl,
        recoverable=result.recoverable,
        epoch=result.epoch,
        publications=[_publication(item) for item in result.publications],
        recovered=result.recovered,
        offset=result.offset,
        positioned=result.positioned,
        data=_data(result.data),
        was_recovering=result.was_recovering,
    )


def _connect_result(result: c.ConnectResult) -> pb.ConnectResult:
    return pb.ConnectResult(
        client=result.client,
        version=result.version,
        expires=result.expires,
        ttl=result.ttl,
        data=_data(result.data),
        subs={name: _subscribe_result(sub) for name, sub in result.subs.items()},
        ping=result.ping,
        pong=result.pong,
        time=result.time,
    )


def _history_result(result: c.HistoryResult) -> pb.HistoryResult:
    publications = [_publication(item) for item in result.publications]
    return pb.HistoryResult(publications=publications, epoch=result.epoch, offset=result.offset)


def _presence_result(presence: Mapping[str, c.ClientInfo]) -> pb.PresenceResult:
    infos = {client: _client_info(info) for client, info in presence.items()}
    return pb.PresenceResult(presence=infos)


def _reply(command: int, result: c.Result) -> pb.Reply:
    match result:
        case c.ConnectResult():
            return pb.Reply(id=command, connect=_connect_result(result))
        case c.SubscribeResult():
            return pb.Reply(id=command, subscribe=_subscribe_result(result))
        case c.UnsubscribeResult():
            return pb.Reply(id=command, unsubscribe=pb.UnsubscribeResult())
        case c.PublishResult():
            return pb.Reply(id=command, publish=pb.PublishResult())
        case c.PresenceResult():
            return pb.Reply(id=command, presence=_presence_result(result.presence))
        case c.PresenceStatsResult():
            stats = pb.PresenceStatsResult(
                num_clients=result.num_clients, num_users=result.num_users
            )
            return pb.Reply(id=command, presence_stats=stats)
        case c.HistoryResult():
            return pb.Reply(id=command, history=_history_result(result))
        case c.RpcResult():
            return pb.Reply(id=command, rpc=pb.RpcResult(data=_data(result.data)))
        case c.RefreshResult():
            refreshed = pb.RefreshResult(
                client=result.client,
                version=result.version,
                expires=result.expires,
                ttl=result.ttl,
            )
            return pb.Reply(id=command, refresh=refreshed)
        case c.SubRefreshResult():
            renewed = pb.SubRefreshResult(expires=result.expires, ttl=result.ttl)
            return pb.Reply(id=command, sub_refresh=renewed)


def _push(channel: str, push: c.Push) -> pb.Push:
    match push:
        case c.JoinPush():
            return pb.Push(channel=channel, join=pb.Join(info=_client_info(push.info)))
        case c.LeavePush():
            return pb.Push(channel=channel, leave=pb.Leave(info=_client_info(push.info)))
        case c.UnsubscribePush():
            end = pb.Unsubscribe(code=push.code, reason=push.reason)
            return pb.Push(channel=channel, unsubscribe=end)


def frame_of(message: Message) -> bytes:
    """A frame with this message alone."""
    body = message.SerializeToString()
    head, rest = bytearray(), len(body)
    while rest >= 0x80:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return bytes(head) + body


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
        for message in split_frame(frame):
            commands.append(_decode_command(message))
            if len(commands) > COMMANDS_PER_MESSAGE_MAX:
                raise FrameError("too many commands in one message")
        return commands

    def reply(self, command: int, result: c.Result) -> bytes:
        return frame_of(_reply(command, result))

    def rpc_reply(self, command: int, data: bytes) -> bytes:
        return frame_of(pb.Reply(id=command, rpc=pb.RpcResult(data=data)))

    def error(self, command: int, failure: Failure) -> bytes:
        error = pb.Error(code=failure.code, message=failure.message, temporary=failure.temporary)
        return frame_of(pb.Reply(id=command, error=error))

    def publication(self, channel: str, publication: c.Publication) -> bytes:
        return frame_of(pb.Reply(push=pb.Push(channel=channel, pub=_publication(publication))))

    def push(self, channel: str, push: c.Push) -> bytes:
        return frame_of(pb.Reply(push=_push(channel, push)))

    def join(self, messages: Sequence[bytes]) -> bytes:
        return messages[0] if len(messages) == 1 else b"".join(messages)


PROTOBUF = ProtobufCodec()
