"""Subscriptions of viewers: what each of them listens to, and how they leave it again.

Owns: `viewer.subs` and `viewer.member`, which change together with the hub and with who is present.
Always: who listens to something is a member of that show, and stays one until they are gone.
Runs on: the event loop only; no method awaits.
"""

from live.connection.viewer import Subscription, Viewer
from live.fanout.hub import Hub
from live.showlog.follower import Follower
from live.showlog.presence import Presence


class Subscriptions:
    def __init__(self, hub: Hub, follower: Follower, presence: Presence) -> None:
        self._hub = hub
        self._follower = follower
        self._presence = presence

    def place(self, viewer: Viewer, subs: list[Subscription]) -> None:
        """Make the viewer listen; they stand at the top of each of these topics."""
        if not subs:
            return
        viewer.subs |= {sub.grant.name: sub for sub in subs}
        if viewer.member is None:
            viewer.member = self._hub.admit(viewer.session, subs[0].topic.show)
        for sub in subs:
            if sub.topic.direct:
                self._hub.listen_direct(viewer.member, sub.topic)
            if sub.grant.presence:
                self._presence.came(sub.topic, viewer.info, tell=sub.grant.join_leave)
        self._listen(viewer)

    def drop(self, viewer: Viewer, channel: str) -> None:
        """End a subscription; idempotent, as a client may repeat it after a reconnect."""
        sub = viewer.subs.pop(channel, None)
        if sub is None:
            return
        if sub.topic.direct:
            self._leave_direct(viewer, sub)
        else:
            self._listen(viewer)
        self._absent(viewer, sub)

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer who is gone."""
        for name in list(viewer.subs):
            sub = viewer.subs.pop(name)
            self._leave_direct(viewer, sub)
            self._absent(viewer, sub)
        if viewer.member is not None:
            self._hub.remove(viewer.member)
            viewer.member = None

    def _listen(self, viewer: Viewer) -> None:
        assert viewer.member is not None, "who listens is a member"
        shared = frozenset(sub.topic for sub in viewer.subs.values() if not sub.topic.direct)
        self._hub.listen(viewer.member, shared)

    def _leave_direct(self, viewer: Viewer, sub: Subscription) -> None:
        topic = sub.topic
        if not topic.direct or viewer.member is None:
            return
        self._hub.leave_direct(viewer.member, topic)
        self._follower.drop_unheard(topic)

    def _absent(self, viewer: Viewer, sub: Subscription) -> None:
        if sub.grant.presence:
            self._presence.left(sub.topic, viewer.info, tell=sub.grant.join_leave)
