"""Calls of a connection: rpc, publish, history, presence. They run at the same time.

Always: each call is answered once, within `COMMAND_SECONDS` where it is awaited here; a handler
that breaks ends its own call, not the connection.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping

import structlog

from live.base.errors import Busy, CallError
from live.connection.policy import Policy
from live.connection.ports import RpcHandler
from live.connection.rpc import SessionCall, failure_of
from live.connection.viewer import Viewer
from live.fanout.topic import DESK_LOGS, RECOVERY_MAX, Topic
from live.protocol import codes
from live.protocol.commands import (
    ClientInfo,
    Command,
    HistoryRequest,
    HistoryResult,
    PresenceRequest,
    PresenceResult,
    PresenceStatsRequest,
    PresenceStatsResult,
    PublishRequest,
    PublishResult,
    RpcRequest,
)
from live.showlog.follower import Follower
from live.showlog.presence import is_small
from live.showlog.store import decode_info

COMMAND_SECONDS = 4.0  # the SDKs give up at 5 s and reconnect, which makes a storm of a delay

Spawn = Callable[[Coroutine[object, object, None]], None]
log = structlog.get_logger()


class Calls:
    def __init__(
        self, follower: Follower, policy: Policy, rpcs: Mapping[str, RpcHandler], spawn: Spawn
    ) -> None:
        self._follower = follower
        self._policy = policy
        self._rpcs = rpcs
        self._spawn = spawn

    def take(self, viewer: Viewer, command: Command) -> None:
        """Start a call; the session is answered when it is done."""
        body = command.body
        match body:
            case RpcRequest():
                self._rpc(viewer, command.id, body)
            case PublishRequest():
                self._later(viewer, command.id, self._publish(viewer, command.id, body))
            case HistoryRequest():
                self._later(viewer, command.id, self._history(viewer, command.id, body))
            case PresenceRequest():
                self._later(viewer, command.id, self._presence(viewer, command.id, body))
            case PresenceStatsRequest():
                self._later(viewer, command.id, self._stats(viewer, command.id, body))
            case _:
                raise AssertionError(f"no call: {body}")

    def _rpc(self, viewer: Viewer, command: int, request: RpcRequest) -> None:
        session = viewer.session
        handler = self._rpcs.get(request.name)
        if handler is None:
            session.fail(command, codes.METHOD_NOT_FOUND)
            return
        call = SessionCall(session, command, viewer.caller, viewer.show, bytes(request.data))
        try:
            answer = handler(call)
        except CallError as fault:
            call.fail(fault)
            return
        except Exception as fault:  # one broken handler must not end the connection
            log.exception("rpc failed", method=request.name, client=session.client)
            call.fail(fault)
            return
        if answer is not None:
            self._spawn(_answer_later(call, answer, request.name))

    def _later(self, viewer: Viewer, command: int, work: Coroutine[object, object, None]) -> None:
        self._spawn(_guard(viewer, command, work))

    async def _publish(self, viewer: Viewer, command: int, request: PublishRequest) -> None:
        data = bytes(request.data)
        if request.type or request.key or request.removed:
            viewer.session.fail(command, codes.NOT_AVAILABLE)
        elif not request.channel or not data:
            viewer.session.fail(command, codes.BAD_REQUEST)
        else:
            await self._policy.publish(viewer.asking, request.channel, data)
            viewer.session.reply(command, PublishResult())

    async def _history(self, viewer: Viewer, command: int, request: HistoryRequest) -> None:
        session, sub = viewer.session, viewer.subs.get(request.channel)
        if sub is None:
            session.fail(command, codes.PERMISSION_DENIED)
            return
        topic, since = sub.topic, request.since
        if not topic.has_log:
            session.fail(command, codes.NOT_AVAILABLE)
            return
        if since is not None and since.epoch not in ("", topic.epoch):
            session.fail(command, codes.UNRECOVERABLE)
            return
        limit = RECOVERY_MAX if request.limit < 0 else min(request.limit, RECOVERY_MAX)
        found = await self._follower.log.store.read_log(
            topic.show,
            topic.log,
            count=limit,
            since=None if since is None else since.offset,
            reverse=request.reverse,
        )
        # What was read may be ahead of what has been announced to us; the position covers both.
        top = max([topic.top, *(publication.offset for publication in found)])
        session.reply(command, HistoryResult(tuple(found), topic.epoch, top))

    async def _presence(self, viewer: Viewer, command: int, request: PresenceRequest) -> None:
        session, sub = viewer.session, viewer.subs.get(request.channel)
        if sub is None:
            session.fail(command, codes.PERMISSION_DENIED)
        elif not sub.grant.presence:
            session.fail(command, codes.NOT_AVAILABLE)
        elif is_small(len(found := await self._present(sub.topic))):
            session.reply(command, PresenceResult(found))
        else:
            session.fail(command, codes.NOT_AVAILABLE)

    async def _stats(self, viewer: Viewer, command: int, request: PresenceStatsRequest) -> None:
        session, sub = viewer.session, viewer.subs.get(request.channel)
        if sub is None:
            session.fail(command, codes.PERMISSION_DENIED)
        elif sub.grant.presence:
            found = await self._present(sub.topic)
            users = {info.user for info in found.values()}
            session.reply(command, PresenceStatsResult(len(found), len(users)))
        else:
            # Of thousands nobody keeps a list; connections are what is counted.
            count = await self._follower.log.viewers(sub.topic.show)
            session.reply(command, PresenceStatsResult(count, count))

    async def _present(self, topic: Topic) -> dict[str, ClientInfo]:
        """Who is on a channel: everywhere as of a moment ago, on this process as of now."""
        # Hosts and moderators are at one desk, though they read two logs.
        logs = DESK_LOGS if topic.log in DESK_LOGS else (topic.log,)
        found: dict[str, ClientInfo] = {}
        for name in logs:
            found |= await self._follower.log.store.read_presence(topic.show, name)
        followed = self._follower.followed(topic.show)
        for name in logs:
            here = None if followed is None else followed.topics.get(name)
            if here is not None:
                found |= {client: decode_info(info) for client, info in here.present.items()}
        return found


async def _answer_later(call: SessionCall, answer: Awaitable[object], method: str) -> None:
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            call.reply(await answer)
    except TimeoutError:
        call.fail(Busy("no answer in time: repeat with the same key"))
    except CallError as fault:
        call.fail(fault)
    except Exception as fault:  # the boundary of a task: the client is told, the fault is logged
        log.exception("rpc failed", method=method)
        call.fail(fault)


async def _guard(viewer: Viewer, command: int, work: Coroutine[object, object, None]) -> None:
    session = viewer.session
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            await work
    except TimeoutError:
        session.fail(command, failure_of(Busy("no answer in time")))
    except CallError as fault:
        session.fail(command, failure_of(fault))
    except Exception:  # the boundary of a task: the client is told, the fault is logged
        log.exception("command failed", client=session.client)
        session.fail(command, codes.INTERNAL)
