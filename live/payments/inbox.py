"""Where providers' webhooks come in: verified, remembered once, and turned into work.

Always: an event is believed only after its provider has verified the signature, and changes no
state itself: its payment becomes due, or its refunds do, and the payment worker asks the provider
what is true now. So late, doubled and reordered events all end in the same state. 200 is answered
only when the event's id is in Postgres; a repeat of it is 200 too, and so is what is signed and
none of ours, or the provider would switch us off.
"""

from collections.abc import Mapping
from typing import Protocol

from live.base.errors import NotFound
from live.base.seldom import Seldom
from live.domain.payment import PaymentId
from live.payments.metrics import EVENTS
from live.payments.port import Provider, WebhookRefused


class Events(Protocol):
    """The ledger's payment rows. `note_event` gives False for an event that was known."""

    async def note_event(
        self,
        provider: str,
        event: str,
        *,
        kind: str,
        payment: PaymentId | None,
        ref: str | None,
        authorised: bool = False,
        refund: bool = False,
    ) -> bool: ...


class WebhookInbox:
    def __init__(self, providers: Mapping[str, Provider], events: Events) -> None:
        self._providers = providers
        self._events = events
        # Of each reason: rubbish that anybody may send must not hide a secret that went wrong.
        self._refused: dict[tuple[str, str], Seldom] = {}

    async def take(self, name: str, headers: Mapping[str, str], body: bytes) -> None:
        """Take one call in; `headers` has lower-case names.

        Raises NotFound for an unknown provider, WebhookRefused (its `status` and `code` are the
        HTTP answer) for what we do not believe, and what Postgres raises: the answer is 5xx then,
        so the provider sends it again.
        """
        provider = self._providers.get(name)
        if provider is None:
            raise NotFound(f"unknown payment provider {name}")
        try:
            events = provider.parse_webhook(headers, body)
        except WebhookRefused as refused:
            EVENTS.labels(name, refused.code).inc()
            told = self._refused.setdefault((name, refused.code), Seldom("webhook.refused"))
            told.warn(provider=name, code=refused.code)
            raise
        for event in events:
            if event.payment is None and event.ref is None:
                EVENTS.labels(name, "foreign").inc()
                continue
            fresh = await self._events.note_event(
                name,
                event.id,
                kind=event.kind,
                payment=event.payment,
                ref=event.ref,
                authorised=event.authorised,
                refund=event.refund,
            )
            EVENTS.labels(name, "new" if fresh else "repeat").inc()
