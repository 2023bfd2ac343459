"""One call to a shop's server: a deadline, a bound on what is read, and nothing followed.

Always: a call ends within TIMEOUT_SECONDS, whatever the other side does; of an answer ANSWER_BYTES
are read, unpacked never; no redirect, no cookie, no proxy of the environment.
Runs on: the event loop; `close` ends it.
"""

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp

from live.domain.outgoing.webhooks import ANSWER_CHARS_MAX
from live.outgoing.guard import GuardedResolver, RefusedAddress, guarded_connector
from live.outgoing.ports import Receipt

TIMEOUT_SECONDS = 20.0  # of 15 to 30 that Standard Webhooks advises
ANSWER_SECONDS = 2.0  # for what stands behind the status, which is what counts
ANSWER_BYTES = 4 * ANSWER_CHARS_MAX


class WebhookClient:
    """`trust`: certificates to believe; None: those of the machine."""

    def __init__(
        self,
        *,
        development: bool,
        trust: ssl.SSLContext | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._development = development
        self._trust = trust
        self._timeout_seconds = timeout_seconds
        self._resolver: GuardedResolver | None = None
        self._session: aiohttp.ClientSession | None = None  # made by the first call: needs a loop

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._resolver is not None:
            await self._resolver.close()
        self._session = self._resolver = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Receipt:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange(url, headers, body)
        except TimeoutError:
            return Receipt(None, f"no answer in {self._timeout_seconds:g} s")
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return Receipt(None, _why(error))

    async def _exchange(self, url: str, headers: Mapping[str, str], body: bytes) -> Receipt:
        async with self._open().post(
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            ssl=True if self._trust is None else self._trust,
        ) as response:
            answer = await _read(response)
            return Receipt(response.status, answer, response.headers.get("Retry-After", ""))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._resolver = GuardedResolver(development=self._development)
            self._session = aiohttp.ClientSession(
                connector=guarded_connector(development=self._development, resolver=self._resolver),
                timeout=aiohttp.ClientTimeout(total=None),  # ours bounds the whole call
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> str:
    """The beginning of the answer; a connection with more of it behind that is not kept."""
    body = bytearray()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while len(body) < ANSWER_BYTES:
                part = await response.content.read(ANSWER_BYTES - len(body))
                if not part:
                    return _text(bytes(body))
                body += part
    except (TimeoutError, OSError, aiohttp.ClientError):
        pass  # the status came, and says it all
    response.close()
    return _text(bytes(body))


def _text(body: bytes) -> str:
    """For people: Postgres takes no NUL, and a terminal no other control character."""
    text = body.decode(errors="replace")[:ANSWER_CHARS_MAX]
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)


def _why(error: BaseException) -> str:
    """In words of ours where an address was refused: they stand in the shop's own log."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RefusedAddress):
            return f"refused: {cause}"
        cause = getattr(cause, "os_error", None) or cause.__cause__ or cause.__context__
    return _text(f"no answer: {error or type(error).__name__}".encode())
