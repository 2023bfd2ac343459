"""What buyers hear of their holds beside their own requests: expired, or granted by the waitlist.

Always: told after the commit that journaled it and before its entry is acknowledged, so at least
once; one idempotency key per movement, so the channel's log holds it once.
Called by: the settler.
"""

import asyncio
from collections.abc import Sequence

from live.base.faults import tell_fault
from live.domain.channels import Channel, ChannelKind
from live.domain.events import HoldEvent
from live.domain.hold import HoldItem, HoldState, HoldView, Movement, MovementKind
from live.domain.ids import key_text
from live.ledger.db import metrics
from live.ledger.ports import PublishPort
from live.ledger.settle.offers_by_slot import OfferFacts

TRIES_MAX = 3
ANNOUNCING_MAX = 64  # at once

_TOLD = frozenset({MovementKind.EXPIRED, MovementKind.GRANTED})


class HoldNews:
    def __init__(self, announce: PublishPort) -> None:
        self._publish = announce

    async def tell(self, movements: Sequence[Movement], offers: dict[int, OfferFacts]) -> None:
        """Tell what these movements mean to their buyers; failures are counted, not raised."""
        told = [one for one in movements if one.kind in _TOLD]
        for start in range(0, len(told), ANNOUNCING_MAX):
            part = told[start : start + ANNOUNCING_MAX]
            await asyncio.gather(*(self._tell_one(one, offers) for one in part))

    async def _tell_one(self, one: Movement, offers: dict[int, OfferFacts]) -> None:
        if any(line.slot not in offers for line in one.lines):
            return  # it was put aside as poison
        event = hold_event(one, offers)
        channel = Channel(ChannelKind.PERSONAL, one.show, one.buyer)
        for left in reversed(range(TRIES_MAX)):
            try:
                await self._publish(channel, event, key=f"{event.type}:{one.seq}")
                return
            except Exception as error:
                # another package's code. The event is a courtesy (the client knows its deadline),
                # so it must not hold up settlement; with Redis away the ACK fails as well, and the
                # entry comes back.
                if not left:
                    metrics.FAILURES.labels("announce").inc()
                    hold = key_text(one.key)
                    tell_fault("hold.untold", error, show=one.show, hold=hold, seq=one.seq)


def hold_event(one: Movement, offers: dict[int, OfferFacts]) -> HoldEvent:
    """What the buyer is told of an expired or granted hold."""
    expired = one.kind is MovementKind.EXPIRED
    items = tuple(
        HoldItem(offers[line.slot].id, line.qty, offers[line.slot].price_minor)
        for line in one.lines
    )
    view = HoldView(
        hold=key_text(one.key),
        items=items,
        currency=offers[one.lines[0].slot].currency,
        state=HoldState.EXPIRED if expired else HoldState.HELD,
        expires_at=one.expires_at or one.at,
    )
    return HoldEvent(type="hold.expired" if expired else "hold.granted", at=one.at, hold=view)
