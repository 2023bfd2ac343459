"""One compression stream for all connections of a cohort (RFC 7692, permessage-deflate).

Compressing for each connection costs six times the CPU of not compressing. Here a message is
compressed once, in one stream with one window, and the same bytes go to everybody who has seen all
that the stream refers to. Every `FULL_FLUSH_EVERY` messages the stream forgets its past; whoever
came late, or was left out of a message, takes part again from there, and gets plain frames until
then. Plain frames, such as personal replies, do not go through the window.

Owns: what we answer to an offer, and the stream. Always: a message refers only to those before it
back to the last full flush, and says after which one it may be read.
Not here: who has read what (transport/fast/deflated.py).
"""

import zlib
from functools import lru_cache
from itertools import count
from typing import Final

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension

from live.protocol.shared import COMPRESSED, Packed, frame_header, frame_opcode

# 4 KiB, sixteen messages: with 15 bits one would shrink by another 3 %, for eight times the memory
# in each client's decoder. Clients on the websockets library ask for 12.
WINDOW_BITS: Final = 12
MEMORY_LEVEL: Final = 5  # with this window 32 KiB for a cohort
FULL_FLUSH_EVERY: Final = 50  # messages: 69 bytes of 207 are left, and a newcomer waits for 25
OFFERS_KEPT: Final = 64  # answers that are remembered; browsers and SDKs make few offers

_SYNC_TAIL: Final = b"\0\0\xff\xff"  # of a flush; not sent (RFC 7692, 7.2.1)
_factory = ServerPerMessageDeflateFactory(
    client_no_context_takeover=True,  # so that we keep no window for what a client sends
    server_max_window_bits=WINDOW_BITS,
)
_serials = count(1)  # over all streams, so that a serial names one message of one stream


@lru_cache(OFFERS_KEPT)
def answer_offer(offer: bytes) -> bytes | None:
    """Return the answer to `Sec-WebSocket-Extensions`; None where our stream does not fit."""
    try:
        offers = parse_extension(offer.decode("ascii"))
    except (InvalidHeader, UnicodeDecodeError):
        return None
    for name, wanted in offers:
        if name != _factory.name:
            continue
        try:
            params, agreed = _factory.process_request_params(wanted, [])
        except NegotiationError:
            continue
        # A client that keeps no context, or a smaller window, could not read the shared stream.
        if not agreed.local_no_context_takeover and agreed.local_max_window_bits == WINDOW_BITS:
            return build_extension([(_factory.name, params)]).encode()
    return None


def inflater() -> PerMessageDeflate:
    """Make the extension that reads a client's messages, each by itself; it writes none."""
    return PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,  # else it would make a compressor
        remote_max_window_bits=15,
        local_max_window_bits=WINDOW_BITS,
    )


def inflate(data: bytes, size_max: int) -> bytes | None:
    """Read one whole message of a client; None where it is broken, or not shorter than that.

    Not a byte beyond the bound is made, so a bomb costs no more than a message.
    """
    reader = zlib.decompressobj(wbits=-15)
    try:
        message = reader.decompress(data + _SYNC_TAIL, size_max)
    except zlib.error:
        return None
    return message if len(message) < size_max and not reader.unconsumed_tail else None


class SharedStream:
    """Compresses the messages of a cohort, in order."""

    __slots__ = ("_deflater", "_last", "_since_flush")

    def __init__(self) -> None:
        self._deflater = zlib.compressobj(wbits=-WINDOW_BITS, memLevel=MEMORY_LEVEL)
        self._last = 0
        self._since_flush = 0

    def pack(self, message: bytes, *, binary: bool) -> Packed:
        assert message, "an empty message has a form of its own in RFC 7692"
        self._since_flush += 1
        full = self._since_flush >= FULL_FLUSH_EVERY
        flush = zlib.Z_FULL_FLUSH if full else zlib.Z_SYNC_FLUSH
        data = self._deflater.compress(message) + self._deflater.flush(flush)
        data = data.removesuffix(_SYNC_TAIL)
        head = frame_header(frame_opcode(binary=binary) | COMPRESSED, len(data))
        packed = Packed(head + data, serial=next(_serials), after=self._last)
        self._last = packed.serial
        if full:
            self._last = self._since_flush = 0
        return packed
