"""Tokens: who is calling, proven by a signature.

Always: the algorithm decides which key is tried, never the token's other headers - HS256 means our
secrets, RS256 and ES256 mean a key of the configured key set, anything else is refused - so no
public key is ever used as a shared secret. A token lives 12 hours at most, whatever its `exp`
says, and less where it or its owner was logged out (revoked.py). A key set makes no services: who
can change claims at an identity provider does not thereby own the shop.
`caller` never blocks: keys of a key set are fetched by `refresh` in a thread.

InvalidToken (101)   wrong in a way that repeating does not mend
ExpiredToken (109)   was valid: the client fetches a new one
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from secrets import token_urlsafe
from typing import Annotated, Final, Protocol

import jwt
import msgspec
import structlog
from msgspec import Meta

from live.aio.tasks import Tasks
from live.base.errors import Busy, CallError
from live.base.settings import Guests, split_secrets
from live.domain.caller import ALL_SHOWS, Caller, Role
from live.domain.ids import BuyerId, buyer_of, is_id, is_sub, new_guest_sub

log = structlog.get_logger()

AUDIENCE = "live"
SESSION_AUDIENCE = "live-session"  # a console's cookie; of no use as a bearer token
TOKEN_BYTES_MAX = 4_096
TOKEN_LIFE_MAX_SECONDS = 12 * 3_600
CLOCK_SKEW_SECONDS = 60  # of an issuer whose clock is ahead of ours: for `iat` and `nbf` alike
SESSION_IDLE_SECONDS = 1_800  # a console that asks for nothing for so long has to log in again
GUEST_RETURN_SECONDS = 30 * 86_400  # a guest who comes back later is another one
SHOWS_PER_TOKEN_MAX = 100
KEY_SET_LIFE_SECONDS = 300
KEY_SET_RETRY_SECONDS = 10  # unknown key ids cannot make us fetch more often than this
KEY_SET_TIMEOUT_SECONDS = 5

_KEY_SET_ALGORITHMS: Final = ("RS256", "ES256")
# What else a key may sign (log-out tokens, proofs of possession) has types of its own.
_TYPES: Final = ("", "jwt", "at+jwt", "application/at+jwt")
_TIME_MAX = 2**40  # far beyond any life, and safe in every sum
_NAME_CHARS_MAX = 255
_NAMES_BYTES_MAX = 1_024  # what a session has beside the claims of the token it was made from


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
    nbf: Annotated[float, Meta(le=_TIME_MAX)] = 0
    jti: Annotated[str, Meta(max_length=_NAME_CHARS_MAX)] = ""
    # Of a console's session alone: when its log-in ends, and the token that it was made from.
    end: Annotated[int, Meta(ge=0, le=_TIME_MAX)] = 0
    parent: Annotated[str, Meta(max_length=_NAME_CHARS_MAX)] = ""


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """What a console's cookie says; unless it is renewed it ends at `idle_at`, Unix seconds."""

    caller: Caller
    idle_at: int


class Revocations(Protocol):
    """Who was logged out."""

    def limit(self, caller: Caller) -> Caller | None:
        """The caller with what is left of their rights; None where the token counts no more."""
        ...

    def logged_out_at(self, buyer: BuyerId) -> int:
        """The latest second whose tokens of this person do not count, 0 for none."""
        ...


class _Nobody:
    """Of a command that makes tokens and checks none."""

    def limit(self, caller: Caller) -> Caller | None:
        return caller

    def logged_out_at(self, buyer: BuyerId) -> int:
        return 0


class Authenticator:
    """Checks tokens and makes them.

    `secret`: as LIVE_SECRET has it. `digest_key`: keys the names of buyers, by default the last
    secret. `issuer`: the only `iss` whose tokens a key of the key set may have signed.
    """

    def __init__(
        self,
        secret: str,
        *,
        guests: Guests,
        digest_key: str | None = None,
        jwks_url: str | None = None,
        issuer: str | None = None,
        revoked: Revocations | None = None,
    ) -> None:
        secrets = split_secrets(secret)
        self._secrets = tuple(one.encode() for one in secrets)
        self._digest_key = digest_key or secrets[-1]
        self._issuer = issuer
        self._revoked = revoked or _Nobody()
        self._guests = guests
        self._key_set = None if jwks_url is None else _client(jwks_url)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = -float("inf")  # monotonic seconds; of the last try, good or bad
        self._tasks = Tasks()
        self._fetching: asyncio.Task[None] | None = None

    def caller(self, token: str) -> Caller:
        """Verify a token; "" is a viewer without one.

        Raises InvalidToken, ExpiredToken, and Busy while the keys of a key set are fetched.
        """
        if not token:
            return self._anonymous()
        claims = self._claims(token, AUDIENCE)
        if claims.guest and self._guests is Guests.OFF:
            raise InvalidToken("this server does not take guests")
        return self._caller(claims, token)

    async def caller_soon(self, token: str) -> Caller:
        """Like `caller`, but waits for a key that is not known yet."""
        try:
            return self.caller(token)
        except Busy:
            if self._fetching is None:
                raise
            await self._fetching
        return self.caller(token)

    def session(self, cookie: str) -> ConsoleSession:
        """Verify a console's cookie. Raises InvalidToken, and ExpiredToken for an idle one."""
        claims = self._claims(cookie, SESSION_AUDIENCE)
        if not claims.end:
            raise InvalidToken("a session says when its log-in ends")
        caller = replace(self._caller(claims, cookie), expires_at=claims.end)
        return ConsoleSession(caller, claims.exp)

    def _caller(self, claims: Claims, token: str) -> Caller:
        caller = self._revoked.limit(
            Caller(
                sub=claims.sub,
                buyer=buyer_of(claims.sub, secret=self._digest_key),
                role=claims.role,
                shows=frozenset(claims.shows),
                expires_at=claims.exp,
                guest=claims.guest,
                issued_at=claims.iat,
                token=claims.jti or _digest(token),
                parent=claims.parent,
            )
        )
        if caller is None:
            raise InvalidToken("this token was logged out")
        return caller

    def mint(
        self,
        *,
        role: Role,
        sub: str,
        shows: Iterable[str],
        ttl: int,
        guest: bool = False,
    ) -> str:
        """Sign a token. Raises ValueError for a name, show or life that `caller` would refuse."""
        names = sorted(set(shows))
        if not is_sub(sub) or not all(map(_is_show, names)):
            raise ValueError("sub has 1-255 bytes; shows are ids or *")
        if not 0 < ttl <= TOKEN_LIFE_MAX_SECONDS:
            raise ValueError(f"a token lives 1-{TOKEN_LIFE_MAX_SECONDS} seconds")
        # Who was logged out in this very second may come back in it.
        logged_out_at = self._revoked.logged_out_at(buyer_of(sub, secret=self._digest_key))
        now = max(int(time.time()), logged_out_at + 1)
        claims: dict[str, object] = {
            "aud": AUDIENCE,
            "jti": token_urlsafe(12),
            "sub": sub,
            "role": role.value,
            "shows": names,
            "iat": now,
            "exp": now + ttl,
        }
        if guest:
            claims["guest"] = True
        token = self._sign(claims)
        if len(token) > TOKEN_BYTES_MAX:
            raise ValueError(f"too many shows: a token has {TOKEN_BYTES_MAX} bytes at most")
        return token

    def sign_session(self, caller: Caller, *, name: str, parent: str, end: int) -> str:
        """Make a console's cookie that lives until it is idle, at the longest until `end`.

        Without a bound of its own for bytes: it is as long as the token it was made from, and a
        few names.
        """
        return self._sign(
            {
                "aud": SESSION_AUDIENCE,
                "jti": name,
                "parent": parent,
                "sub": caller.sub,
                "role": caller.role.value,
                "shows": sorted(caller.shows),
                "iat": caller.issued_at,
                "exp": min(end, int(time.time()) + SESSION_IDLE_SECONDS),
                "end": end,
            }
        )

    def _sign(self, claims: dict[str, object]) -> str:
        return jwt.encode(claims, self._secrets[0], algorithm="HS256")

    def returning_guest(self, token: str) -> str | None:
        """The name of a guest who may keep it: whose token counts, or ended not long ago."""
        try:
            claims = self._claims(token, AUDIENCE, late_seconds=GUEST_RETURN_SECONDS)
            caller = self._caller(claims, token)
        except CallError:
            return None  # a stranger's, a broken or an old one, or logged out: a new guest comes
        return caller.sub if caller.guest else None

    def guest_sub(self, network: str | None) -> str:
        """A new guest's name; `network`: the range of addresses that they share a bound with."""
        return new_guest_sub(network, secret=self._digest_key)

    async def refresh(self) -> None:
        """Fetch the key set now, as a gateway does before it takes traffic."""
        if self._key_set is not None:
            await self._fetch()

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

    def _claims(self, token: str, audience: str, *, late_seconds: int = 0) -> Claims:
        """`late_seconds`: how long ago the token may have ended."""
        if len(token) > TOKEN_BYTES_MAX + (audience == SESSION_AUDIENCE) * _NAMES_BYTES_MAX:
            raise InvalidToken(f"a token has {TOKEN_BYTES_MAX} bytes at most")
        try:
            header = jwt.get_unverified_header(token)
            if str(header.get("typ") or "").lower() not in _TYPES:
                raise InvalidToken("the token is of another type")
            ours = header.get("alg") == "HS256"
            if not ours and audience != AUDIENCE:
                raise InvalidToken("a console's session is of our own making")
            payload = (
                self._decode_ours(token, audience, late_seconds)
                if ours
                else self._decode(token, header)
            )
            claims = msgspec.convert(payload, Claims)
            if not ours and claims.role is Role.SERVICE:
                raise InvalidToken("a key set gives no services: they have tokens of our own")
        except jwt.ExpiredSignatureError:
            raise ExpiredToken("the token has expired") from None
        # Overflow: JSON knows 1e999, which PyJWT hands to int(). Recursion: a nest of brackets.
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidToken(f"the token is not valid: {_reason(error)}") from None
        _check(claims)
        return claims

    def _decode_ours(self, token: str, audience: str, late_seconds: int) -> dict[str, object]:
        """Verify with the first of our secrets that fits. Raises PyJWTError."""
        for secret in self._secrets[:-1]:
            try:
                return _verify(token, secret, "HS256", audience, late_seconds=late_seconds)
            except jwt.InvalidSignatureError:
                continue
        return _verify(token, self._secrets[-1], "HS256", audience, late_seconds=late_seconds)

    def _decode(self, token: str, header: dict[str, object]) -> dict[str, object]:
        key, algorithm = self._key(header)
        return _verify(token, key, algorithm, AUDIENCE, issuer=self._issuer)

    def _key(self, header: dict[str, object]) -> tuple[jwt.PyJWK, str]:
        algorithm = header.get("alg")
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
            self._fetching = self._tasks.start("key_set", self._fetch())

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


def _verify(
    token: str,
    key: bytes | jwt.PyJWK,
    algorithm: str,
    audience: str,
    issuer: str | None = None,
    late_seconds: int = 0,
) -> dict[str, object]:
    found: dict[str, object] = jwt.decode(
        token,
        key,
        algorithms=[algorithm],
        audience=audience,
        issuer=issuer,
        leeway=late_seconds,  # for `exp` alone: the other times are checked in `_check`
        options={
            "require": ["exp", "iat", "sub", "aud"],
            "verify_iat": False,  # both with one tolerance, in `_check`
            "verify_nbf": False,
        },
    )
    return found


def _digest(token: str) -> str:
    """The name of a token that has none."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def _check(claims: Claims) -> None:
    """What a signature does not tell: sane names and a bounded life."""
    if not is_sub(claims.sub):
        raise InvalidToken("sub has 1-255 bytes without control characters")
    if not all(map(_is_show, claims.shows)):
        raise InvalidToken("shows are ids, or *")
    if max(claims.iat, claims.nbf) > time.time() + CLOCK_SKEW_SECONDS:
        raise InvalidToken("iat or nbf lies in the future")
    # PyJWT takes any exp; a token for a hundred years is a password that nobody can change.
    if claims.exp - claims.iat > TOKEN_LIFE_MAX_SECONDS:
        raise InvalidToken(f"a token lives {TOKEN_LIFE_MAX_SECONDS} seconds at most")


def _is_show(name: str) -> bool:
    return name == ALL_SHOWS or is_id(name)


def _reason(error: Exception) -> str:
    """The kind of fault only: texts of the libraries may quote the token."""
    return type(error).__name__
