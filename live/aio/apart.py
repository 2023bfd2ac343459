"""Runs a coroutine to its end from anywhere on the main thread, inside an event loop or not.

Servers must be started from the main thread (the kernel ties a child to the thread that made it),
and the supervisor's event loop runs there; so the few questions to a starting server get a loop
of their own in a short-lived thread.
"""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run_apart(work: Coroutine[Any, Any, T]) -> T:  # Any: asyncio.run's own signature
    """Run `work` and return its result; blocks the caller until then."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()
