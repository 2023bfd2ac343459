"""Answers of other programs, in the types that tests read them by.

A JSON document has the shape that its sender gave it, and a test reads it as a client does: what is
not there fails the test. Redis' library leaves open whether a reply is text; ours are bytes.
"""

from typing import Any, cast

Json = dict[str, Any]  # a JSON object
Entries = list[tuple[bytes, dict[bytes, bytes]]]  # of a Redis stream: (id, fields)


def entries(reply: object) -> Entries:
    """What XRANGE answered."""
    return cast(Entries, reply)


def entries_by_stream(reply: object) -> list[tuple[bytes, Entries]]:
    """What XREADGROUP answered."""
    return cast(list[tuple[bytes, Entries]], reply)


def decoded(reply: object) -> str:
    """A string, or an entry's id."""
    assert isinstance(reply, bytes)
    return reply.decode()
