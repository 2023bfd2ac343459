"""What a fault means where it ends, at the boundary of a task, a loop or a call: an engine that is
away, or a bug of ours.

Always: it is told to the log once, however many boundaries it passes, with ids; a bug as an error
with its traceback. Only what a repeat can mend is called temporary.
"""

import asyncpg
import structlog
from redis.exceptions import RedisError

from live.base.errors import Busy, CallError, LiveError

_AWAY = (
    LiveError,
    OSError,  # time-outs, too
    RedisError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_REFUSED = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    ValueError,  # asyncpg's own refusal of an argument is an InterfaceError, too
)
"""Postgres answered, and did not like what we sent: repeating will not help."""

log = structlog.get_logger()


def is_bug(error: BaseException) -> bool:
    """Whether our own code is at fault: what engines raise while they are away is no bug."""
    return not isinstance(error, _AWAY) or isinstance(error, _REFUSED)


def tell_fault(event: str, error: BaseException, **ids: object) -> None:
    """Log a fault where it ends; an engine's without a traceback, which would fill the log."""
    if getattr(error, "told_to_log", False):
        return
    error.told_to_log = True  # type: ignore[attr-defined]  # an exception takes any attribute
    bug = is_bug(error)
    say = log.error if bug else log.warning
    say(event, **ids, error=repr(error), exc_info=error if bug else None)


def as_call_error(event: str, error: Exception, **ids: object) -> CallError:
    """What the caller is told: a fault that is none of theirs is told to the log as well."""
    if isinstance(error, CallError):
        return error
    tell_fault(event, error, **ids)
    if is_bug(error):
        return CallError("something broke on our side")
    return Busy("an engine cannot be reached; repeat with the same key", retry_ms=1_000)
