"""News of holds that cannot be told: settlement goes on, and the log says whose they were."""

from uuid import UUID

from structlog.testing import capture_logs

from live.domain.channels import Channel
from live.domain.events import Event
from live.domain.hold import Line, Movement, MovementKind
from live.domain.ids import BuyerId, HoldKey, OfferId, ShowId, Sku
from live.ledger.settle.hold_news import HoldNews
from live.ledger.settle.offers_by_slot import OfferFacts

KEY = UUID("11111111-2222-4333-8444-555555555555")


async def test_untold_hold_is_logged_with_its_ids() -> None:
    """The line names show and hold as their buyer knows them."""
    expired = Movement(
        show=ShowId("s"),
        seq=7,
        entry="1-0",
        at=1_700_000_000_000,
        kind=MovementKind.EXPIRED,
        buyer=BuyerId(b"b" * 16),
        key=HoldKey(KEY.bytes),
        lines=(Line(0, 1),),
        expires_at=0,
    )

    async def refuse(channel: Channel, event: Event, *, key: str) -> None:
        raise ConnectionError("no Redis")

    with capture_logs() as lines:
        await HoldNews(refuse).tell(
            [expired], {0: OfferFacts(OfferId("o"), 0, Sku("lamp"), 100, "EUR")}
        )

    (line,) = lines
    assert line["event"] == "hold.untold"
    assert (line["show"], line["hold"]) == ("s", str(KEY))
