"""What gateway and settler have in common: payment providers, and how parts open and close."""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

from live.base.settings import Settings, resolve_secret, split_secrets
from live.domain.payment import OWN_BOOKS
from live.payments.breaker import GuardedProvider
from live.payments.port import Provider
from live.payments.providers.external import External, PaymentTruth
from live.payments.providers.http import HttpProvider
from live.payments.providers.invoice import Invoice
from live.payments.providers.sandbox import SandboxProvider


def providers_of(settings: Settings, payments: PaymentTruth) -> dict[str, Provider]:
    """Clients of all providers that these settings configure, each behind its breaker.

    `payments`: the ledger's rows, which are the only books of the shop's own checkout.

    Also of those that buyers may no longer choose (`Settings.ways_to_pay`): what was paid through
    them is still captured, refunded and audited.
    """
    found: dict[str, Provider] = {
        "invoice": Invoice(),
        "external": external_of(settings, payments),
    }
    if settings.provider_url is not None:
        found["http"] = HttpProvider(settings.provider_url, secrets=settings.provider_secrets)
    if settings.sandbox_url is not None:
        found["sandbox"] = sandbox_of(settings.sandbox_url, settings.sandbox_key)
    if settings.stripe_key is not None:
        # Here: its library takes a fifth of a worker's start, and most shops of a test have no key.
        from live.payments.providers.stripe import Stripe

        found["stripe"] = Stripe(
            settings.stripe_key,
            webhook_secrets=settings.stripe_webhook_secrets,
            api_base=settings.stripe_api_base,
        )
    return {name: GuardedProvider(provider) for name, provider in found.items()}


def external_of(settings: Settings, payments: PaymentTruth) -> External:
    """Also without an address, for what was paid there before; then nothing is signed."""
    url = settings.checkout_url
    key = "" if url is None else split_secrets(resolve_secret(settings))[0]
    return External(url, key=key, payments=payments)


def sandbox_of(url: str, key: str) -> SandboxProvider:
    """The sandbox's client; `unix:///path` names a socket."""
    path = url.removeprefix("unix://")
    if path != url:
        return SandboxProvider(
            "http://localhost", key=key, uds=path
        )  # a name that servers of ours go by
    return SandboxProvider(url, key=key)


def books_of(providers: Mapping[str, Provider]) -> list[Provider]:
    """Providers that list the charges in books of their own, for the audit to compare."""
    without = {
        *OWN_BOOKS,
        HttpProvider.name,
    }  # which tells of each charge when asked, and lists none
    return [one for one in providers.values() if one.name not in without]


def unread_of(providers: Mapping[str, Provider]) -> dict[str, str]:
    """Providers with books that these settings give no client for, and what would give one."""
    return {name: mend for name, mend in _GIVES_BOOKS.items() if name not in providers}


STRIPE = "stripe"  # `Stripe.name`, without what it imports
_GIVES_BOOKS = {
    SandboxProvider.name: (
        "set LIVE_SANDBOX_URL and LIVE_SANDBOX_KEY, or LIVE_DATA_DIR to where they are"
    ),
    STRIPE: "set LIVE_STRIPE_KEY and LIVE_STRIPE_WEBHOOK_SECRET",
}


class _Part(Protocol):
    async def open(self) -> None: ...
    async def close(self) -> None: ...


async def open_part(stack: AsyncExitStack, part: _Part) -> None:
    """Open a part now and close it, in turn, at the end."""
    await part.open()
    stack.push_async_callback(part.close)


def close_later(stack: AsyncExitStack, providers: Iterable[Provider]) -> None:
    """Pushed first, so providers are closed after everybody who calls them."""
    for provider in providers:
        stack.push_async_callback(provider.close)
