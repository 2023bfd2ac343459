"""Both decoders under anything; both encoders against the official schema as the SDK ships it."""

import json
from io import BytesIO

import centrifuge.protocol.client_pb2 as pb
import pytest
from google.protobuf.proto import parse_length_prefixed
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from live.protocol import codes
from live.protocol import commands as c
from live.protocol.codec import Codec, FrameError
from live.protocol.codec_json import JSON
from live.protocol.codec_protobuf import PROTOBUF, frame_of

INFO = c.ClientInfo("42", "client-1", conn_info=Raw(b'{"name":"Ann"}'))
PUBLICATION = c.Publication(Raw(b'{"a":1}'), 7, INFO)
RESULTS: list[c.Result] = [
    c.ConnectResult(
        client="id",
        version="1",
        ping=25,
        pong=True,
        expires=True,
        ttl=60,
        time=1_700_000_000_000,
        data=Raw(b'{"show":null}'),
        subs={"#42": c.SubscribeResult(recoverable=True, epoch="e", offset=3)},
    ),
    c.SubscribeResult(
        recoverable=True,
        positioned=True,
        epoch="e",
        offset=6,
        was_recovering=True,
        recovered=True,
        publications=(PUBLICATION,),
    ),
    c.UnsubscribeResult(),
    c.PublishResult(),
    c.PresenceResult({"client-1": INFO}),
    c.PresenceStatsResult(3, 2),
    c.HistoryResult((PUBLICATION,), "e", 7),
    c.RpcResult(Raw(b"[1]")),
    c.RefreshResult("id", "1", True, 60),
    c.SubRefreshResult(True, 60),
]


def messages(frame: bytes) -> list[pb.Reply]:
    """Read a Protobuf frame with the official schema."""
    stream, found = BytesIO(frame), []
    while stream.tell() < len(frame):
        found.append(parse_length_prefixed(pb.Reply, stream))
    return found


def command(**fields: object) -> bytes:
    return frame_of(pb.Command(**fields))


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_protobuf_replies_carry_what_json_replies_do(result: c.Result) -> None:
    """The official schema reads from our Protobuf what our JSON says."""
    said = json.loads(JSON.reply(5, result))
    (read,) = messages(PROTOBUF.reply(5, result))
    assert read.id == said["id"] == 5
    assert read.HasField(result.method)
    body = getattr(read, result.method)
    for name, value in said[result.method].items():
        found = getattr(body, name)
        if isinstance(found, bytes):
            found = json.loads(found)
        if isinstance(value, int | str | bool) or name == "data":
            assert found == value, name
        else:
            assert len(found) == len(value), name


def test_publications_are_equal_in_both_codecs() -> None:
    """Subscribers of one channel get equal payloads, whatever they speak."""
    said = json.loads(JSON.publication("room", PUBLICATION))["push"]
    (read,) = messages(PROTOBUF.publication("room", PUBLICATION))
    assert read.push.channel == said["channel"] == "room"
    assert json.loads(read.push.pub.data) == said["pub"]["data"]
    assert read.push.pub.offset == said["pub"]["offset"] == 7
    assert read.push.pub.info.user == said["pub"]["info"]["user"] == "42"


def test_several_replies_join_into_one_message() -> None:
    """JSON by line breaks without a blank line, Protobuf by lengths."""
    parts = [codes.BAD_REQUEST, codes.TOO_MANY_REQUESTS]
    lines = JSON.join([JSON.error(1, part) for part in parts]).split(b"\n")
    assert [json.loads(line)["error"]["code"] for line in lines] == [107, 111]
    read = messages(PROTOBUF.join([PROTOBUF.error(1, part) for part in parts]))
    assert [(reply.error.code, reply.error.temporary) for reply in read] == [
        (107, False),
        (111, True),
    ]


def test_protobuf_commands_of_the_official_schema_are_understood() -> None:
    """Connect with recovery, subscribe, history with a position: field for field."""
    frame = command(
        id=1,
        connect=pb.ConnectRequest(
            token="t",
            data=b'{"show": "demo"}',
            subs={"#42": pb.SubscribeRequest(recover=True, epoch="e", offset=2**40)},
        ),
    ) + command(
        id=2,
        history=pb.HistoryRequest(
            channel="a", limit=-1, since=pb.StreamPosition(offset=9, epoch="e"), reverse=True
        ),
    )
    connect, history = PROTOBUF.decode(frame)
    assert isinstance(connect.body, c.ConnectRequest) and isinstance(history.body, c.HistoryRequest)
    assert (connect.id, connect.body.token) == (1, "t")
    assert bytes(connect.body.data) == b'{"show": "demo"}'
    recovery = connect.body.subs["#42"]
    assert (recovery.recover, recovery.epoch, recovery.offset) == (True, "e", 2**40)
    assert (history.body.limit, history.body.since, history.body.reverse) == (
        -1,
        c.StreamPosition(9, "e"),
        True,
    )


@pytest.mark.parametrize("offset", [-5, 2**63, 2**64, 2**70])
@pytest.mark.parametrize(
    "request_",
    ['"history":{"channel":"a","since":{"offset":%d}}', '"subscribe":{"channel":"a","offset":%d}'],
    ids=["history", "subscribe"],
)
def test_json_offset_out_of_range_is_malformed(request_: str, offset: int) -> None:
    """No log stands there, and no server downstream takes such a number."""
    (read,) = JSON.decode(f'{{"id":1,{request_ % offset}}}'.encode())
    assert read.id == 1 and isinstance(read.body, c.Malformed)


@pytest.mark.parametrize("offset", [2**63, 2**64 - 1])
def test_protobuf_offset_out_of_range_is_malformed(offset: int) -> None:
    """The same bound, though the schema could carry more."""
    since = pb.StreamPosition(offset=offset)
    asked = (
        command(id=1, history=pb.HistoryRequest(channel="a", since=since)),
        command(id=1, subscribe=pb.SubscribeRequest(channel="a", offset=offset)),
    )
    for message in asked:
        (read,) = PROTOBUF.decode(message)
        assert isinstance(read.body, c.Malformed)


def test_largest_offset_is_read_by_both() -> None:
    """The bound itself is in range."""
    (plain,) = JSON.decode(b'{"id":1,"subscribe":{"channel":"a","offset":%d}}' % c.OFFSET_MAX)
    (packed,) = PROTOBUF.decode(
        command(id=1, subscribe=pb.SubscribeRequest(channel="a", offset=c.OFFSET_MAX))
    )
    assert plain == packed == c.Command(1, c.SubscribeRequest("a", offset=c.OFFSET_MAX))


def test_protobuf_pong_is_the_empty_message() -> None:
    """One zero byte."""
    assert PROTOBUF.decode(b"\x00") == [c.Command(0, c.Pong())]


@pytest.mark.parametrize("data", [b"no json", b"\xff", b'{"a":', b"[" * 5_000])
def test_protobuf_data_that_is_no_json_is_malformed(data: bytes) -> None:
    """JSON subscribers would get it as it is."""
    (read,) = PROTOBUF.decode(command(id=1, publish=pb.PublishRequest(channel="a", data=data)))
    assert isinstance(read.body, c.Malformed)


def test_protobuf_data_loses_its_line_breaks() -> None:
    """A line break inside a payload would end the message on a JSON connection."""
    data = b'{\n  "a": 1\n}'
    (read,) = PROTOBUF.decode(command(id=1, publish=pb.PublishRequest(channel="a", data=data)))
    assert isinstance(read.body, c.PublishRequest)
    assert b"\n" not in bytes(read.body.data)
    assert json.loads(bytes(read.body.data)) == {"a": 1}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x05",  # a length beyond the end
        b"\xff" * 11,  # no varint
        b"\x02\x08\x01\x01",  # a second message that is cut off
        b"\x03\x22\x01\x0a",  # no id
        b"\x02\x0b\x00",  # a group
        b"\x02\x00\x00",  # field 0
        b"\x07\x08\x01\x6a\x03\x12\x01\xff",  # text that is not UTF-8
        b"\xc8\x01" + b"\x0b" * 200,  # groups in groups
        b"\x84\x80\x80\x80\x80\x00\x08\x01\x5a\x00",  # a length of six bytes
    ],
)
def test_protobuf_garbage_is_a_frame_error(frame: bytes) -> None:
    """Nothing is read past the end."""
    with pytest.raises(FrameError):
        PROTOBUF.decode(frame)


def test_protobuf_skips_fields_that_it_does_not_know() -> None:
    """A later protocol's fields of any type, in a command and in its request; known ones in a type
    that they do not have count as unknown."""
    unknown = b"\xa0\x06\x01" + b"\xa5\x06four" + b"\xa1\x06foureyes" + b"\xa2\x06\x02no"
    rpc = unknown + b"\x12\x01m" + b"\x10\x05"
    message = b"\x08\x07" + unknown + b"\x6a" + bytes((len(rpc),)) + rpc
    (read,) = PROTOBUF.decode(bytes((len(message),)) + message)
    assert read == c.Command(7, c.RpcRequest(name="m"))


@pytest.mark.parametrize("codec", [JSON, PROTOBUF], ids=["json", "protobuf"])
@given(frame=st.binary(max_size=300))
def test_decoder_survives_any_bytes(codec: Codec, frame: bytes) -> None:
    """Any bytes are commands or a FrameError, never another exception."""
    try:
        commands = codec.decode(frame)
    except FrameError:
        return
    assert all(isinstance(found, c.Command) for found in commands)


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
_methods = st.sampled_from([request.method for request in c.REQUESTS] + ["id", "later"])


@given(fields=st.dictionaries(_methods, _json_values, max_size=3))
def test_json_decoder_survives_any_object(fields: dict[str, object]) -> None:
    """Wrong types anywhere end in a command or in a FrameError."""
    try:
        JSON.decode(json.dumps(fields).encode())
    except FrameError:
        pass


@given(
    channel=st.text(), data=_json_values.filter(lambda v: v == v), number=st.integers(1, 2**32 - 1)
)
def test_publish_means_the_same_in_both_codecs(channel: str, data: object, number: int) -> None:
    """One request, written both ways, is read as the same struct."""
    try:
        channel.encode()
        text = json.dumps(data, allow_nan=False).encode()
    except (UnicodeEncodeError, ValueError):
        return
    line = json.dumps({"id": number, "publish": {"channel": channel, "data": None}}).encode()
    line = line.replace(b'"data": null', b'"data": ' + text)
    try:
        (by_json,) = JSON.decode(line)
    except FrameError:  # lone surrogates, which only JSON can write
        return
    frame = command(id=number, publish=pb.PublishRequest(channel=channel, data=text))
    (by_protobuf,) = PROTOBUF.decode(frame)
    assert isinstance(by_json.body, c.PublishRequest)
    assert isinstance(by_protobuf.body, c.PublishRequest)
    assert by_json.id == by_protobuf.id == number
    assert by_json.body.channel == by_protobuf.body.channel == channel
    assert bytes(by_json.body.data) == bytes(by_protobuf.body.data) == text
