"""The way out: connections to public addresses alone.

Always: an address is judged where the connection to it is made, whoever named it - a resolver, a
literal, the second answer of a name that meant something else before. A resolver that hangs holds
a thread of this module and no other: what else the process asks of its resolver does not wait.
Called by: aiohttp, for each connection.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast
from urllib.parse import urlsplit

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import AddrInfoType

from live.domain.outgoing.receivers import address_fault
from live.domain.outgoing.webhooks import ENDPOINTS_MAX
from live.outgoing.bounded import BoundedHandler

RESOLVE_SECONDS = 10.0
ASKED_SECONDS = 2.0  # while the maker of an endpoint waits
DNS_KEPT_SECONDS = 30  # what it says is judged once more at each connection


class RefusedAddress(OSError):
    """Nothing is sent there."""


class GuardedResolver(AbstractResolver):
    """The machine's own resolver. Refuses a name of which one address is not public: who owns a
    name that means both wants something of us."""

    def __init__(self, *, development: bool) -> None:
        self._development = development
        self._threads = ThreadPoolExecutor(ENDPOINTS_MAX, thread_name_prefix="webhook-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError: unknown, or refused."""
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._threads, _look_up, host, port, family)
        try:
            found = await asyncio.wait_for(asked, RESOLVE_SECONDS)
        except TimeoutError:
            raise OSError(f"{host}: the resolver does not answer") from None
        for one in found:
            fault = address_fault(one["host"], development=self._development)
            if fault is not None:
                # Which one it is stays untold: whoever may name an endpoint is no operator.
                raise RefusedAddress(f"{host} has an address that is not public")
        return found

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST,
        )
        for kind, _, protocol, _, address in found
    ]


async def name_fault(url: str, *, development: bool) -> str | None:
    """Why nothing is sent to what the name in a URL means at this moment.

    None where it is public, and where it means nothing yet: whoever makes an endpoint may be ahead
    of their name, and each connection is judged again.
    """
    parts = urlsplit(url)
    resolver = GuardedResolver(development=development)
    try:
        async with asyncio.timeout(ASKED_SECONDS):
            await resolver.resolve(parts.hostname or "", parts.port or 443)
    except RefusedAddress as refused:
        return str(refused)
    except (OSError, UnicodeError, TimeoutError):
        return None
    finally:
        await resolver.close()
    return None


def guarded_connector(*, development: bool, resolver: AbstractResolver) -> TCPConnector:
    """Connections of the sender's own bound, so this has none. Called on the loop."""

    def open_socket(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        fault = address_fault(str(address[0]), development=development)
        if fault is not None:
            raise RefusedAddress(fault)
        return socket.socket(family, kind, protocol)

    connector = TCPConnector(
        limit=0,
        resolver=resolver,
        ttl_dns_cache=DNS_KEPT_SECONDS,
        socket_factory=open_socket,
        keepalive_timeout=60.0,
    )
    handler = partial(BoundedHandler, loop=asyncio.get_running_loop())
    connector._factory = cast("partial[ResponseHandler]", handler)
    return connector
