"""The error tree. A refusal ("sold out") is an answer and never one of these.

LiveError
├── SettingsError        the environment is wrong; the process must not start
├── EngineError          Redis or Postgres cannot be found, started or used
│   └── EngineLoading       it answers, but is still reading its data back: wait for it
└── CallError            a client's call failed: `code` is stable, `temporary` says "repeat it"
    ├── BadField         1400  a field is missing, of a wrong type or out of range
    ├── NotFound         1404  unknown, or somebody else's
    ├── Conflict         1409  the same key with another request; a state that does not allow it
    ├── TooManyTries      106  what failed so often is not tried again for now
    ├── Denied            103  the role may not do this
    │   └── Banned             a host sent this person away from the show; a connect closes 3503
    ├── Rehearsing       1403  the show is being rehearsed: come back later, or with the passcode
    └── Busy              111  rebuilding, overloaded, too many requests: repeat with the same key
        ├── StockLost          Redis lost a part of a show's stock: it has to be rebuilt
        └── OutboxLost         Redis lost the stream or the group of a show
"""

from typing import ClassVar


class LiveError(Exception):
    """Base of everything that this package raises on purpose."""


class SettingsError(LiveError):
    """Names every bad setting with its value, all at once."""


class EngineError(LiveError):
    """Says which engine, what was tried, and what would mend it.

    `fix` is what to do, where it is known apart from the text; as text both are said.
    """

    def __init__(self, text: str, *, fix: str = "") -> None:
        super().__init__(f"{text}; {fix}" if fix else text)
        self.fault = text
        self.fix = fix


class EngineLoading(EngineError):
    """`progress` says how far it is, as far as the engine tells."""

    def __init__(self, text: str, *, progress: str = "") -> None:
        super().__init__(text)
        self.progress = progress


def reason_of(error: BaseException) -> str:
    """What went wrong, in words: some errors, time-outs above all, have no text of their own."""
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    return str(error) or type(error).__name__


class CallError(LiveError):
    """A call failed. The text goes to the client as it stands: no secret, no trace.

    `retry_ms` is advice: how long to wait before the repeat; None where it is not known, or none
    helps.
    """

    code: ClassVar[int] = 100
    temporary: ClassVar[bool] = False
    retry_ms: int | None = None


class BadField(CallError):
    """`field`: the JSON path of what is wrong, such as `items[0].qty`; "" for all of the request.

    One wording for every way to call: the field, a colon, what is wrong with it.
    """

    code = 1400

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(f"{field or 'request'}: {fault}")
        self.field = field


class NotFound(CallError):
    code = 1404


class Conflict(CallError):
    """`reason`: which of the conflicts of a call it is, a stable word such as `hold_lost`; "" where
    there is nothing to choose from."""

    code = 1409

    def __init__(self, text: str, *, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class TooManyTries(CallError):
    """Not temporary: waiting helps in minutes or never, so what SDKs repeat by themselves is no
    help; the text says which."""

    code = 106


class Denied(CallError):
    code = 103


class Banned(Denied):
    """Stays away for good: a client that came back would be turned away again."""


class Rehearsing(CallError):
    """Temporary, so SDKs come back by themselves: a rehearsal ends, and the show follows it."""

    code = 1403
    temporary = True


class Busy(CallError):
    code = 111
    temporary = True
    retry_ms: int

    def __init__(self, text: str, *, retry_ms: int = 200) -> None:
        super().__init__(text)
        self.retry_ms = retry_ms


class StockLost(Busy):
    """Nothing of the show is decided before somebody begins to rebuild it."""


class OutboxLost(Busy):
    """The stream or group of `show` is gone: Redis lost data, and a rebuild of it is due."""

    def __init__(self, show: str) -> None:
        super().__init__(f"the outbox of show {show} is gone")
        self.show = show
