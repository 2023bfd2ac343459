"""The light connection's fast path against websockets' own protocol, on any frames and splits."""

import asyncio
import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.speedups import apply_mask

from live.protocol import codes, shared
from live.protocol.codec import MESSAGE_BYTES_MAX, Codec
from live.protocol.codec_json import JSON
from live.protocol.codec_protobuf import PROTOBUF
from live.protocol.session import Session
from live.protocol.shared import Shared
from live.transport.fast.frame_budget import LATE_BYTES_MAX
from live.transport.fast.light import LightConnection
from live.transport.fast.line import UpgradedLine


class Transport:
    """Remembers; `owed` is what the peer has not taken."""

    def __init__(self) -> None:
        self.owed = 0
        self.sent = b""
        self.ended = False
        self.paused = False

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.owed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@dataclass
class Heard:
    """Stands for a session: keeps messages, closes when told a certain one."""

    connection: LightConnection
    messages: list[bytes] = field(default_factory=list)
    lost_calls: int = 0
    client: str = "c"

    def receive(self, message: bytes) -> None:
        self.messages.append(message)
        if message == b"close me":
            self.close(codes.FORCED)

    def close(self, close: codes.Close) -> None:
        self.connection.close(close)

    def lost(self) -> None:
        self.lost_calls += 1


class Registry:
    def ended(self, connection: UpgradedLine) -> None:
        pass


def connect(codec: Codec = JSON) -> tuple[LightConnection, Transport, Heard]:
    transport = Transport()
    connection = LightConnection(cast(asyncio.Transport, transport), codec, Registry())
    heard = Heard(connection)
    connection.session = cast(Session, heard)
    return connection, transport, heard


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """Write a masked frame, also one that no correct client would send."""
    head = shared.frame_header((0x80 if fin else 0) | opcode, len(data))
    mask = b"\x01\x02\x03\x04"
    return bytes((head[0], head[1] | 0x80)) + head[2:] + mask + apply_mask(data, mask)


_payload = st.binary(max_size=300)
_payload |= st.sampled_from([0, 125, 126, 5_000, 65_536, 70_000]).map(lambda size: b"x" * size)
_controls = st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE, Opcode.CONT])
_ordinary = st.builds(frame, st.just(Opcode.TEXT), _payload)
_odd = (
    st.builds(frame, _controls, st.binary(max_size=130), fin=st.booleans())
    | st.builds(frame, st.just(Opcode.TEXT), st.binary(max_size=20), fin=st.just(False))
    | st.just(Frame(Opcode.TEXT, b"unmasked").serialize(mask=False))
    | st.just(frame(Opcode.CLOSE, Close(1000, "bye").serialize()))
    | st.sampled_from([b"\x81", b"\xc1\x80", b"\x8b\x80\x00\x00\x00\x00", b"\x81\xff\xff"])
)
_frames = st.lists(_ordinary | _ordinary | _odd, max_size=6)
_ended_by_session = st.lists(
    _ordinary
    | _odd
    | st.just(frame(Opcode.TEXT, b"close me"))
    | st.just(frame(Opcode.BINARY, b"")),
    max_size=6,
)
_cuts = st.lists(st.integers(0, 10_000), max_size=5)


async def turns(connection: LightConnection) -> None:
    """Let the loop turn until all that was read is parsed."""
    for _ in range(100_000):
        if not connection._put_off:
            return
        await asyncio.sleep(0)
    raise AssertionError("it is never parsed")


async def replay(
    stream: bytes, cuts: list[int], codec: Codec, *, promoted: bool
) -> tuple[list[bytes], bytes, bool]:
    connection, transport, heard = connect(codec)
    if promoted:
        connection._promote()
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    for start, stop in pairwise(edges):
        if start != stop and not transport.ended:
            connection.data_received(stream[start:stop])
            await turns(connection)
    return heard.messages, transport.sent, transport.ended


@given(frames=_frames, cuts=_cuts)
def test_fast_path_behaves_as_the_core_does(frames: list[bytes], cuts: list[int]) -> None:
    """Same messages, same answers, same end - whatever the frames and wherever reads split them."""
    stream = b"".join(frames)

    async def both() -> None:
        fast = await replay(stream, cuts, JSON, promoted=False)
        core = await replay(stream, cuts, JSON, promoted=True)
        assert fast == core

    asyncio.run(both())


@example(frames=[b'\x81\x88\x01\x02\x03\x04bnlwd"na', frame(Opcode.PING, b"")], cuts=[])
@given(frames=_ended_by_session, cuts=_cuts)
def test_exactly_one_close_is_the_last_thing_sent(frames: list[bytes], cuts: list[int]) -> None:
    """Whoever ends it - session, peer or a broken frame - and whatever came in the same read."""
    stream = b"".join(frames)

    async def check() -> None:
        _, sent, _ = await replay(stream, cuts, JSON, promoted=False)
        opcodes = []
        while sent:
            assert sent[1] < 126, "answers of the core are short"
            opcodes.append(Opcode(sent[0] & 0x0F))
            sent = sent[2 + sent[1] :]
        assert Opcode.CLOSE not in opcodes[:-1]

    asyncio.run(check())


async def test_ordinary_frames_stay_on_the_fast_path() -> None:
    """Several in one read, one split over two: none of them costs the core's memory."""
    connection, _, heard = connect()
    stream = frame(Opcode.TEXT, b"one") + frame(Opcode.TEXT, b"t" * 1_000) + frame(Opcode.TEXT, b"")
    connection.data_received(stream[:40])
    connection.data_received(stream[40:])
    assert heard.messages == [b"one", b"t" * 1_000, b""]
    assert not connection.promoted


async def test_pong_leaves_before_the_message_behind_it() -> None:
    """A client that pings and asks gets its pong first."""
    connection, transport, heard = connect()
    connection.data_received(frame(Opcode.PING, b"now") + frame(Opcode.TEXT, b"ask"))
    assert transport.sent == b"\x8a\x03now"
    assert heard.messages == [b"ask"]


async def test_nothing_is_written_after_the_close() -> None:
    """Neither replies nor broadcasts; the peer's answer ends the connection."""
    connection, transport, _ = connect()
    connection.close(codes.SHUTDOWN)
    closing = transport.sent
    connection.write(b"late")
    connection.write_shared(Shared(b"later", binary=False))
    connection.close(codes.FORCED)
    assert transport.sent == closing
    assert closing.startswith(b"\x88") and b"shutdown" in closing

    connection.data_received(frame(Opcode.CLOSE, Close(3001, "").serialize()))

    assert transport.ended


async def test_sender_of_a_broken_frame_can_read_so() -> None:
    """The rest of it is thrown away until they hang up, or five seconds have passed."""
    connection, transport, _ = connect()
    connection.data_received(b"\x81\xff" + (2**40).to_bytes(8, "big") + b"\x00\x00\x00\x00")
    connection.data_received(b"x" * 70_000)
    assert transport.sent[2:4] == (1009).to_bytes(2, "big")
    assert not transport.ended


async def test_our_close_waits_for_the_peers() -> None:
    """What they sent meanwhile is not their answer: ending then would take the close frame with
    it."""
    connection, transport, _ = connect()
    connection.close(codes.SHUTDOWN)
    connection.data_received(frame(Opcode.TEXT, b"was on its way") * 2)
    assert not transport.ended
    connection.data_received(frame(Opcode.CLOSE, Close(3001, "shutdown").serialize()))
    assert transport.ended


async def test_flood_behind_our_close_is_not_read() -> None:
    """It costs nothing until the deadline of the closing handshake."""
    connection, transport, _ = connect()
    connection.close(codes.FLOOD)
    connection.data_received(frame(Opcode.TEXT, b"x" * 1_000) * (LATE_BYTES_MAX // 1_008))
    await turns(connection)
    before = transport.paused
    connection.data_received(frame(Opcode.TEXT, b"x" * 1_000))
    assert (before, transport.paused, transport.ended) == (False, True, False)


@pytest.mark.parametrize(
    ("size", "code"), [(MESSAGE_BYTES_MAX, None), (MESSAGE_BYTES_MAX + 1, 1009)]
)
async def test_message_limit_is_exact(size: int, code: int | None) -> None:
    """64 KiB pass; one byte more is closed 1009 before it is buffered."""
    connection, transport, heard = connect()
    whole = frame(Opcode.TEXT, os.urandom(size))
    connection.data_received(whole[:20])
    connection.data_received(whole[20:])
    if code is None:
        assert [len(message) for message in heard.messages] == [size]
    else:
        assert heard.messages == []
        assert transport.sent[2:4] == code.to_bytes(2, "big")


async def test_binary_on_a_json_connection_closes_3506() -> None:
    """And text on a Protobuf connection as well."""
    for codec, opcode in ((JSON, Opcode.BINARY), (PROTOBUF, Opcode.TEXT)):
        connection, transport, heard = connect(codec)
        connection.data_received(frame(opcode, b"\x00"))
        assert transport.sent[2:4] == (3506).to_bytes(2, "big")
        assert heard.messages == []


async def test_full_write_buffer_stops_reading() -> None:
    """Who does not read their answers may not ask for more."""
    connection, transport, _ = connect()
    connection.pause_writing()
    assert transport.paused
    connection.resume_writing()
    assert not transport.paused
