"""Protobuf's wire format, as much of it as the client protocol uses: varints, lengths, fields.

Unknown fields are skipped, whatever their type. Raises FrameError on anything that ends too early
or is no varint; never reads past the end.
"""

from collections.abc import Iterator

from live.protocol.codec import FrameError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10
_UINT64 = 2**64 - 1

Value = int | bytes


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at this place and the place behind it."""
    result = shift = 0
    for index in range(at, min(at + _VARINT_BYTES_MAX, len(data))):
        byte = data[index]
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & _UINT64, index + 1
        shift += 7
    raise FrameError("bad varint")


def read_chunk(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the length-delimited bytes at this place and the place behind them."""
    length, at = read_varint(data, at)
    if length > len(data) - at:
        raise FrameError("a length reaches beyond the message")
    return data[at : at + length], at + length


def read_fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Yield number and value of each field with a varint or with bytes; skip the fixed ones."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        value: Value
        if kind == VARINT:
            value, at = read_varint(data, at)
        elif kind == LENGTH:
            value, at = read_chunk(data, at)
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
            if at > len(data):
                raise FrameError("a fixed field is cut off")
            continue
        else:
            raise FrameError("unknown wire type")
        if tag >> 3 == 0:
            raise FrameError("field number 0")
        yield tag >> 3, value


def varint(number: int) -> bytes:
    """Write a non-negative number."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def put_number(field: int, number: int) -> bytes:
    """Write a number; zero is left out, as proto3 does."""
    return varint(field << 3) + varint(number) if number else b""


def put_bytes(field: int, data: bytes) -> bytes:
    """Write bytes; empty ones are left out."""
    return put_message(field, data) if data else b""


def put_text(field: int, text: str) -> bytes:
    return put_bytes(field, text.encode())


def put_message(field: int, data: bytes) -> bytes:
    """Write a submessage, which is present even when it is empty."""
    return varint(field << 3 | LENGTH) + varint(len(data)) + data
