"""How rights end while a connection lives: a new token, a log-out, a ban, a rehearsal.

Always: what a caller may no longer hear they do not hear from that moment on; a connection that is
in nothing that its token covers is closed.
Runs on: the event loop only; no method awaits.
Not here: who may do what (policy.py), how disconnects reach all gateways (disconnects.py).
"""

import time
from dataclasses import replace
from importlib.metadata import version

from live.base.errors import CallError
from live.connection.admission import Admission
from live.connection.policy import Grant, Policy
from live.connection.ports import Authenticate
from live.connection.rpc import failure_of
from live.connection.subscriptions import Subscriptions
from live.connection.viewer import Viewer, viewer_of
from live.domain.caller import RANKS, Caller
from live.domain.show import ShowState, ShowStatus
from live.fanout.cohort import Member
from live.fanout.hub import Hub
from live.protocol import codes
from live.protocol.codes import Close
from live.protocol.commands import RefreshRequest, RefreshResult, SubscribeRequest, UnsubscribePush
from live.showlog.disconnects import Disconnect
from live.showlog.follower import Follower

VERSION = version("live-shopping")

_UNSUBSCRIBED = UnsubscribePush(codes.SERVER_UNSUBSCRIBE.code, codes.SERVER_UNSUBSCRIBE.reason)


class Rights:
    def __init__(
        self,
        hub: Hub,
        follower: Follower,
        policy: Policy,
        authenticate: Authenticate,
        *,
        admission: Admission,
        subscriptions: Subscriptions,
    ) -> None:
        self._hub = hub
        self._follower = follower
        self._policy = policy
        self._authenticate = authenticate
        self._admission = admission
        self._subscriptions = subscriptions

    def refresh(self, viewer: Viewer, command: int, request: RefreshRequest) -> None:
        """Take a new token of the same person, and what it no longer allows."""
        session = viewer.session
        if not request.token or viewer.caller.expires_at is None:
            session.close(codes.BAD_FRAME)
            return
        try:
            caller = self._authenticate(request.token)
        except CallError as fault:
            if fault.temporary or fault.code == codes.TOKEN_EXPIRED.code:
                session.finish_failed(command, failure_of(fault))
            else:
                session.close(codes.INVALID_TOKEN)
            return
        if caller.sub != viewer.caller.sub:
            session.close(codes.INVALID_TOKEN)
            return
        before, viewer.caller = viewer.caller, caller
        close = self._turned_away(viewer, before)
        if close is not None:
            session.close(close)
            return
        self._end_subscriptions(viewer)
        expires, ttl = set_end(viewer)
        session.finish(
            command,
            RefreshResult(client=session.client, version=VERSION, expires=expires, ttl=ttl),
        )

    def _turned_away(self, viewer: Viewer, before: Caller) -> Close | None:
        """Tell how the connection ends, if it cannot stay in its show at all."""
        show = viewer.here
        if show is None:
            return None
        if not viewer.caller.may_see(show):
            return codes.CLOSED_FOR_ROLE
        if before.may_moderate(show) and not viewer.caller.may_moderate(show):
            followed = self._follower.followed(show)
            state = None if followed is None else followed.state
            if state is not None and state.status is ShowStatus.REHEARSAL:
                return codes.INSUFFICIENT_STATE  # staff needs no passcode, viewers do
        return None

    def _end_subscriptions(self, viewer: Viewer) -> None:
        session = viewer.session
        for name, sub in list(viewer.subs.items()):
            grant = self._policy.subscribe(viewer.asking, SubscribeRequest(channel=name))
            # The desk of hosts and that of moderators have one name and two logs.
            if not isinstance(grant, Grant) or grant.log != sub.grant.log:
                self._subscriptions.drop(viewer, name)
                session.push(session.codec.push(name, _UNSUBSCRIBED))

    def disconnect(self, disconnect: Disconnect) -> None:
        """Close a person's connections: they logged out or were banned."""
        for session in self._admission.of(disconnect.person):
            viewer = viewer_of(session)
            caller = viewer.caller
            if RANKS[caller.role] >= disconnect.rank or disconnect.token not in ("", caller.token):
                continue
            if disconnect.until and caller.issued_at > disconnect.before:
                continue  # they came back with a token of afterwards
            if disconnect.show in ("", viewer.here):
                session.close(Close(disconnect.code, disconnect.reason))
            elif disconnect.until:  # they are elsewhere, but must not go there with this token
                viewer.caller = replace(caller, without=caller.without | {disconnect.show})

    def state_turned(self, before: ShowState | None, now: ShowState) -> None:
        """A rehearsal begins: whoever waited for the show leaves, and needs the passcode."""
        if now.status is not ShowStatus.REHEARSAL or before is None or before.status is now.status:
            return
        subscribed: list[Member] = []
        for session in self._hub.sessions():
            viewer = viewer_of(session)
            if viewer.here != now.id or viewer.caller.may_moderate(now.id):
                continue
            if viewer.member is None:  # still on their way in, before they get there
                session.close(codes.INSUFFICIENT_STATE)
            else:
                subscribed.append(viewer.member)
        self._hub.send_away(subscribed, codes.INSUFFICIENT_STATE)


def set_end(viewer: Viewer) -> tuple[bool, int]:
    """Set the session's end to its token's; return what the client is told about it."""
    expires_at = viewer.caller.expires_at
    if expires_at is None:
        viewer.session.expire_in(None)
        return False, 0
    ttl = max(1, int(expires_at - time.time()))
    viewer.session.expire_in(ttl)
    return True, ttl
