"""One delivery on its way: what its sender is given, and what became of a try."""

from dataclasses import dataclass
from datetime import datetime

from live.domain.outgoing.webhooks import DeliveryState, WebhookFormat, name_event, name_test


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDelivery:
    """`event` None: a test. `data` and `contact` are JSON; data None: the event is not kept any
    more. `lease`: by which the result is known as that of this try."""

    delivery: int
    webhook: str
    subject: str
    type: str
    event: int | None
    at_us: int  # Unix microseconds: when the event was true, or the test was asked for
    data: str | None
    contact: str | None
    tries: int  # so many before this one
    ahead: bool  # of its time: a try that is not of the schedule, and changes nothing of it
    throttles: int  # answers of the endpoint that asked for a rest, in a row
    lease: datetime
    url: str
    format: WebhookFormat
    secrets: tuple[str, ...]  # the newest first

    @property
    def name(self) -> str:
        """The `webhook-id`: the same at each try."""
        if self.event is None:
            return name_test(self.delivery, self.at_us)
        return name_event(self.event, self.at_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """What a try led to. `pause_seconds`: until the next one, None where none follows;
    `rest_seconds`: for which the endpoint wants nothing at all; `gone`: it never wants anything;
    `ahead`: it was not of the schedule, which stays as it was; `test`: it was no event."""

    delivery: int
    webhook: str
    subject: str
    lease: datetime
    state: DeliveryState
    at: int
    status: int | None
    ms: int
    answer: str
    pause_seconds: float | None
    rest_seconds: float | None
    gone: bool
    ahead: bool
    test: bool

    @property
    def good(self) -> bool:
        return self.state is DeliveryState.DELIVERED


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: events without a position, deliveries that are not done, and the age in seconds
    of the oldest of those to active endpoints, also of one that waits for its next try;
    `disabled` counts endpoints."""

    events: int
    deliveries: int
    oldest_seconds: float
    disabled: int
