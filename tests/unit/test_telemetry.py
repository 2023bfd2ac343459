"""What strangers can make the libraries beneath us log is bounded."""

import logging

from live.base.telemetry import KINDS_MAX, TOLD_MAX, TOLD_SECONDS, Sparse
from tests.support.session_kit import Clock


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, message, (), None)


def test_lines_of_one_kind_are_bounded_in_each_period() -> None:
    """Another kind is told all the same; the first line of the next period tells how many more."""
    clock = Clock()
    sparse = Sparse(clock)
    told = [sparse.filter(record("broken")) for _ in range(TOLD_MAX + 5)]
    assert told == [True] * TOLD_MAX + [False] * 5
    assert sparse.filter(record("another"))
    clock.now += TOLD_SECONDS
    later = record("broken")
    assert sparse.filter(later)
    assert later.getMessage() == "broken (and 5 more before)"
    quiet = record("another")
    assert sparse.filter(quiet) and quiet.getMessage() == "another"


def test_kinds_that_are_told_apart_are_bounded() -> None:
    """Messages with something of a client's in them do not fill the memory."""
    sparse = Sparse(Clock())
    told = [sparse.filter(record(f"kind {number}")) for number in range(KINDS_MAX + 100)]
    assert sum(told) == KINDS_MAX + TOLD_MAX
    assert len(sparse._kinds) == KINDS_MAX + 1
