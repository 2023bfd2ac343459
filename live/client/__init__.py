"""A client of this service, and of any server of the Centrifuge client protocol.

`Client` is what an asyncio program uses; `live.client.green.GreenClient` is the same for gevent,
and `ClientCore` the protocol alone, for whoever brings a socket of another kind. They stay
connected as the official SDKs do: pauses that grow and vary, codes after which nobody returns,
tokens that are renewed, and positions from which what was missed is told after a reconnect.
"""

from live.client.aio import Client
from live.client.core import ClientCore
from live.client.events import (
    CallFailed,
    ClientError,
    Connected,
    Disconnected,
    Gone,
    NoAnswer,
    Published,
    Subscribed,
    SubscriptionEnded,
)

__all__ = [
    "CallFailed",
    "Client",
    "ClientCore",
    "ClientError",
    "Connected",
    "Disconnected",
    "Gone",
    "NoAnswer",
    "Published",
    "Subscribed",
    "SubscriptionEnded",
]
