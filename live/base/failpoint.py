"""A named place where a test makes the process die, as a power cut would: no cleanup, no flush.

Beside `settings.py` this alone reads the environment, once and only for LIVE_FAILPOINT; unset, as
everywhere outside of the fault tests, a failpoint costs one comparison. With `freeze:` in front of
the name the process stops there, as on a machine that was suspended: its connections stand, and it
goes on from there when it gets SIGCONT.
"""

import os
import signal

DIED = 9  # the exit code that the tests expect
FREEZE = "freeze:"

_WANTED = os.environ.get("LIVE_FAILPOINT", "")
_ARMED = _WANTED.removeprefix(FREEZE)


def failpoint(name: str) -> None:
    """End or freeze the process here and now if LIVE_FAILPOINT names this place."""
    if _ARMED != name:
        return
    if _WANTED == name:
        os._exit(DIED)
    os.kill(os.getpid(), signal.SIGSTOP)
