"""Endpoints of a shop and what is delivered to them: the objects of the public contract."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

ENDPOINTS_MAX: Final = 100  # each may have a connection of its own at any time
TYPES_MAX: Final = 50  # words of one endpoint
SHOWS_MAX: Final = 200  # of one endpoint
ANSWER_CHARS_MAX: Final = 1_024  # of an answer, kept for whoever looks
ATTEMPTS_MAX: Final = 20  # kept of one delivery; replays may make more
DATA_BYTES_MAX: Final = 16_384  # so that with contact and envelope a body has less than 20,000
BODY_BYTES_MAX: Final = 20_000  # of Standard Webhooks


class WebhookFormat(StrEnum):
    """`standard`: {type, timestamp, data}. `cloudevents`: CloudEvents 1.0, structured mode."""

    STANDARD = "standard"
    CLOUDEVENTS = "cloudevents"


class EndpointState(StrEnum):
    """`paused` by the shop: events gather. `disabled` by us: none do until it is active again."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    """due -> delivered, or dead after the last try; a replay makes it due again."""

    DUE = "due"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointView:
    """The `endpoint` object. `shows` empty: all, and what is of no show. `reason`: why it is
    disabled, else ""; `failing_since` Unix ms: since then no answer was good."""

    webhook: str
    url: str
    types: tuple[str, ...]
    shows: tuple[str, ...]
    format: WebhookFormat
    contact: bool
    state: EndpointState
    reason: str
    failing_since: int | None
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """`status` null: no answer came, and `answer` says why."""

    at: int
    status: int | None
    ms: int
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """The `delivery` object. `event` is the `webhook-id`; `next_at` null where none follows."""

    delivery: str
    webhook: str
    event: str
    type: str
    state: DeliveryState
    attempts: tuple[AttemptView, ...]
    next_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayView:
    """How many `deliveries` a replay makes, or makes due; `more`: there are more than were counted.
    They wait until the endpoint's `state` is active."""

    deliveries: int
    more: bool
    state: EndpointState


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An event for whoever polls: what a webhook carries, under the id that it goes by there.

    Any: `data` is one of several objects of the contract, by `type`.
    """

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]


def name_event(event: int, at_us: int) -> str:
    """The `webhook-id` of an event.

    With the time of its row, so that a ledger which was restored from a copy and goes on counting
    from there gives no name a second time.
    """
    return f"evt_{event}_{at_us:x}"


def name_test(delivery: int, at_us: int) -> str:
    """The same for a test, which is no event."""
    return f"test_{delivery}_{at_us:x}"
