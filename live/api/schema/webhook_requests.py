"""Requests about webhooks: where events go, and having them once more."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from live.api.schema.fields import Body, Id, TimeMs
from live.domain.outgoing.receivers import URL_CHARS_MAX
from live.domain.outgoing.webhooks import SHOWS_MAX, TYPES_MAX
from live.ledger.events.delivery_log import REPEATED_MAX

_END = r"(?![\s\S])"

DeliveryId = Annotated[str, Meta(pattern=rf"^[0-9]{{1,18}}{_END}")]
EventWord = Annotated[
    str,
    Meta(
        pattern=rf"^(\*|[a-z]+\.(\*|[a-z_]+)){_END}",
        max_length=64,
        description="a type, `order.*` or `*`",
    ),
]
EventWords = Annotated[list[EventWord], Meta(min_length=1, max_length=TYPES_MAX)]
ReceiverUrl = Annotated[str, Meta(min_length=1, max_length=URL_CHARS_MAX, description="https://")]
ReceiverShows = Annotated[
    list[Id], Meta(max_length=SHOWS_MAX, description="empty: all, and what is of no show")
]


class WebhookBody(Body, frozen=True, kw_only=True):
    """`shows` left out: all that the token covers. `contact`: orders with name and address."""

    url: ReceiverUrl
    types: EventWords
    shows: ReceiverShows | UnsetType = UNSET
    format: Literal["standard", "cloudevents"] = "standard"
    contact: bool = False


class WebhookPatchBody(Body, frozen=True, kw_only=True):
    """What is named changes; `state` active also for one that was disabled."""

    url: ReceiverUrl | UnsetType = UNSET
    types: EventWords | UnsetType = UNSET
    shows: ReceiverShows | UnsetType = UNSET
    format: Literal["standard", "cloudevents"] | UnsetType = UNSET
    contact: bool | UnsetType = UNSET
    state: Literal["active", "paused"] | UnsetType = UNSET


class ReplayBody(Body, frozen=True, kw_only=True):
    """Either `deliveries`, whatever became of them, or the events of a span of time."""

    since: TimeMs | UnsetType = field(default=UNSET, name="from")
    until: TimeMs | UnsetType = field(default=UNSET, name="to")
    types: EventWords | UnsetType = UNSET
    deliveries: (
        Annotated[list[DeliveryId], Meta(min_length=1, max_length=REPEATED_MAX)] | UnsetType
    ) = UNSET
