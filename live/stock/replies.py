"""Replies are untyped: each function here says what a script's header promises.

A reply of another kind is a bug in a script or in its caller, never a client's fault.
"""


def as_list(reply: object) -> list[object]:
    assert isinstance(reply, list), f"a list was promised, not {reply!r}"
    return reply


def as_bytes(reply: object) -> bytes:
    assert isinstance(reply, bytes), f"bytes were promised, not {reply!r}"
    return reply


def as_number(reply: object) -> int:
    assert isinstance(reply, int), f"a number was promised, not {reply!r}"
    return reply


def as_numbers(reply: object) -> list[int]:
    return [as_number(item) for item in as_list(reply)]
