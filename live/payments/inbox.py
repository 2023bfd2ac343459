"""Where providers' webhooks come in: verified, remembered once, and turned into work.

Always: an event is believed only after its provider has verified the signature, and changes no
state itself: its payment becomes due and the payment worker asks the provider what is true now; of
refunds the provider's total is read here. So late, doubled and reordered events all end in the same
state. 200 is answered only when the event's id is in Postgres; a repeat of it is 200 too, and so is
what is signed and none of ours, or the provider would switch us off.
"""

from collections.abc import Mapping
from typing import Protocol

from live.domain.payment import PaymentId, PaymentState
from live.errors import Busy, NotFound
from live.payments.metrics import EVENTS
from live.payments.port import Provider, ProviderEvent, WebhookRefused
from live.seldom import Seldom


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

    async def find_event(
        self, provider: str, *, payment: PaymentId | None, ref: str | None
    ) -> PaymentId | None: ...

    async def record(
        self,
        payment: PaymentId,
        state: PaymentState,
        *,
        ref: str | None = None,
        reason: str = "",
        amount_minor: int | None = None,
    ) -> PaymentState: ...


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
            if event.refund:
                # Before the event is remembered: if this breaks, the provider sends it again.
                await self._sync_refund(provider, event)
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

    async def _sync_refund(self, provider: Provider, event: ProviderEvent) -> None:
        """Take over what the provider has paid back in total. Raises Busy when it does not say."""
        payment = await self._events.find_event(provider.name, payment=event.payment, ref=event.ref)
        if payment is None:
            return
        truth = await provider.look_up(payment, event.ref)
        if truth.state is PaymentState.UNKNOWN:
            raise Busy("the provider does not answer")
        if truth.state not in (PaymentState.PARTIALLY_REFUNDED, PaymentState.REFUNDED):
            return
        await self._events.record(
            payment,
            truth.state,
            ref=truth.ref,
            reason="refunded at the provider",
            amount_minor=truth.refunded_minor,
        )
