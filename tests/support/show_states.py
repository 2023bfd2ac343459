"""Shows for tests."""

from live.domain.ids import ShowId
from live.domain.show import ShowState, ShowStatus
from tests.support.stock_kit import terms


def make_state(show: ShowId, *, version: int, offers: int = 0) -> ShowState:
    return ShowState(
        id=show,
        title="Evening show",
        status=ShowStatus.LIVE,
        language="en",
        currency="EUR",
        playback_url="",
        pins=(),
        run_order=(),
        announcement=None,
        paid_partnership=False,
        slow_mode_seconds=0,
        frozen=False,
        stock_epoch=1,
        version=version,
        offers=tuple(terms(show, slot) for slot in range(offers)),
    )
