"""One connection's state machine: commands in, replies out, no I/O.

Owns: what the protocol says about a connection - connect first and once, commands in order, bounds
on how many (budget.py), pings, time limits. Knows no socket and no loop: bytes arrive by `receive`,
leave by the port, and time passes when somebody calls `wake`.
Always: nothing is written after `close`; the application hears `gone` exactly once per session; an
ordered command starts only when the one before it has been answered; a session that has ended keeps
nothing of the application's, so that no cycle holds what a viewer left behind.
Not here: what a subscription or a call means (connection/application.py).
"""

import random
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol
from uuid import uuid4

from live.base.errors import BadField
from live.protocol import codes
from live.protocol.budget import Budget
from live.protocol.codec import Codec, FrameError, TextError
from live.protocol.codes import Close, Failure
from live.protocol.commands import (
    Command,
    ConnectRequest,
    ConnectResult,
    HistoryRequest,
    Malformed,
    PingRequest,
    Pong,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    Result,
    RpcRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    Unknown,
    UnsubscribeRequest,
)
from live.protocol.limits import DEFAULT, Limits
from live.protocol.port import Port


class App(Protocol):
    """What the session calls; every method returns at once and answers through the session."""

    def connect(self, session: "Session", command: int, request: ConnectRequest) -> None:
        """Answer with `accept` or `refuse`."""
        ...

    def ordered(self, session: "Session", command: Command) -> None:
        """Subscribe, unsubscribe, refresh, sub_refresh: answer with `finish` or `finish_failed`."""
        ...

    def call(self, session: "Session", command: Command) -> None:
        """Rpc, publish, history, presence: answer with `reply`, `reply_rpc` or `fail`."""
        ...

    def gone(self, session: "Session") -> None:
        """The session has ended; `attachment` is still there."""
        ...


class State(IntEnum):
    NEW = 0
    CONNECTING = 1
    OPEN = 2
    CLOSED = 3


_ORDERED = (SubscribeRequest, UnsubscribeRequest, RefreshRequest, SubRefreshRequest)
_CALLS = (RpcRequest, PublishRequest, HistoryRequest, PresenceRequest, PresenceStatsRequest)


class Session:
    """`attachment` belongs to the application; None until it sets it."""

    __slots__ = (
        "_budget",
        "_busy",
        "_clock",
        "_errors",
        "_expires_at",
        "_leaving",
        "_limits",
        "_outstanding",
        "_ping_at",
        "_pong_by",
        "_pumping",
        "_queue",
        "address",
        "alarm_at",
        "app",
        "attachment",
        "client",
        "codec",
        "one_way",
        "port",
        "state",
    )

    def __init__(
        self,
        port: Port,
        codec: Codec,
        app: App,
        *,
        clock: Callable[[], float],
        limits: Limits = DEFAULT,
        one_way: bool = False,
        address: str | None = None,
    ) -> None:
        self.port = port
        self.codec = codec
        self.app = app
        self.client = ""
        self.one_way = one_way  # the peer hears only: no pong, no commands after the connect
        self.address = address  # the peer's, as far as the transport knows it
        self.state = State.NEW
        self.attachment: object | None = None
        self.alarm_at = 0  # the second in which it is woken next; kept by who wakes it
        self._clock = clock
        self._limits = limits
        self._busy = False
        self._pumping = False
        self._queue: deque[Command] | None = None  # made when a command has to wait
        self._outstanding = 0
        self._errors: deque[float] | None = None  # made by the first error
        now = clock()
        self._budget = Budget(limits, now)
        self._expires_at = 0.0  # 0: never
        self._leaving: Close | None = None  # how to end behind the last reply; None: not at all
        self._pong_by = 0.0  # 0: no pong is due
        # Until it is open, the first alarm is the stale one.
        self._ping_at = now + limits.stale_seconds

    @property
    def closed(self) -> bool:
        return self.state is State.CLOSED

    # In

    def receive(self, frame: bytes) -> None:
        """Take one message of the peer."""
        if self.state is State.CLOSED:
            return
        try:
            commands = self.codec.decode(frame)
        except TextError:
            self.close(codes.INVALID_UTF8)
            return
        except FrameError:
            self.close(codes.BAD_FRAME)
            return
        for command in commands:
            self._take(command)
            if self.closed:  # by this very command, or by its answer
                return

    def wake(self, now: float) -> float:
        """Do what is due; return when to be called again, 0.0 for never."""
        if self.state is State.CLOSED:
            return 0.0
        if self.state is not State.OPEN:
            if now < self._ping_at:
                return self._ping_at
            self.close(codes.STALE)
            return 0.0
        if self._expires_at and now >= self._expires_at:
            self.close(codes.EXPIRED)
            return 0.0
        if self._pong_by and now >= self._pong_by:
            self.close(codes.NO_PONG)
            return 0.0
        if now >= self._ping_at:
            self.port.write(self.codec.ping)
            self._ping_at = now + self._limits.ping_seconds
            if not self.one_way:
                self._pong_by = now + self._limits.pong_seconds
            if self.closed:  # they have not read for so long that not even a ping fits in
                return 0.0
        return min(due for due in (self._ping_at, self._pong_by, self._expires_at) if due)

    def lost(self) -> None:
        """The peer is gone, or closed the connection themselves."""
        self._end()

    # Out, for the application

    def accept(self, command: int, result: ConnectResult) -> None:
        """Answer connect; the commands that waited behind it run now."""
        if self.state is not State.CONNECTING:
            return
        self.state = State.OPEN
        # Reference servers spread the first ping, so that a mass reconnect does not ping in step.
        spread = random.uniform(0.5, 1.0)
        self._ping_at = self._clock() + self._limits.ping_seconds * spread
        self.finish(command, result)

    def refuse(self, command: int, failure: Failure, close: Close) -> None:
        """Answer connect with an error; the connection is unusable and ends."""
        if self.state is State.CLOSED:
            return
        self.port.write(self.codec.error(command, failure))
        self.close(close)

    def finish(self, command: int, result: Result) -> None:
        """Answer an ordered command and start the next one that waits."""
        if self.state is State.CLOSED:
            return
        message = self.codec.reply(command, result)
        if type(result) is not ConnectResult:  # once a connection, and nobody can ask for more
            self._budget.charge(len(message))
        self.port.write(message)
        self.start_next()

    def finish_failed(self, command: int, failure: Failure) -> None:
        self._write_error(command, failure)
        self.start_next()

    def start_next(self) -> None:
        """Take the commands that waited, until one of them is on its way again."""
        self._busy = False
        if self._pumping:  # an answer given at once: the loop below goes on, not a deeper one
            return
        self._pumping = True
        queue = self._queue
        while queue and not self._busy and self.state is State.OPEN:
            self._dispatch_late(queue.popleft())
        self._pumping = False
        if self._leaving is not None:
            self.close_when_idle(self._leaving)

    def reply(self, command: int, result: Result) -> None:
        """Answer a call."""
        self._outstanding -= 1
        if self.state is State.OPEN:
            self._answer(self.codec.reply(command, result))
            if self._leaving is not None:
                self.close_when_idle(self._leaving)

    def reply_rpc(self, command: int, data: bytes) -> None:
        """Answer an rpc with JSON text."""
        self._outstanding -= 1
        if self.state is State.OPEN:
            self._answer(self.codec.rpc_reply(command, data))
            if self._leaving is not None:
                self.close_when_idle(self._leaving)

    def fail(self, command: int, failure: Failure) -> None:
        """Answer a call with an error."""
        self._outstanding -= 1
        self._write_error(command, failure)
        if self._leaving is not None:
            self.close_when_idle(self._leaving)

    def push(self, message: bytes) -> None:
        """Send an encoded push to this connection alone."""
        if self.state is State.OPEN:
            self.port.write(message)

    def expire_in(self, seconds: float | None) -> None:
        """Set when the token ends (None: never); a refresh does so again. Grace is added here."""
        if seconds is None:
            self._expires_at = 0.0
            return
        self._expires_at = self._clock() + seconds + self._limits.expired_grace_seconds

    def close(self, close: Close) -> None:
        if self.state is not State.CLOSED:
            port = self.port
            self._end()
            port.close(close)

    def close_when_idle(self, close: Close) -> None:
        """Close once every command is answered; who is still connecting has lost nothing."""
        waiting = self._outstanding > 0 or self._busy or bool(self._queue)
        if self.state is State.OPEN and waiting:
            self._leaving = close
        else:
            self.close(close)

    # Inside

    def _take(self, command: Command) -> None:
        body = command.body
        if type(body) is Pong:
            self._take_pong(command)
        elif self.state is State.NEW:
            self._take_first(command)
        elif type(body) is ConnectRequest:
            self.close(codes.BAD_FRAME)
        elif not self._budget.pay(self._clock(), self._budget.price(body)):
            self._refuse_excess(command)
        elif self.state is State.CONNECTING or (self._busy and type(body) in _ORDERED):
            self._wait(command)
        else:
            self._dispatch(command)

    def _take_pong(self, command: Command) -> None:
        """One pong a ping is free; others are tolerated, as long as they are paid for."""
        if self.state is State.NEW:
            self.close(codes.BAD_FRAME)
        elif self._pong_by:
            self._pong_by = 0.0
        elif not self._budget.pay(self._clock()):
            self._refuse_excess(command)

    def _take_first(self, command: Command) -> None:
        body = command.body
        if type(body) is ConnectRequest:
            self.state = State.CONNECTING
            self._busy = True
            self.client = str(uuid4())
            self.app.connect(self, command.id, body)
        elif type(body) is Malformed:
            self.refuse(command.id, _bad_request(body), codes.BAD_FRAME)
        else:
            self.close(codes.BAD_FRAME)

    def _wait(self, command: Command) -> None:
        if self._queue is None:
            self._queue = deque()
        if len(self._queue) >= self._limits.queued_max:
            self.close(codes.FLOOD)
            return
        self._queue.append(command)

    def _dispatch(self, command: Command) -> None:
        body = command.body
        if isinstance(body, _CALLS):
            if self._outstanding >= self._limits.outstanding_max:
                self._write_error(command.id, codes.TOO_MANY_REQUESTS)
                return
            self._outstanding += 1
            self.app.call(self, command)
        elif isinstance(body, _ORDERED):
            self._busy = True
            self.app.ordered(self, command)
        elif type(body) is Malformed:
            self._write_error(command.id, _bad_request(body))
        elif type(body) is Unknown:
            self._write_error(command.id, codes.METHOD_NOT_FOUND)
        elif type(body) is SendRequest:
            self.close(codes.CLOSED_NOT_AVAILABLE)
        else:
            # The reference server treats a client's ping as a fault; its SDKs never send one.
            assert type(body) is PingRequest, body
            self.close(codes.BAD_FRAME)

    def _dispatch_late(self, command: Command) -> None:
        """Start a command that was paid for earlier, unless answers have cost too much since."""
        if self._budget.owes(self._clock()):
            self._write_error(command.id, codes.TOO_MANY_REQUESTS)
        else:
            self._dispatch(command)

    def _answer(self, message: bytes) -> None:
        self._budget.charge(len(message))
        self.port.write(message)

    def _refuse_excess(self, command: Command) -> None:
        self._budget.excess += 1
        if self._budget.excess > self._limits.excess_max:
            self.close(codes.FLOOD)
        elif command.id:
            self._write_error(command.id, codes.TOO_MANY_REQUESTS)

    def _write_error(self, command: int, failure: Failure) -> None:
        if self.state is State.CLOSED:
            return
        self.port.write(self.codec.error(command, failure))
        if not failure.temporary:
            self._count_error()

    def _count_error(self) -> None:
        if self._errors is None:
            self._errors = deque(maxlen=self._limits.errors_max)
        now = self._clock()
        self._errors.append(now)
        full = len(self._errors) == self._limits.errors_max
        if full and now - self._errors[0] <= self._limits.errors_window_seconds:
            self.close(codes.TOO_MANY_ERRORS)

    def _end(self) -> None:
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self._queue = None
        self.app.gone(self)
        self.attachment = None


def _bad_request(body: Malformed) -> Failure:
    if body.in_data:
        return Failure(BadField.code, body.fault)
    return Failure(codes.BAD_REQUEST.code, f"bad request: {body.fault}")
