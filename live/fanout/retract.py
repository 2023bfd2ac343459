"""What was deleted: how a publication says so, and what it takes back.

Always: text that somebody typed cannot look like the marks below, because JSON escapes its quotes.
The same rule is applied to the log in Redis (showlog/lua/retract.lua) and to its end in memory
(topic.py).
"""

import re

MARK = b'"type":"chat.deleted"'
"""Only an event that takes something back contains this."""

_ID = re.compile(rb'"id":"[^"]{1,64}"')


def takes_back(data: bytes) -> bytes | None:
    """The text that everything contains which this publication takes back; None: nothing."""
    found = _ID.search(data) if MARK in data else None
    return None if found is None else found[0]


def is_taken_back(data: bytes, needle: bytes) -> bool:
    """Whether this publication has to go."""
    return needle in data and MARK not in data
