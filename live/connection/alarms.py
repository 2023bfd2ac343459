"""One timer for all connections: pings, missing pongs, stale and expired ones.

A timer per connection would cost memory and a heap operation for each of ten thousand pings.
Owns: which session is to be woken in which second. Always: a session that is alive has exactly one
alarm, one that has ended has none.
"""

from collections.abc import Callable
from math import ceil

from live.aio.loops import repeat
from live.base.faults import tell_fault
from live.protocol import codes
from live.protocol.session import Session

TICK_SECONDS = 1.0


class Alarms:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[int, dict[Session, None]] = {}
        self._next = ceil(clock())

    def watch(self, session: Session) -> None:
        """Wake this session when it says so, from now on."""
        self._set(session, session.wake(self._clock()))

    def forget(self, session: Session) -> None:
        """The session has ended: keep nothing of it until its alarm would have come."""
        due = self._due.get(session.alarm_at)
        if due is not None:
            due.pop(session, None)
            if not due:
                del self._due[session.alarm_at]

    def _set(self, session: Session, at: float) -> None:
        if at > 0.0:
            # Never into a second that is over, nor the one that is being worked on.
            session.alarm_at = max(ceil(at), self._next)
            self._due.setdefault(session.alarm_at, {})[session] = None

    def tick(self) -> None:
        """Wake all whose time has come."""
        now = self._clock()
        while self._next <= now:
            due = self._due.pop(self._next, {})
            self._next += 1
            for session in due:
                try:
                    self._set(session, session.wake(now))
                except Exception as error:  # one session's must not cost the others their alarms
                    tell_fault("session.failed", error, connection=session.client)
                    session.close(codes.SERVER_ERROR)

    async def run(self) -> None:
        async def tick() -> None:
            self.tick()

        await repeat("alarms", tick, every_seconds=TICK_SECONDS)
