"""A bug leaves a trace where it ends: once, with ids, and whoever asked hears what it is."""

import ast
import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx
import pytest
from msgspec import Raw
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.applications import Starlette
from structlog.testing import capture_logs

from live.aio.tasks import Tasks
from live.api.http.call import make_route
from live.api.http.deps import ApiDeps
from live.api.http.table import ANYONE, ApiCall, Endpoint
from live.api.schema.fields import Body
from live.base.errors import Busy, EngineError, NotFound
from live.base.faults import as_call_error, is_bug, tell_fault
from live.connection.alarms import Alarms
from live.connection.calls import Calls
from live.connection.policy import Policy
from live.connection.ports import RpcCall, RpcHandler
from live.connection.viewer import Viewer, take
from live.domain.caller import Caller, Role
from live.domain.ids import ShowId
from live.ledger.db.pool import DATABASE_ERRORS
from live.protocol import codes
from live.protocol.codes import Close, Failure
from live.protocol.commands import Command, PublishRequest, RpcRequest
from live.protocol.session import Session
from live.showlog.follower import Follower

ROOT = Path(__file__).parents[2]
CALLER = Caller(sub="ada", buyer=None, role=Role.VIEWER, shows=frozenset({"*"}), expires_at=None)

# The source: no broad `except` keeps what it caught to itself.

TELL = {
    "tell_fault",
    "as_call_error",
    "failure_of",
    "answer_fault",
    "_answer_fault",
    "fail",
    "failed",
}
"""Functions that log an error they are given, and methods that lead there."""

HAND_ON = {"live/aio/coalesce.py"}
"""Give the error to whoever waits for it."""


def _broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in _BROAD for kind in kinds)


_BROAD = ("Exception", "BaseException")


def _tells(handler: ast.ExceptHandler) -> bool:
    for node in ast.walk(handler):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given = any(isinstance(one, ast.Name) and one.id == handler.name for one in node.args)
            if (name in TELL and given) or any(word.arg == "exc_info" for word in node.keywords):
                return True
    return False


def _silent(tree: ast.AST) -> Iterator[int]:
    """Lines of what catches everything and tells nobody."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and _broad(node) and not _tells(node):
            yield node.lineno
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "suppress":
            if any(isinstance(one, ast.Name) and one.id in _BROAD for one in node.args):
                yield node.lineno


def test_whatever_catches_everything_tells_it() -> None:
    """In the server and in the load tests: re-raised, or logged by one of the boundaries."""
    sources = [path for part in ("live", "loadtests") for path in (ROOT / part).rglob("*.py")]
    assert len(sources) > 100
    found = [
        f"{name}:{line}"
        for path in sorted(sources)
        if (name := str(path.relative_to(ROOT))) not in HAND_ON
        for line in _silent(ast.parse(path.read_text()))
    ]

    assert found == []


@pytest.mark.parametrize(
    ("body", "silent"),
    [
        ("except Exception as error: log.warning('x', error=repr(error))", True),
        ("except: pass", True),
        ("except (OSError, Exception) as error: tell_fault('x', other)", True),
        ("except BaseException as error: give_up(error)", True),
        ("except Exception as error: tell_fault('x', error)", False),
        ("except Exception: log.error('x', exc_info=True)", False),
        ("except BaseException:\n    close()\n    raise", False),
        ("except OSError: pass", False),
    ],
)
def test_silent_nets_are_seen(body: str, silent: bool) -> None:
    """The check above can fail: it is shown what it is there to find."""
    assert bool(list(_silent(ast.parse(f"try: work()\n{body}")))) is silent
    assert list(_silent(ast.parse("with suppress(Exception): work()")))


# What a fault is.


class BadArgument(asyncpg.InterfaceError, ValueError):
    """As asyncpg says that it cannot send an argument."""


@pytest.mark.parametrize(
    "error",
    [
        KeyError("inside"),
        ValueError("inside"),
        TypeError("inside"),
        AssertionError("inside"),
        RuntimeError("inside"),
        asyncpg.UndefinedColumnError("inside"),
        asyncpg.UniqueViolationError("inside"),
        BadArgument("inside"),
    ],
)
def test_bug_is_told_with_its_traceback_and_no_repeat_is_asked_for(error: Exception) -> None:
    """Ours: no repeat mends it."""
    with capture_logs() as lines:
        told = as_call_error("test.failed", error, show="s")

    assert (told.code, told.temporary) == (100, False)
    assert "inside" not in str(told)
    [line] = lines
    assert (line["event"], line["log_level"], line["show"]) == ("test.failed", "error", "s")
    assert line["exc_info"] is error


@pytest.mark.parametrize(
    "error",
    [
        OSError("a"),
        TimeoutError(),
        RedisConnectionError("b"),
        EngineError("c"),
        asyncpg.CannotConnectNowError("d"),
        asyncpg.InterfaceError("e"),
        asyncpg.DeadlockDetectedError("f"),
    ],
)
def test_engine_that_is_away_is_told_in_a_line_and_may_be_asked_again(error: Exception) -> None:
    """No traceback: there would be thousands."""
    with capture_logs() as lines:
        told = as_call_error("test.failed", error, show="s")

    assert (told.code, told.temporary) == (111, True)
    [line] = lines
    assert (line["log_level"], line["exc_info"], line["show"]) == ("warning", None, "s")


def test_client_s_own_fault_is_told_to_him_alone() -> None:
    """They did something wrong, or have to wait; nothing of ours broke."""
    with capture_logs() as lines:
        assert as_call_error("test.failed", error := NotFound("unknown")) is error
    assert lines == []


def test_all_that_a_database_raises_is_known() -> None:
    """Whatever is survived elsewhere is no bug here."""
    assert not any(is_bug(kind("x")) for kind in DATABASE_ERRORS)


def test_fault_that_passes_several_boundaries_is_told_once() -> None:
    """The innermost tells it, and knows the most."""
    error = KeyError("x")
    with capture_logs() as lines:
        tell_fault("inner", error)
        tell_fault("outer", error)
    assert [line["event"] for line in lines] == ["inner"]


# Where it ends.


@dataclass(eq=False)
class Ear:
    """A session that keeps its answers."""

    client: str = "c1"
    attachment: object = None
    failures: list[Failure] = field(default_factory=list)
    closes: list[Close] = field(default_factory=list)
    alarm_at: int = 0
    address: str | None = None

    def fail(self, command: int, failure: Failure) -> None:
        self.failures.append(failure)

    def close(self, close: Close) -> None:
        self.closes.append(close)

    def receive(self, frame: bytes) -> None:
        raise KeyError("a bug")

    def wake(self, now: float) -> float:
        if self.closes or now < 1:
            return 1.0
        raise KeyError("a bug")


class BrokenPolicy:
    async def publish(self, *_: object) -> None:
        raise KeyError("a bug")


async def _asked(handler: RpcHandler | None, command: Command) -> tuple[Ear, list[Any]]:
    ear, tasks = Ear(), Tasks()
    rpcs = {} if handler is None else {"test": handler}
    calls = Calls(cast(Follower, None), cast(Policy, BrokenPolicy()), rpcs, tasks)
    viewer = Viewer(cast(Session, ear), CALLER, ShowId("s"))
    with capture_logs() as lines:
        calls.take(viewer, command)
        await tasks.finish()
        await asyncio.sleep(0)
    return ear, list(lines)


RPC = Command(7, RpcRequest(name="test"))


def _at_once(call: RpcCall) -> None:
    raise KeyError("a bug")


async def _later(call: RpcCall) -> object:
    raise KeyError("a bug")


async def _unreadable(call: RpcCall) -> object:
    return object()  # which no encoder takes


@pytest.mark.parametrize("handler", [_at_once, _later, _unreadable])
async def test_bug_in_a_method_is_internal_and_leaves_one_record(handler: RpcHandler) -> None:
    """The client hears 100, the log the method, the show, the connection and the traceback."""
    ear, lines = await _asked(handler, RPC)

    assert ear.failures == [codes.INTERNAL]
    [line] = lines
    ids = (line["method"], line["show"], line["connection"])
    assert ids == ("test", "s", "c1")
    assert isinstance(line["exc_info"], KeyError | TypeError)


@pytest.mark.parametrize(("error", "code"), [(OSError("away"), 111), (Busy("full"), 111)])
async def test_method_whose_engine_is_away_may_be_repeated(error: Exception, code: int) -> None:
    """And says nothing of the engine."""

    async def handler(call: RpcCall) -> object:
        raise error

    ear, _ = await _asked(handler, RPC)

    [failure] = ear.failures
    assert (failure.code, failure.temporary) == (code, True)
    assert "away" not in failure.message


async def test_bug_in_another_command_is_internal_and_leaves_one_record() -> None:
    """The same for what is no method."""
    ear, lines = await _asked(None, Command(7, PublishRequest(channel="chat:s", data=Raw(b"{}"))))

    assert ear.failures == [codes.INTERNAL]
    [line] = lines
    assert (line["method"], line["show"]) == ("publish", "s")
    assert isinstance(line["exc_info"], KeyError)


def test_bug_in_a_frame_ends_its_connection_alone() -> None:
    """It is closed for a reason after which SDKs come back, and the log has the connection."""
    ear = Ear()
    with capture_logs() as lines:
        take(cast(Session, ear), b"frame")

    assert ear.closes == [codes.SERVER_ERROR]
    [line] = lines
    assert line["connection"] == "c1" and isinstance(line["exc_info"], KeyError)


def test_bug_in_one_alarm_costs_no_other_its_own() -> None:
    """All others of the same second are woken."""
    now = 0.0
    alarms = Alarms(lambda: now)
    broken, sound = Ear(), Ear()
    for ear in (broken, sound):
        alarms.watch(cast(Session, ear))
    sound.closes.append(codes.SHUTDOWN)  # wakes without harm

    now = 1.0
    with capture_logs() as lines:
        alarms.tick()

    assert broken.closes == [codes.SERVER_ERROR]
    assert sound.alarm_at > 1
    [line] = lines
    assert isinstance(line["exc_info"], KeyError)


async def _answer_of(handler: Callable[..., Awaitable[object]]) -> tuple[httpx.Response, list[Any]]:
    endpoint = Endpoint(
        method="GET",
        path="/v1/shows/{show}/test",
        summary="",
        access=ANYONE,
        handler=handler,
        body=Body,
        answer=Body,
    )
    app = Starlette(routes=[make_route(cast(ApiDeps, None), endpoint)])
    transport = httpx.ASGITransport(app=app)
    with capture_logs() as lines:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            answer = await http.get("/v1/shows/s1/test")
    return answer, list(lines)


async def test_bug_in_a_call_is_500_and_leaves_one_record() -> None:
    """With the reference under which its caller asks, the call and the show."""

    async def handler(deps: ApiDeps, call: ApiCall[Body]) -> object:
        raise KeyError("a bug")

    answer, lines = await _answer_of(handler)

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem.get("temporary")) == (500, 100, None)
    assert "bug" not in answer.text
    [line] = lines
    assert line["reference"] == problem["reference"]
    assert (line["call"], line["show"]) == ("GET /v1/shows/{show}/test", "s1")
    assert isinstance(line["exc_info"], KeyError)


async def test_call_whose_engine_is_away_is_503() -> None:
    """It may be repeated, and says when."""

    async def handler(deps: ApiDeps, call: ApiCall[Body]) -> object:
        raise asyncpg.CannotConnectNowError("starting")

    answer, lines = await _answer_of(handler)

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["temporary"]) == (503, 111, True)
    assert answer.headers["retry-after"] == "1"
    [line] = lines
    assert (line["log_level"], line["exc_info"]) == ("warning", None)
