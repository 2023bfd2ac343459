"""Garbage collection for a process that holds ten thousand connections."""

import gc

# A full collection over 10,000 connections takes 460 ms. A connection is full of cycles while it
# lives and has none when it is lost: it lets go of its session, the session of its viewer, the
# parsers beneath of themselves (tests/integration/test_realtime_leavers.py counts, without a
# collector). So the young generation may grow, and old objects are looked at rarely; what is left
# to the collector are tracebacks of faults.
YOUNG_OBJECTS = 50_000
MIDDLE_ROUNDS = 50
OLD_ROUNDS = 200


def tune_gc() -> None:
    """Call once when everything is imported and open, before the first connection."""
    gc.collect()
    gc.freeze()  # what exists now lives as long as the process
    gc.set_threshold(YOUNG_OBJECTS, MIDDLE_ROUNDS, OLD_ROUNDS)
