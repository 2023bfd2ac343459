"""What the protocol's commands mean here: the application behind every session.

Owns: the viewer behind each session and the tasks that serve commands. Always: a snapshot and the
offset that goes with it agree; whatever is published between the two reaches the viewer as a push;
a viewer is a member of at most one show.
Runs on: the event loop. Joining, subscribing and calls run in tasks with a deadline.
Not here: who may do what (policy.py), how rights end (rights.py), what a viewer listens to
(subscriptions.py), fan-out (hub.py), logs (follower.py, lookup.py).
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import orjson
from msgspec import UNSET, Raw, UnsetType

from live.aio.tasks import Tasks
from live.base.errors import Banned, CallError
from live.connection.admission import DEFAULT as ADMISSION
from live.connection.admission import Admission, AdmissionLimits
from live.connection.alarms import Alarms
from live.connection.calls import COMMAND_SECONDS, Calls
from live.connection.limiter import JoinLimiter
from live.connection.lookup import Lookup
from live.connection.policy import Grant, Policy, asked_grants
from live.connection.ports import Authenticate, OnEnter, OnJoin, RpcHandler
from live.connection.rights import VERSION, Rights, set_end
from live.connection.rpc import failure_of
from live.connection.subscriptions import Subscriptions
from live.connection.viewer import Mark, Subscription, Viewer, viewer_of
from live.fanout.hub import Hub
from live.fanout.topic import Entry, Topic
from live.protocol import codes
from live.protocol.codec import Codec
from live.protocol.codes import Failure
from live.protocol.commands import (
    Command,
    ConnectRequest,
    ConnectResult,
    RefreshRequest,
    SubRefreshRequest,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribeRequest,
    UnsubscribeResult,
)
from live.protocol.limits import DEFAULT, Limits
from live.protocol.port import Port
from live.protocol.session import Session
from live.showlog.disconnects import Disconnect
from live.showlog.follower import Follower
from live.showlog.presence import Presence

NO_REQUEST = SubscribeRequest()


class Gateway:
    """One per process; implements protocol.session.App."""

    def __init__(
        self,
        hub: Hub,
        follower: Follower,
        policy: Policy,
        authenticate: Authenticate,
        *,
        rpcs: Mapping[str, RpcHandler] | None = None,
        on_join: OnJoin | None = None,
        on_enter: OnEnter | None = None,
        limits: Limits = DEFAULT,
        admission: AdmissionLimits = ADMISSION,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hub = hub
        self.log = follower.log
        self.follower = follower
        self.admission = Admission(clock, admission)
        self._policy = policy
        self._authenticate = authenticate
        self._loops, self._tasks = Tasks(), Tasks()
        self._calls = Calls(follower, policy, rpcs or {}, self._tasks)
        self._presence = Presence(follower.log.store)
        self._subscriptions = Subscriptions(hub, follower, self._presence)
        self._lookup = Lookup(follower)
        self._on_join = on_join
        self._on_enter = on_enter
        self._limits = limits
        self._clock = clock
        self._alarms = Alarms(clock)
        self._joins = JoinLimiter()
        self._rights = Rights(
            hub,
            follower,
            policy,
            authenticate,
            admission=self.admission,
            subscriptions=self._subscriptions,
        )
        follower.disconnects.listen(self._rights.disconnect)
        follower.on_state = self._rights.state_turned
        follower.on_alone = self._tell_alone

    async def open(self) -> None:
        self._loops.start("alarms", self._alarms.run())
        self._loops.start("presence", self._presence.run())

    async def close(self) -> None:
        await self._loops.close()
        await self._tasks.close()

    def session(
        self, port: Port, codec: Codec, *, one_way: bool = False, address: str | None = None
    ) -> Session:
        """Make the session of a new connection; `address` is the client's."""
        session = Session(
            port,
            codec,
            self,
            clock=self._clock,
            limits=self._limits,
            one_way=one_way,
            address=address,
        )
        self._alarms.watch(session)
        return session

    # Called by sessions

    def connect(self, session: Session, command: int, request: ConnectRequest) -> None:
        self._joins.come(
            lambda: self._connect(session, command, request),
            lambda: session.refuse(command, codes.TOO_MANY_REQUESTS, codes.SERVER_ERROR),
        )

    def _connect(self, session: Session, command: int, request: ConnectRequest) -> None:
        if session.closed:  # while it waited for its turn
            return
        try:
            caller = self._authenticate(request.token)
        except CallError as fault:
            if fault.code == codes.TOKEN_EXPIRED.code:
                session.refuse(command, codes.TOKEN_EXPIRED, codes.EXPIRED)
            elif fault.temporary:
                session.refuse(command, failure_of(fault), codes.SERVER_ERROR)
            else:
                session.close(codes.INVALID_TOKEN)
            return
        if self.hub.draining:
            session.close(codes.SHUTDOWN)
            return
        show = self._policy.show_of(caller, request)
        if isinstance(show, Failure):
            session.refuse(command, show, codes.CLOSED_NOT_AVAILABLE)
            return
        viewer = Viewer(session, caller, show)
        session.attachment = viewer
        self.hub.enter(session)
        self.admission.known_as(caller.person, session)
        self._start_join(viewer, command, request)

    def ordered(self, session: Session, command: Command) -> None:
        viewer = viewer_of(session)
        body = command.body
        if isinstance(body, SubscribeRequest):
            self._start_subscribe(viewer, command.id, body)
        elif isinstance(body, UnsubscribeRequest):
            self._subscriptions.drop(viewer, body.channel)
            session.finish(command.id, UnsubscribeResult())
        elif isinstance(body, RefreshRequest):
            self._rights.refresh(viewer, command.id, body)
        else:
            assert isinstance(body, SubRefreshRequest), body
            # Subscriptions here have no tokens of their own, so there is nothing to refresh.
            known = body.channel in viewer.subs
            session.finish_failed(
                command.id, codes.NOT_AVAILABLE if known else codes.PERMISSION_DENIED
            )

    def call(self, session: Session, command: Command) -> None:
        self._calls.take(viewer_of(session), command)

    def gone(self, session: Session) -> None:
        self._alarms.forget(session)
        viewer = session.attachment
        if viewer is None:
            return
        assert isinstance(viewer, Viewer), viewer
        self.hub.leave(session)
        self.admission.gone(viewer.caller.person, session)
        self._subscriptions.leave(viewer)

    def disconnect(self, disconnect: Disconnect) -> None:
        """Close who has to go, as a log-out says that was not heard but read."""
        self._rights.disconnect(disconnect)

    def _tell_alone(self, person: str, topic: Topic, entry: Entry) -> None:
        """Push something to one person's connections that listen to a channel."""
        for session in self.admission.of(person):
            sub = viewer_of(session).subs.get(topic.name)
            if sub is not None and sub.topic is topic:
                session.push(entry.push(session.codec))

    # Joining

    def _start_join(self, viewer: Viewer, command: int, request: ConnectRequest) -> None:
        """Join at once where everything is in memory; else in a task, after reading it."""
        session = viewer.session
        grants = self._policy.at_connect(viewer.caller, viewer.show)
        if session.one_way:
            asked = asked_grants(self._policy, viewer.asking, request.subs, grants)
            if isinstance(asked, Failure):
                session.refuse(command, asked, codes.CLOSED_FOR_ROLE)
                return
            grants += asked
            viewer.entering = grants[0].show if grants else None
        marks = self._marks_at_hand(grants, request)
        asks = self._must_ask(viewer) or (self._on_join is not None and viewer.show is not None)
        if marks is not None and not asks:
            self._accept(viewer, command, request, marks, UNSET)
            self._lookup.let_go(mark.sub.topic for mark in marks)
        else:
            self._lookup.let_go(mark.sub.topic for mark in marks or ())
            self._joins.entered()
            self._tasks.start("connect", self._guard_join(viewer, command, request, grants))

    def _marks_at_hand(self, grants: list[Grant], request: ConnectRequest) -> list[Mark] | None:
        """Find all topics in memory; None if Redis has to be asked for one of them."""
        marks: list[Mark] = []
        for grant in grants:
            topic = self._lookup.at_hand(grant, request.subs.get(grant.name, NO_REQUEST))
            if topic is None:
                self._lookup.let_go(mark.sub.topic for mark in marks)
                return None
            marks.append(self._mark(grant, topic))
        return marks

    def _mark(self, grant: Grant, topic: Topic) -> Mark:
        """Note where a topic stands, and claim it."""
        self._lookup.claim(topic)
        return Mark(Subscription(grant, topic), topic.epoch, topic.top)

    async def _guard_join(
        self, viewer: Viewer, command: int, request: ConnectRequest, grants: list[Grant]
    ) -> None:
        session = viewer.session
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                await self._join(viewer, command, request, grants)
        except Banned:
            session.close(codes.BANNED)
        except Exception as error:
            failure = failure_of(error, method="connect", **viewer.log_ids)
            # After a temporary one the SDK comes back; any other keeps it away for good.
            close = codes.SERVER_ERROR if failure.temporary else codes.CLOSED_NOT_AVAILABLE
            session.refuse(command, failure, close)
        finally:
            self._joins.left()

    async def _join(
        self, viewer: Viewer, command: int, request: ConnectRequest, grants: list[Grant]
    ) -> None:
        marks: list[Mark] = []
        try:
            for grant in grants:
                topic = await self._lookup.find(grant, request.subs.get(grant.name, NO_REQUEST))
                # The snapshot is made after this mark, so it contains all up to here; what comes
                # in between is sent as pushes.
                marks.append(self._mark(grant, topic))
            await self._finish_join(viewer, command, request, marks)
        finally:
            self._lookup.let_go(mark.sub.topic for mark in marks)

    async def _finish_join(
        self, viewer: Viewer, command: int, request: ConnectRequest, marks: list[Mark]
    ) -> None:
        session = viewer.session
        data: Raw | UnsetType = UNSET
        if self._on_join is not None and viewer.show is not None:
            asked = bytes(request.data)
            snapshot = await self._on_join(viewer.caller, viewer.show, asked, session.address)
            data = Raw(snapshot if isinstance(snapshot, bytes) else orjson.dumps(snapshot))
        await self._ask_to_enter(viewer)
        if not session.closed:
            # No await from here on: position, reply and membership are one step.
            self._accept(viewer, command, request, marks, data)

    def _accept(
        self,
        viewer: Viewer,
        command: int,
        request: ConnectRequest,
        marks: list[Mark],
        data: Raw | UnsetType,
    ) -> None:
        session = viewer.session
        if not all(self._lookup.usable(mark) for mark in marks):
            session.close(codes.INSUFFICIENT_STATE)
            return
        if not all(self._admits(viewer, mark.sub) for mark in marks):
            session.refuse(command, codes.PERMISSION_DENIED, codes.CLOSED_NOT_AVAILABLE)
            return
        subs: dict[str, SubscribeResult] = {}
        missed: list[bytes] = []
        for mark in marks:
            sub = mark.sub
            topic, asked = sub.topic, request.subs.get(sub.grant.name, NO_REQUEST)
            result = topic.recover(asked)
            if not result.recovered and topic.has_log:
                result = topic.position(at=mark.offset, was_recovering=asked.recover)
                missed += [
                    session.codec.publication(topic.name, publication)
                    for publication in topic.after(mark.offset)
                ]
            subs[sub.grant.name] = result
        if len(marks) == 1 and marks[0].sub.topic.has_log:
            session.codec = session.codec.at_epoch(marks[0].epoch)
        self._subscriptions.place(viewer, [mark.sub for mark in marks])
        expires, ttl = set_end(viewer)
        answer = ConnectResult(
            client=session.client,
            version=VERSION,
            ping=int(self._limits.ping_seconds),
            pong=not session.one_way,
            expires=expires,
            ttl=ttl,
            time=time.time_ns() // 1_000_000,
            data=data,
            subs=subs,
        )
        session.accept(command, answer)
        if missed:
            session.push(session.codec.join(missed))

    # Subscribing

    def _start_subscribe(self, viewer: Viewer, command: int, request: SubscribeRequest) -> None:
        """Subscribe at once where the topic is in memory; else in a task, after reading it."""
        grant = self._allow(viewer, request)
        if isinstance(grant, Failure):
            viewer.session.finish_failed(command, grant)
            return
        viewer.entering = grant.show
        topic = self._lookup.at_hand(grant, request)
        if topic is not None and not self._must_ask(viewer):
            self._lookup.claim(topic)
            self._subscribed(viewer, command, request, Subscription(grant, topic))
            self._lookup.let_go((topic,))
        else:
            self._tasks.start("subscribe", self._guard_subscribe(viewer, command, request, grant))

    async def _guard_subscribe(
        self, viewer: Viewer, command: int, request: SubscribeRequest, grant: Grant
    ) -> None:
        session = viewer.session
        claimed: list[Topic] = []
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                topic = await self._lookup.find(grant, request)
                self._lookup.claim(topic)
                claimed.append(topic)
                await self._ask_to_enter(viewer)
            self._subscribed(viewer, command, request, Subscription(grant, topic))
        except Exception as error:
            failure = failure_of(error, method="subscribe", **viewer.log_ids)
            session.finish_failed(command, failure)
        finally:
            self._lookup.let_go(claimed)

    def _subscribed(
        self, viewer: Viewer, command: int, request: SubscribeRequest, sub: Subscription
    ) -> None:
        """Answer and make the viewer listen, in one step."""
        session, topic = viewer.session, sub.topic
        if session.closed:
            return
        if not self._lookup.usable(Mark(sub, topic.epoch, topic.top)):
            session.finish_failed(command, codes.INTERNAL)
            return
        if not self._admits(viewer, sub):
            session.finish_failed(command, codes.PERMISSION_DENIED)
            return
        result = topic.recover(request)
        if result.was_recovering and not result.recovered and request.flag & 2:
            session.finish_failed(command, codes.UNRECOVERABLE)
            return
        self._subscriptions.place(viewer, [sub])
        session.finish(command, result)

    def _allow(self, viewer: Viewer, request: SubscribeRequest) -> Grant | Failure:
        """Check a subscription; closes the connection where the request itself is a fault."""
        name = request.channel
        if not name or request.delta not in ("", "fossil"):
            viewer.session.close(codes.BAD_FRAME)
            return codes.BAD_REQUEST
        if name in viewer.subs:
            return codes.ALREADY_SUBSCRIBED
        if len(name) > self._limits.channel_chars_max or bytes(request.tf):
            return codes.BAD_REQUEST
        if len(viewer.subs) >= self._limits.channels_max:
            return codes.LIMIT_EXCEEDED
        if request.type != 0:
            return codes.NOT_AVAILABLE
        grant = self._policy.subscribe(viewer.asking, request)
        if isinstance(grant, Grant):
            show = viewer.show if viewer.member is None else viewer.member.show
            if show is not None and grant.show != show:
                return codes.LIMIT_EXCEEDED  # one show a connection
        return grant

    def _must_ask(self, viewer: Viewer) -> bool:
        """Tell whether they are about to hear a show for the first time that they did not name."""
        new = viewer.show is None and viewer.member is None and viewer.entering is not None
        return new and self._on_enter is not None

    async def _ask_to_enter(self, viewer: Viewer) -> None:
        """Raises CallError for who may not come in. Who is banned later is disconnected."""
        if self._must_ask(viewer):
            assert self._on_enter is not None and viewer.entering is not None, "checked"
            await self._on_enter(viewer.caller, viewer.entering)

    def _admits(self, viewer: Viewer, sub: Subscription) -> bool:
        followed = self.follower.followed(sub.topic.show)
        return followed is None or self._policy.admits(viewer.asking, followed.state)
