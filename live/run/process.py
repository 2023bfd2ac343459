"""What every process of ours does about its parent, its signals and its logs.

Always: a child started by our supervisor ends when the supervisor does, however that died.
"""

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PARENT_ENV = "LIVE_PARENT_PID"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PARENT_POLL_SECONDS = 0.5


def follow_parent() -> None:
    """End with the parent that named itself in `LIVE_PARENT_PID`; without it, live on alone.

    The kernel sends SIGTERM where it can (Linux); elsewhere a thread watches the parent's id.
    """
    parent = os.environ.pop(PARENT_ENV, "")
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    else:
        threading.Thread(target=_watch_parent, args=(int(parent),), daemon=True).start()
    if os.getppid() != int(parent):  # it died before the line above took effect
        raise SystemExit("the parent process has gone")


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def stop_on_signals(*, patient: bool = False) -> Iterator[asyncio.Event]:
    """Give an event that SIGTERM and SIGINT set; a second signal ends the process at once.

    `patient`: not this one. A child hears of the end from whoever signals the whole group (systemd
    does by default), then from its supervisor, then from the kernel where that is gone: none of
    them means that viewers should not be told where to go. Who stops it bounds the time.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(number: signal.Signals) -> None:
        if stop.is_set() and not patient:
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            if patient:  # what is left to do is short, and a signal for it may still be on its way
                signal.signal(number, signal.SIG_IGN)
