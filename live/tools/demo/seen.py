"""As much of the service's answers and events as a buyer needs; everything else is ignored."""

import msgspec


class OfferSeen(msgspec.Struct, frozen=True):
    id: str = ""
    phase: str = ""
    opens_at: int | None = None
    quantity: int = 0
    left: int = 0
    held: int = 0
    sold: int = 0
    version: int = 0


class HoldSeen(msgspec.Struct, frozen=True):
    hold: str = ""
    expires_at: int = 0


class OrderSeen(msgspec.Struct, frozen=True):
    order: str = ""
    hold: str = ""
    state: str = ""


class EventSeen(msgspec.Struct, frozen=True):
    """A publication; `payment.failed` names its hold by the key alone."""

    type: str = ""
    at: int = 0
    offer: OfferSeen | None = None
    hold: HoldSeen | str | None = None
    order: OrderSeen | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """The key of the hold that this is about; "" where it is about none."""
        if self.order is not None:
            return self.order.hold
        return self.hold.hold if isinstance(self.hold, HoldSeen) else self.hold or ""


class ShowSeen(msgspec.Struct, frozen=True):
    offers: list[OfferSeen] = []


class MeSeen(msgspec.Struct, frozen=True):
    holds: list[HoldSeen] = []


class SnapshotSeen(msgspec.Struct, frozen=True):
    show: ShowSeen | None = None
    me: MeSeen | None = None


class AnswerSeen(msgspec.Struct, frozen=True):
    """The answer of any buying call."""

    outcome: str = ""
    expires_at: int = 0
    position: int = 0
    order: OrderSeen | str | None = None

    @property
    def order_id(self) -> str:
        return self.order.order if isinstance(self.order, OrderSeen) else self.order or ""


read_event = msgspec.json.Decoder(EventSeen).decode
read_snapshot = msgspec.json.Decoder(SnapshotSeen | None).decode
read_answer = msgspec.json.Decoder(AnswerSeen).decode
read_order = msgspec.json.Decoder(OrderSeen).decode
