"""The host's own WebSocket during the demo: the offer's figures as `pulse` carries them."""

import msgspec

from live.client import Client, Published
from live.client.events import News
from live.domain.channels import ChannelKind, wire_name
from live.domain.ids import ShowId
from live.tools.demo.seen import OfferSeen, read_event


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
        self._show = ShowId(show)
        self._id = offer
        self._client = Client(url, token=token, data={"show": show}, listener=self.hear)

    async def __aenter__(self) -> "HostEar":
        self._client.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    def note(self, offer: OfferSeen) -> None:
        """Take over what an answer or event says, unless something newer is known."""
        if self.offer is None or offer.version >= self.offer.version:
            self.offer = offer

    def hear(self, news: News) -> None:
        if not isinstance(news, Published):
            return
        if news.channel == wire_name(ChannelKind.PULSE, self._show):
            for figures in _read_pulse(news.data).offers:
                if self.offer is not None and figures.id == self._id:
                    self.offer = msgspec.structs.replace(
                        self.offer, left=figures.left, held=figures.held, sold=figures.sold
                    )
        elif news.channel == wire_name(ChannelKind.SHOW, self._show):
            offer = read_event(news.data).offer
            if offer is not None and offer.id == self._id:
                self.note(offer)
