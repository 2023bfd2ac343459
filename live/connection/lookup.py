"""Finds the topic behind a grant, in memory or by reading Redis, reaching back as far as is asked.

Always: a topic found before an await is checked by `usable` before anybody is made to listen to it;
one that is found for a viewer is claimed for them until `let_go`, so that the end of their other
connection in the same instant does not take it away.
"""

from collections.abc import Iterable

from live.connection.policy import Grant
from live.connection.viewer import Mark
from live.fanout.topic import Topic
from live.protocol.commands import SubscribeRequest
from live.showlog.followed import FollowedShow
from live.showlog.follower import Follower


class Lookup:
    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def at_hand(self, grant: Grant, request: SubscribeRequest) -> Topic | None:
        """Return the topic if memory can answer this request, without a task and without Redis."""
        followed = self._follower.current(grant.show)
        if followed is None:
            return None
        topic = followed.topics.get(grant.log)
        if topic is None and (grant.direct or not grant.has_log):
            topic = self._make(followed, grant)
        return None if topic is None or _needs_log(topic, request) else topic

    async def find(self, grant: Grant, request: SubscribeRequest) -> Topic:
        """Open the topic, and see to it that memory can decide this recovery.

        Raises NotFound, Busy.
        """
        followed = await self._follower.follow(grant.show)
        topic = followed.topics.get(grant.log)
        if topic is None:
            topic = self._make(followed, grant)
            if grant.has_log and not grant.direct:
                await self._follower.deepen(topic)  # many will ask for its recent past
        if _needs_log(topic, request):
            if request.offset > topic.top:
                await self._follower.catch_up_to(topic, request.offset)
            if not topic.reaches(request.offset):
                await self._follower.deepen(topic)
        return topic

    def claim(self, topic: Topic) -> None:
        """Keep a topic for somebody who is about to listen to it; `let_go` follows."""
        topic.claims += 1

    def let_go(self, topics: Iterable[Topic]) -> None:
        """Whoever claimed these listens now, or will not."""
        for topic in topics:
            topic.claims -= 1
            self._follower.drop_unheard(topic)

    def usable(self, mark: Mark) -> bool:
        """Tell whether a topic found before an await is still the one, and has all since then."""
        topic = mark.sub.topic
        followed = self._follower.followed(topic.show)
        alive = followed is not None and followed.topics.get(topic.log) is topic
        return alive and topic.epoch == mark.epoch and topic.floor <= mark.offset <= topic.top

    def _make(self, followed: FollowedShow, grant: Grant) -> Topic:
        return self._follower.topic(
            followed,
            grant.log,
            grant.name,
            direct=grant.direct,
            has_log=grant.has_log,
            keep=grant.keep,
        )


def _needs_log(topic: Topic, request: SubscribeRequest) -> bool:
    """Tell whether Redis must be asked before this recovery can be decided."""
    if not topic.has_log or not request.recover or request.epoch not in ("", topic.epoch):
        return False
    # Ahead of us: another gateway has delivered what is still on its way to this one.
    return request.offset > topic.top or not topic.reaches(request.offset)
