"""Tokens: who is calling, proven by a signature.

Always: the algorithm decides which key is tried, never the token's other headers - HS256 means our
secret, RS256 and ES256 mean a key of the configured key set, anything else is refused - so a public
key is never used as a shared secret. A token lives 12 hours at most, whatever its `exp` says.
`caller` never blocks: keys of a key set are fetched by `refresh` in a thread.

InvalidToken (101)   wrong in a way that repeating does not mend
ExpiredToken (109)   was valid: the client fetches a new one
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Annotated, Final

import jwt
import msgspec
import structlog
from msgspec import Meta

from live.domain.caller import ALL_SHOWS, Caller, Role
from live.domain.ids import buyer_of, is_id, is_sub
from live.errors import Busy, CallError
from live.settings import Guests

log = structlog.get_logger()

AUDIENCE = "live"
SESSION_AUDIENCE = "live-session"  # a console's cookie; of no use as a bearer token
TOKEN_BYTES_MAX = 4_096
TOKEN_LIFE_MAX_SECONDS = 12 * 3_600
CLOCK_SKEW_SECONDS = 60  # an issuer whose clock is ahead of ours
SHOWS_PER_TOKEN_MAX = 100
GUEST_PREFIX = "guest-"
KEY_SET_LIFE_SECONDS = 300
KEY_SET_RETRY_SECONDS = 10  # unknown key ids cannot make us fetch more often than this
KEY_SET_TIMEOUT_SECONDS = 5

_KEY_SET_ALGORITHMS: Final = ("RS256", "ES256")
_TIME_MAX = 2**40  # far beyond any life, and safe in every sum


class InvalidToken(CallError):
    code = 101


class ExpiredToken(CallError):
    code = 109


class Claims(msgspec.Struct, frozen=True):
    """What a token must say. Further claims are the issuer's business."""

    sub: str
    role: Role
    shows: Annotated[list[str], Meta(max_length=SHOWS_PER_TOKEN_MAX)]
    exp: Annotated[int, Meta(ge=0, le=_TIME_MAX)]
    iat: Annotated[int, Meta(ge=0, le=_TIME_MAX)]
    guest: bool = False


class Authenticator:
    """Checks tokens and makes them."""

    def __init__(self, secret: str, *, guests: Guests, jwks_url: str | None = None) -> None:
        self._secret = secret
        self._guests = guests
        self._key_set = None if jwks_url is None else _client(jwks_url)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = -float("inf")  # monotonic seconds; of the last try, good or bad
        self._fetching: asyncio.Task[None] | None = None

    def caller(self, token: str, *, audience: str = AUDIENCE) -> Caller:
        """Verify a token; "" is a viewer without one.

        Raises InvalidToken, ExpiredToken, and Busy while the keys of a key set are fetched.
        """
        if not token:
            return self._anonymous()
        claims = self._claims(token, audience)
        if claims.guest and self._guests is Guests.OFF:
            raise InvalidToken("this server does not take guests")
        return Caller(
            sub=claims.sub,
            buyer=buyer_of(claims.sub, secret=self._secret),
            role=claims.role,
            shows=frozenset(claims.shows),
            expires_at=claims.exp,
            guest=claims.guest,
        )

    async def caller_soon(self, token: str, *, audience: str = AUDIENCE) -> Caller:
        """Like `caller`, but waits for a key that is not known yet."""
        try:
            return self.caller(token, audience=audience)
        except Busy:
            if self._fetching is None:
                raise
            await self._fetching
        return self.caller(token, audience=audience)

    def mint(
        self,
        *,
        role: Role,
        sub: str,
        shows: Iterable[str],
        ttl: int,
        guest: bool = False,
        audience: str = AUDIENCE,
    ) -> str:
        """Sign a token. Raises ValueError for a name, show or life that `caller` would refuse."""
        names = sorted(set(shows))
        if not is_sub(sub) or not all(map(_is_show, names)):
            raise ValueError("sub has 1-255 bytes; shows are ids or *")
        if not 0 < ttl <= TOKEN_LIFE_MAX_SECONDS:
            raise ValueError(f"a token lives 1-{TOKEN_LIFE_MAX_SECONDS} seconds")
        now = int(time.time())
        claims: dict[str, object] = {
            "aud": audience,
            "sub": sub,
            "role": role.value,
            "shows": names,
            "iat": now,
            "exp": now + ttl,
        }
        if guest:
            claims["guest"] = True
        token = jwt.encode(claims, self._secret_key, algorithm="HS256")
        if len(token) > TOKEN_BYTES_MAX:
            raise ValueError(f"too many shows: a token has {TOKEN_BYTES_MAX} bytes at most")
        return token

    async def refresh(self) -> None:
        """Fetch the key set now, as a gateway does before it takes traffic."""
        if self._key_set is not None:
            await self._fetch()

    @property
    def _secret_key(self) -> bytes:
        return self._secret.encode()

    def _anonymous(self) -> Caller:
        if self._guests is Guests.OFF:
            raise InvalidToken("a token is needed")
        return Caller(
            sub="",
            buyer=None,
            role=Role.VIEWER,
            shows=frozenset({ALL_SHOWS}),
            expires_at=None,
            guest=True,
        )

    def _claims(self, token: str, audience: str) -> Claims:
        if len(token) > TOKEN_BYTES_MAX:
            raise InvalidToken(f"a token has {TOKEN_BYTES_MAX} bytes at most")
        try:
            key, algorithm = self._key(jwt.get_unverified_header(token))
            payload = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=audience,
                options={"require": ["exp", "iat", "sub", "aud"], "verify_iat": False},
            )
            claims = msgspec.convert(payload, Claims)
        except jwt.ExpiredSignatureError:
            raise ExpiredToken("the token has expired") from None
        # Overflow: JSON knows 1e999, which PyJWT hands to int(). Recursion: a nest of brackets.
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidToken(f"the token is not valid: {_reason(error)}") from None
        _check(claims)
        return claims

    def _key(self, header: dict[str, object]) -> tuple[bytes | jwt.PyJWK, str]:
        algorithm = header.get("alg")
        if algorithm == "HS256":
            return self._secret_key, "HS256"
        if self._key_set is None or algorithm not in _KEY_SET_ALGORITHMS:
            raise InvalidToken("the token's algorithm is not accepted")
        age = time.monotonic() - self._fetched_at
        key = self._keys.get(str(header.get("kid")))
        if key is None or age > KEY_SET_LIFE_SECONDS:
            self._start_fetch(age)
        if key is None:
            if self._fetching is None:
                raise InvalidToken("the token's key is unknown")
            raise Busy("the keys are being fetched", retry_ms=500)
        if key.algorithm_name != algorithm:
            raise InvalidToken("the token's algorithm is not its key's")
        return key, str(algorithm)

    def _start_fetch(self, age: float) -> None:
        if self._fetching is None and age > KEY_SET_RETRY_SECONDS:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        assert self._key_set is not None, "only called with a key set"
        try:
            keys = await asyncio.to_thread(self._key_set.get_signing_keys, refresh=True)
            # Replaced as a whole: a key that its owner withdrew stops working here, too.
            self._keys = {str(key.key_id): key for key in keys}
        except (jwt.PyJWTError, ValueError) as error:  # ValueError: an answer that is no JSON
            # The old keys stay: an issuer that is down for a minute must not end the show.
            log.warning("key_set_unreachable", error=str(error))
        finally:
            self._fetched_at = time.monotonic()
            self._fetching = None


def _client(url: str) -> jwt.PyJWKClient:
    return jwt.PyJWKClient(url, cache_jwk_set=False, timeout=KEY_SET_TIMEOUT_SECONDS)


def _check(claims: Claims) -> None:
    """What a signature does not tell: sane names and a bounded life."""
    if not is_sub(claims.sub):
        raise InvalidToken("sub has 1-255 bytes without control characters")
    if not all(map(_is_show, claims.shows)):
        raise InvalidToken("shows are ids, or *")
    if claims.iat > time.time() + CLOCK_SKEW_SECONDS:
        raise InvalidToken("iat lies in the future")
    # PyJWT takes any exp; a token for a hundred years is a password that nobody can change.
    if claims.exp - claims.iat > TOKEN_LIFE_MAX_SECONDS:
        raise InvalidToken(f"a token lives {TOKEN_LIFE_MAX_SECONDS} seconds at most")


def _is_show(name: str) -> bool:
    return name == ALL_SHOWS or is_id(name)


def _reason(error: Exception) -> str:
    """The kind of fault only: texts of the libraries may quote the token."""
    return type(error).__name__
