"""What both shells share: who waits for which answer, and for how long."""

from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

from live.client.events import (
    Answered,
    CallFailed,
    Disconnected,
    Event,
    Failed,
    Gone,
    News,
    NoAnswer,
)

COMMAND_SECONDS = 5.0  # what the official SDKs wait for an answer, and for a connection

Listener = Callable[[News], None]


class Promise(Protocol):
    """An answer to come: asyncio's Future and gevent's AsyncResult have this in common."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Exception, /) -> None: ...


def ending(end: Disconnected) -> NoAnswer:
    """What calls raise that this end cut off."""
    kind = NoAnswer if end.retry_seconds is not None else Gone
    return kind(f"{'refused' if end.refused else 'closed'} with {end.code}: {end.reason}")


def settle(waiting: MutableMapping[int, Any], event: Event) -> News | None:
    """Give an answer to the promise that waits for it; return what the owner has to hear."""
    if isinstance(event, Answered | Failed):
        promise: Promise | None = waiting.pop(event.number, None)
        if promise is None or promise.done():
            return None
        if isinstance(event, Answered):
            promise.set_result(event.result)
        else:
            promise.set_exception(CallFailed(event.failure))
        return None
    if isinstance(event, Disconnected):
        for promise in waiting.values():
            if not promise.done():
                promise.set_exception(ending(event))
        waiting.clear()
    return event
