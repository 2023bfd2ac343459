"""An engine that dies while it is started again does not end the service at once."""

import pytest

from live.base.errors import EngineError
from live.run.commands.serve import ENGINE_TRIES_MAX, _mend


class Ailing:
    """Engines of which one cannot be started so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def mend(self) -> tuple[str, ...]:
        if not self.failures:
            return ("postgres",)
        self.failures -= 1
        raise EngineError("postgres ended while it was started")


def mend_until_it_runs(failures: int) -> int:
    """How many looks it took."""
    engines, failed, looks = Ailing(failures), 0, 0
    while True:
        failed, looks = _mend(engines, failed), looks + 1  # type: ignore[arg-type]  # mend is all
        if not failed:
            return looks


def test_engine_that_starts_at_the_last_try_is_waited_for() -> None:
    """One failure fewer than the bound: the service goes on."""
    assert mend_until_it_runs(ENGINE_TRIES_MAX - 1) == ENGINE_TRIES_MAX


def test_engine_that_never_starts_ends_the_service() -> None:
    """At the bound the reason is told, instead of trying for ever."""
    with pytest.raises(EngineError, match="postgres"):
        mend_until_it_runs(ENGINE_TRIES_MAX)
