"""Waits for an engine that reads its data back, and says how far it is.

Used wherever an engine is looked at before it is used: a server that is loading has no fault, and
ending because of it would end an embedded one in the middle of it, again and again.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from live.base.errors import EngineError, EngineLoading

STALLED_SECONDS = 300.0  # without any progress: Redis tells per cents, Postgres nothing at all
LOADING_SECONDS_MAX = 3_600.0  # tens of gigabytes; beyond it a person should look
SILENT_SECONDS = 1.0  # an ordinary start is not worth a word
SAY_SECONDS = 5.0
POLL_SECONDS = 0.1

T = TypeVar("T")
log = structlog.get_logger()


def once_loaded(ask: Callable[[], T], *, alive: Callable[[], object] = lambda: None) -> T:
    """Return what `ask` says as soon as it raises no EngineLoading any more.

    `alive` raises where waiting has become vain. Raises EngineError at the bounds above.
    """
    began = moved = time.monotonic()
    said = float("-inf")
    progress = ""
    while True:
        alive()
        try:
            return ask()
        except EngineLoading as error:
            now = time.monotonic()
            if error.progress != progress:
                progress, moved = error.progress, now
            if now - moved > STALLED_SECONDS or now - began > LOADING_SECONDS_MAX:
                text = f"{error.fault}, for {now - began:.0f} s now ({progress or 'no progress'})"
                raise EngineError(text, fix="look at its log") from error
            if now - began >= SILENT_SECONDS and now - said >= SAY_SECONDS:
                log.warning("engine_loading", what=error.fault, progress=progress)
                said = now
        time.sleep(POLL_SECONDS)
