"""What a client keeps of its channels, so that it can come back without missing anything.

Always: a position only moves forward within one epoch, and a repeat of a publication is dropped.
"""

from collections.abc import Collection

from live.protocol.commands import Publication, StreamPosition, SubscribeResult


class Positions:
    """The place in the log of every recoverable channel."""

    def __init__(self) -> None:
        self._known: dict[str, StreamPosition] = {}

    def recovery(self, *, but: Collection[str]) -> dict[str, object]:
        """What a connect command asks for all channels but these."""
        return {name: self.recovery_of(name) for name in self._known if name not in but}

    def recovery_of(self, channel: str) -> dict[str, object]:
        """What a subscribe command asks; nothing where there is nothing to recover."""
        position = self._known.get(channel)
        if position is None:
            return {}
        return {"recover": True, "epoch": position.epoch, "offset": position.offset}

    def subscribed(self, channel: str, sub: SubscribeResult) -> list[Publication]:
        """Take over where a subscription begins; return what was missed, in order."""
        position = StreamPosition(sub.offset, sub.epoch)
        if not sub.recoverable:
            self.forget(channel)
        elif sub.recovered:
            # `offset` is the one we asked from; the publications move it on.
            self._known.setdefault(channel, position)
        else:
            self._known[channel] = position
        return [missed for missed in sub.publications if self.move_on(channel, missed)]

    def move_on(self, channel: str, publication: Publication) -> bool:
        """Move on to this publication; False for one that was seen before."""
        position = self._known.get(channel)
        if position is None or not publication.offset:
            return True
        if publication.offset <= position.offset:
            return False
        self._known[channel] = StreamPosition(publication.offset, position.epoch)
        return True

    def forget(self, channel: str) -> None:
        self._known.pop(channel, None)

    def keep(self, channels: Collection[str]) -> None:
        """Forget all others: nobody is subscribed to them any more."""
        self._known = {name: at for name, at in self._known.items() if name in channels}
