"""Calls of a connection: rpc, publish, history, presence. They run at the same time.

Always: each call is answered once, within `COMMAND_SECONDS` where it is awaited here; a handler
that breaks ends its own call, not the connection. How an error is answered, and whether the log is
told: `failure_of` (rpc.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TypeVar

from live.aio.tasks import Tasks
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
    Request,
    RpcRequest,
)
from live.showlog.follower import Follower
from live.showlog.presence import is_small
from live.showlog.store import decode_info

R = TypeVar("R", bound=Request)

COMMAND_SECONDS = 4.0  # the SDKs give up at 5 s and reconnect, which makes a storm of a delay


class Calls:
    def __init__(
        self, follower: Follower, policy: Policy, rpcs: Mapping[str, RpcHandler], tasks: Tasks
    ) -> None:
        self._follower = follower
        self._policy = policy
        self._rpcs = rpcs
        self._tasks = tasks

    def take(self, viewer: Viewer, command: Command) -> None:
        """Start a call; the session is answered when it is done."""
        body = command.body
        match body:
            case RpcRequest():
                self._rpc(viewer, command.id, body)
            case PublishRequest():
                self._later(viewer, command.id, body, self._publish)
            case HistoryRequest():
                self._later(viewer, command.id, body, self._history)
            case PresenceRequest():
                self._later(viewer, command.id, body, self._presence)
            case PresenceStatsRequest():
                self._later(viewer, command.id, body, self._stats)
            case _:
                raise AssertionError(f"no call: {body}")

    def _rpc(self, viewer: Viewer, command: int, request: RpcRequest) -> None:
        session = viewer.session
        handler = self._rpcs.get(request.name)
        if handler is None:
            session.fail(command, codes.METHOD_NOT_FOUND)
            return
        data = bytes(request.data)
        call = SessionCall(session, command, viewer.caller, viewer.show, request.name, data)
        try:
            answer = handler(call)
        except Exception as error:  # one broken handler must not end the connection
            call.fail(error)
            return
        if answer is not None:
            self._tasks.start(request.name, _answer_later(call, answer))

    def _later(
        self,
        viewer: Viewer,
        command: int,
        request: R,
        work: Callable[[Viewer, int, R], Coroutine[object, object, None]],
    ) -> None:
        guarded = _guard(viewer, request.method, command, work(viewer, command, request))
        self._tasks.start(request.method, guarded)

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


async def _answer_later(call: SessionCall, answer: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            call.reply(await answer)
    except Exception as error:
        call.fail(error)


async def _guard(
    viewer: Viewer, method: str, command: int, work: Coroutine[object, object, None]
) -> None:
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            await work
    except Exception as error:
        viewer.session.fail(command, failure_of(error, method=method, **viewer.log_ids))
