"""How a connection to an engine finds out that nobody is at the other end any more.

A host that lost power or network says nothing, and TCP by itself waits for hours: so each of our
connections asks after a few silent seconds, and gives up on bytes that nobody acknowledges. What a
Unix socket connects is one machine, which dies as a whole.
"""

import os
import socket
from asyncio import BaseTransport
from typing import Any

IDLE_SECONDS = 5  # of silence, until the other side is asked
ASK_EVERY_SECONDS = 2
UNANSWERED_MAX = 2
UNACKNOWLEDGED_MS = 8_000  # bytes on their way; then the connection ends with an error

TCP_OPTIONS: dict[int, int] = {
    getattr(socket, name): value
    for name, value in {
        "TCP_KEEPIDLE": IDLE_SECONDS,
        "TCP_KEEPINTVL": ASK_EVERY_SECONDS,
        "TCP_KEEPCNT": UNANSWERED_MAX,
        "TCP_USER_TIMEOUT": UNACKNOWLEDGED_MS,
    }.items()
    if hasattr(socket, name)  # outside of Linux some have other names, or none
}


def watch_link(transport: BaseTransport) -> None:
    """Set the bounds on the transport's socket."""
    known: socket.socket | None = transport.get_extra_info("socket")
    if known is None or known.family == socket.AF_UNIX:
        return
    # By its number: uvloop's stand-in for a socket takes no options.
    with socket.socket(fileno=os.dup(known.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in TCP_OPTIONS.items():
            same.setsockopt(socket.IPPROTO_TCP, option, value)


# Any: redis-py gives its keyword arguments a type each, and a mapping has one for all.
def redis_options(url: str) -> dict[str, Any]:
    """The same for redis-py; its connections by Unix socket know no such options."""
    if url.startswith("unix:"):
        return {}
    return {"socket_keepalive": True, "socket_keepalive_options": TCP_OPTIONS}
