"""A named place where a test makes the process die, as a power cut would: no cleanup, no flush.

Beside `settings.py` this alone reads the environment, once and only for LIVE_FAILPOINT; unset, as
everywhere outside of the fault tests, a failpoint costs one comparison.
"""

import os

DIED = 9  # the exit code that the tests expect

_ARMED = os.environ.get("LIVE_FAILPOINT", "")


def failpoint(name: str) -> None:
    """End the process here and now if LIVE_FAILPOINT names this place."""
    if _ARMED == name:
        os._exit(DIED)
