"""Whether what the shop itself runs can be reached: its checkout, and its payment service."""

import socket
from urllib.parse import urlsplit
from uuid import uuid4

from live.base.errors import EngineError, reason_of
from live.domain.payment import PaymentId, PaymentState
from live.payments.providers.http import HttpProvider

ANSWER_SECONDS = 3.0


def check_checkout(url: str) -> str:
    """Whether somebody listens where buyers are sent; which server that is. Raises EngineError."""
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.hostname}"
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{place}: {reason_of(error)}",
            fix="see that LIVE_CHECKOUT_URL is where buyers find the shop's checkout",
        ) from error
    return place


async def check_provider(url: str, secrets: tuple[str, ...]) -> None:
    """Asked for a payment that nobody ever made, it says that it never heard of it, which it can
    only if it believes our signature. Raises EngineError."""
    provider = HttpProvider(url, secrets=secrets, timeout_seconds=ANSWER_SECONDS)
    try:
        said = await provider.look_up(PaymentId(str(uuid4())), None)
    finally:
        await provider.close()
    if said.state is not PaymentState.CREATED:
        raise EngineError(
            f"{url}: no usable answer",
            fix="it must answer /look_up with 200 and the state created, and know"
            " LIVE_PROVIDER_SECRET",
        )
