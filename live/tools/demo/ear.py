"""The host's own WebSocket during the demo: the offer's figures as `pulse` carries them.

A lost connection is not restored here: the figures then come from the HTTP polls alone.
"""

import msgspec

from live.domain.channels import ChannelKind, wire_name
from live.domain.ids import ShowId
from live.tools.demo.link import CallFailed, Link, NoAnswer, open_link
from live.tools.demo.seen import OfferSeen, read_event
from live.tools.demo.wire import Memory, Publication


class _PulseOffer(msgspec.Struct, frozen=True):
    id: str
    left: int
    held: int
    sold: int


class _Pulse(msgspec.Struct, frozen=True):
    offers: list[_PulseOffer] = []


_read_pulse = msgspec.json.Decoder(_Pulse).decode


class HostEar:
    """Use as an async context manager."""

    def __init__(self, url: str, token: str, show: str, offer: str) -> None:
        self.offer: OfferSeen | None = None
        self.closed = ""  # why the connection ended, if it did
        self._url = url
        self._token = token
        self._show = ShowId(show)
        self._id = offer
        self._link: Link | None = None

    async def __aenter__(self) -> "HostEar":
        try:
            self._link = await open_link(self._url, Memory(), self)
            await self._link.join(self._token, self._show)
        except (CallFailed, NoAnswer, OSError) as fault:  # TimeoutError is an OSError
            self.closed = str(fault)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._link is not None:
            self._link.close()

    def note(self, offer: OfferSeen) -> None:
        """Take over what an answer or event says, unless something newer is known."""
        if self.offer is None or offer.version >= self.offer.version:
            self.offer = offer

    def on_publication(self, channel: str, publication: Publication, at: float | None) -> None:
        if channel == wire_name(ChannelKind.PULSE, self._show):
            for figures in _read_pulse(publication.data).offers:
                if self.offer is not None and figures.id == self._id:
                    self.offer = msgspec.structs.replace(
                        self.offer, left=figures.left, held=figures.held, sold=figures.sold
                    )
        elif channel == wire_name(ChannelKind.SHOW, self._show):
            offer = read_event(publication.data).offer
            if offer is not None and offer.id == self._id:
                self.note(offer)

    def on_closed(self, code: int, reason: str) -> None:
        self.closed = f"{code} {reason}"
