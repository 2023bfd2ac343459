"""One compression stream for many: who gets a packed frame can unpack it, whatever they missed."""

import asyncio
import random
import zlib
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, State
from websockets.protocol import Protocol as SansIO

from live.base.errors import SettingsError
from live.base.settings import Compression, Settings
from live.domain.ids import ShowId
from live.fanout import hub as hub_module
from live.fanout.cohort import BUFFER_SOFT_BYTES, Member
from live.fanout.hub import Hub
from live.fanout.topic import DESK_LOGS, Topic
from live.protocol import codes, deflate
from live.protocol.codec import MESSAGE_BYTES_MAX, Codec
from live.protocol.codec_json import JSON
from live.protocol.codec_protobuf import PROTOBUF, split_frame
from live.protocol.commands import Publication
from live.protocol.deflate import WINDOW_BITS, SharedStream, answer_offer
from live.protocol.session import Session
from live.transport.fast.deflated import DeflatedConnection
from live.transport.fast.light import LightConnection
from tests.unit.test_realtime_light import Heard, Registry, Transport, frame

SHOW = ShowId("show")
TAIL = b"\0\0\xff\xff"  # what a sender cuts off behind each message


# The offer


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", f"server_max_window_bits={WINDOW_BITS}"),
        ("permessage-deflate; client_max_window_bits", f"server_max_window_bits={WINDOW_BITS}"),
        ("permessage-deflate; server_max_window_bits=15", f"server_max_window_bits={WINDOW_BITS}"),
        (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            "server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            "permessage-deflate; server_no_context_takeover, permessage-deflate",
            f"server_max_window_bits={WINDOW_BITS}",
        ),
        ("x-other; a=1, permessage-deflate", f"server_max_window_bits={WINDOW_BITS}"),
    ],
)
def test_offer_is_taken_where_the_stream_fits(offer: str, answer: str) -> None:
    """The client keeps no context from message to message; ours fits into the window it has."""
    expected = f"permessage-deflate; client_no_context_takeover; {answer}"
    assert answer_offer(offer.encode()) == expected.encode()


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=11",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; unheard_of",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=7",
        ";;;",
        "permessage-deflate; \xff",
    ],
)
def test_offer_that_does_not_fit_is_declined(offer: str) -> None:
    """The connection is a plain one."""
    assert answer_offer(offer.encode("latin-1")) is None


def test_setting_is_off_unless_it_says_shared() -> None:
    """Anything else is a fault that names the key."""
    assert Settings.from_env({}).compression is Compression.OFF
    assert Settings.from_env({"LIVE_COMPRESSION": "shared"}).compression is Compression.SHARED
    with pytest.raises(SettingsError, match="LIVE_COMPRESSION"):
        Settings.from_env({"LIVE_COMPRESSION": "each"})


# The stream


def test_stream_starts_anew_at_each_full_flush() -> None:
    """Who begins to read there needs nothing of what came before."""
    stream = SharedStream()
    texts = [b'{"n":%d,"words":"the same in each of them"}' % n for n in range(120)]
    packed = [stream.pack(text, binary=False) for text in texts]
    starts = [number for number, each in enumerate(packed) if each.after == 0]
    assert starts == [0, 50, 100]
    for start in starts:
        reader = zlib.decompressobj(-WINDOW_BITS)
        for number in range(start, len(texts)):
            length = packed[number].wire[1]
            assert packed[number].wire[0] == 0xC1 and length < 126
            assert reader.decompress(packed[number].wire[2:] + TAIL) == texts[number]
    size = sum(len(each.wire) for each in packed)
    assert size < 0.5 * sum(map(len, texts))


# A connection


class Phone:
    """A client with a decoder of its own, behind a connection and a session's stand-in."""

    def __init__(
        self, codec: Codec = JSON, kind: type[LightConnection] = DeflatedConnection
    ) -> None:
        self.transport = Transport()
        self.port = kind(cast(asyncio.Transport, self.transport), codec, Registry())
        self.heard = Heard(self.port)
        self.port.session = cast(Session, self.heard)
        self.codec = codec  # a session has one, and this stands for it, too
        self.read: list[bytes] = []
        self._taken = 0
        self._core = SansIO(CLIENT, state=State.OPEN)
        # Without a context of its own for what it sends, with one for what it gets.
        self._core.extensions = [PerMessageDeflate(False, True, WINDOW_BITS, 15)]

    def take(self) -> list[bytes]:
        """Unpack what was sent since the last time; fails where the context is another one."""
        self._core.receive_data(self.transport.sent[self._taken :])
        self._taken = len(self.transport.sent)
        assert self._core.parser_exc is None, self._core.parser_exc
        frames = [event for event in self._core.events_received() if isinstance(event, Frame)]
        self.read += [bytes(event.data) for event in frames]
        return self.read

    def logged(self) -> list[bytes]:
        """Publications that everybody must have, one by one."""
        found: list[bytes] = []
        for message in self.take():
            if message == b"personal":
                continue
            found += split_frame(message) if self.codec.binary else message.split(b"\n")
        return [push for push in found if b"pulse" not in push]


def packing(data: bytes) -> bytes:
    """Compress a client's message as RFC 7692 says."""
    deflater = zlib.compressobj(wbits=-15)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def compressed_frame(data: bytes, opcode: Opcode = Opcode.TEXT) -> bytes:
    whole = frame(opcode, data)
    return bytes((whole[0] | 0x40,)) + whole[1:]


async def test_compressed_message_is_understood() -> None:
    """Each by itself, whole or in fragments; plain ones as ever."""
    phone = Phone()
    first, second = packing(b"one"), packing(b"two" * 1_000)
    phone.port.data_received(compressed_frame(first) * 2 + frame(Opcode.TEXT, b"plain"))
    before = phone.port.promoted
    start = bytes((0x41,)) + frame(Opcode.TEXT, second[:7])[1:]
    phone.port.data_received(start + frame(Opcode.CONT, second[7:]))
    assert (before, phone.port.promoted) == (False, True)
    assert phone.heard.messages == [b"one", b"one", b"plain", b"two" * 1_000]


@pytest.mark.parametrize(
    ("size", "code"),
    [(MESSAGE_BYTES_MAX, None), (MESSAGE_BYTES_MAX + 1, 1009), (50_000_000, 1009)],
)
async def test_bomb_is_not_inflated(size: int, code: int | None) -> None:
    """64 KiB of text pass, however small they came; what is beyond is never made."""
    phone = Phone()
    phone.port.data_received(compressed_frame(packing(b"x" * size)))
    if code is None:
        assert [len(message) for message in phone.heard.messages] == [size]
    else:
        assert phone.heard.messages == []
        assert phone.transport.sent[2:4] == code.to_bytes(2, "big")


async def test_broken_compression_is_1002() -> None:
    """What does not inflate ends the connection."""
    phone = Phone()
    phone.port.data_received(compressed_frame(b"\xff\xff\xff"))
    assert phone.transport.sent[2:4] == (1002).to_bytes(2, "big")


_texts = st.binary(max_size=300) | st.sampled_from([65_535, 65_536, 65_537]).map(b"x".__mul__)
_compressed = st.builds(compressed_frame, _texts.map(packing)) | st.builds(
    compressed_frame, st.binary(max_size=20)
)
_frames = st.lists(
    _compressed | st.builds(frame, st.just(Opcode.TEXT), st.binary(max_size=300)), max_size=5
)


@given(frames=_frames, cuts=st.lists(st.integers(0, 2_000), max_size=4))
def test_fast_inflating_behaves_as_the_core_does(frames: list[bytes], cuts: list[int]) -> None:
    """Same messages, same answers, same end - whatever was compressed, and how well."""
    stream = b"".join(frames)
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]

    async def replay(*, promoted: bool) -> tuple[list[bytes], bytes, bool]:
        phone = Phone()
        if promoted:
            phone.port._promote()
        for start, stop in pairwise(edges):
            if start != stop and not phone.transport.ended:
                phone.port.data_received(stream[start:stop])
        return phone.heard.messages, phone.transport.sent, phone.transport.ended

    async def both() -> None:
        assert await replay(promoted=False) == await replay(promoted=True)

    asyncio.run(both())


async def test_personal_replies_and_pongs_are_plain() -> None:
    """They are nobody else's, so they are not in the shared window."""
    phone = Phone()
    phone.port.data_received(frame(Opcode.PING, b"now"))
    phone.port.write(b"yours")
    assert phone.transport.sent == b"\x8a\x03now\x81\x05yours"
    phone.port.close(codes.SHUTDOWN)
    assert phone.take() == [b"now", b"yours", b"\x0b\xb9shutdown"]


# The cohort


def post(hub: Hub, topic: Topic, number: int = 0) -> None:
    offset = topic.top + 1 if topic.has_log else 0
    words = b'{"words":"some of them are always the same","n":%d}' % number
    hub.post(topic, topic.append(Publication(Raw(words), offset)))


def sit_down(hub: Hub, phone: Phone, topics: frozenset[Topic]) -> Member:
    member = hub.admit(cast(Session, phone), SHOW)
    hub.listen(member, topics)
    return member


@pytest.mark.parametrize("codec", [JSON, PROTOBUF], ids=["json", "protobuf"])
@pytest.mark.parametrize("seed", range(10))
async def test_every_frame_unpacks_whatever_a_member_missed(
    seed: int, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members join, move, fall behind and leave; each reads what a plain one does."""
    monkeypatch.setattr(hub_module, "SLICE", 2)
    monkeypatch.setattr(hub_module, "PASS_GAP_SECONDS", 0.001)
    monkeypatch.setattr(hub_module, "PULSE_GAP_SECONDS", 0.001)
    monkeypatch.setattr(deflate, "FULL_FLUSH_EVERY", 7)
    chance, hub = random.Random(seed), Hub()
    topics = [Topic(SHOW, name, name) for name in ("a", "b", "c")]
    pulse = Topic(SHOW, "pulse", "pulse", has_log=False)
    pairs: dict[Member, tuple[Phone, Phone, Member]] = {}  # each with a plain twin beside it

    def choose() -> frozenset[Topic]:
        return frozenset([topic for topic in topics if chance.random() < 0.7] + [pulse])

    for _ in range(600):
        step, present = chance.random(), list(pairs)
        if step < 0.08 or not present:
            chosen, phone, twin = choose(), Phone(codec), Phone(codec, LightConnection)
            pairs[sit_down(hub, phone, chosen)] = (phone, twin, sit_down(hub, twin, chosen))
        elif step < 0.2:
            member, chosen = chance.choice(present), choose()
            hub.listen(member, chosen)
            hub.listen(pairs[member][2], chosen)
        elif step < 0.35:
            phone, twin, _ = pairs[chance.choice(present)]
            phone.transport.owed = twin.transport.owed = chance.choice([0, BUFFER_SOFT_BYTES + 1])
        elif step < 0.4:
            for each in pairs[chance.choice(present)][:2]:
                each.port.write(b"personal")
        elif step < 0.43:
            member = chance.choice(present)
            phone, twin, also = pairs.pop(member)
            for leaver in (member, also):
                hub.listen(leaver, frozenset())  # settles what it is owed, as an unsubscribe does
                hub.remove(leaver)
            assert phone.logged() == twin.logged()
        elif step < 0.8:
            post(hub, chance.choice([*topics, pulse]), chance.getrandbits(20))
        else:
            await asyncio.sleep(0.001 if step < 0.9 else 0)
    await asyncio.sleep(0.05)
    for _ in range(1_000):  # passes have gaps, and a busy machine makes them longer
        if all(phone.logged() == twin.logged() for phone, twin, _ in pairs.values()):
            break
        await asyncio.sleep(0.01)

    sizes = [0, 0]
    for phone, twin, _ in pairs.values():
        assert phone.logged() == twin.logged()
        sizes = [sizes[0] + len(phone.transport.sent), sizes[1] + len(twin.transport.sent)]
    assert 0 < sizes[0] < sizes[1]


async def test_newcomer_is_plain_until_the_next_full_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have not seen what the stream refers to; then they are one of them."""
    monkeypatch.setattr(deflate, "FULL_FLUSH_EVERY", 4)
    hub, topic = Hub(), Topic(SHOW, "a", "a")
    phones: list[Phone] = []

    def firsts(phone: Phone) -> list[bool]:
        """Which of its frames were packed."""
        found, at, sent = [], 0, phone.transport.sent
        while at < len(sent):
            found.append(bool(sent[at] & 0x40))
            length = sent[at + 1]
            at += 2 + length if length < 126 else 4 + int.from_bytes(sent[at + 2 : at + 4], "big")
        return found

    for number in range(6):
        if number in (0, 2):
            phones.append(Phone())
            sit_down(hub, phones[-1], frozenset({topic}))
        post(hub, topic)
        await asyncio.sleep(0.02)
    assert firsts(phones[0]) == [True] * 6
    assert firsts(phones[1]) == [False, False, True, True]
    assert phones[0].take()[2:] == phones[1].take()


@pytest.mark.parametrize("log", DESK_LOGS)
async def test_desk_is_not_compressed(log: str) -> None:
    """What hosts alone may read shares no window with what any viewer may write."""
    hub, desk, chat = Hub(), Topic(SHOW, log, "desk:show"), Topic(SHOW, "chat", "chat:show")
    phone = Phone()
    sit_down(hub, phone, frozenset({desk, chat}))
    post(hub, chat)
    await asyncio.sleep(0.02)
    assert phone.transport.sent[0] == 0x81
