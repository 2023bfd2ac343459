"""Tokens: what is accepted, and every way of forging one that is not."""

import base64
import json
import time
from typing import Any

import jwt
import pytest

from live.api.auth import (
    SESSION_AUDIENCE,
    TOKEN_BYTES_MAX,
    TOKEN_LIFE_MAX_SECONDS,
    Authenticator,
    ExpiredToken,
    InvalidToken,
)
from live.base.settings import Guests
from live.domain.caller import Role
from live.domain.ids import buyer_of

SECRET = "a secret of more than sixteen bytes"


def authenticator(guests: Guests = Guests.WATCH) -> Authenticator:
    return Authenticator(SECRET, guests=guests)


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    whole: dict[str, object] = {
        "aud": "live",
        "sub": "ada",
        "role": "host",
        "shows": ["demo"],
        "iat": now,
        "exp": now + 60,
    }
    return {name: value for name, value in (whole | changes).items() if value is not ...}


def signed(payload: dict[str, object], *, key: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(payload, key, algorithm=algorithm)


def handmade(header: dict[str, object], payload: bytes) -> str:
    """A token that no library would write, with a true HS256 signature."""
    parts = [json.dumps(header).encode(), payload]
    text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    mac = jwt.get_algorithm_by_name("HS256").sign(text.encode(), SECRET.encode())
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def test_minted_token_gives_its_caller_back() -> None:
    """What `mint` writes, `caller` reads; the buyer is the keyed digest of the name."""
    auth = authenticator()

    caller = auth.caller(auth.mint(role=Role.HOST, sub="ada", shows=["demo"], ttl=60))

    assert (caller.sub, caller.role, caller.shows) == ("ada", Role.HOST, frozenset({"demo"}))
    assert caller.buyer == buyer_of("ada", secret=SECRET)
    assert caller.expires_at is not None and 0 < caller.expires_at - time.time() <= 60


@pytest.mark.parametrize("missing", ["exp", "iat", "sub", "aud", "role", "shows"])
def test_token_without_a_claim_is_invalid(missing: str) -> None:
    """Nothing is assumed for a claim that is not there."""
    with pytest.raises(InvalidToken):
        authenticator().caller(signed(claims(**{missing: ...})))


WRONG: list[dict[str, Any]] = [
    {"aud": "other"},
    {"aud": SESSION_AUDIENCE},
    {"role": "admin"},
    {"role": ["host"]},
    {"shows": "demo"},
    {"shows": ["a b"]},
    {"shows": ["x"] * 101},
    {"sub": ""},
    {"sub": "a\nb"},
    {"sub": "x" * 256},
    {"iat": True},
    {"exp": "soon"},
    {"exp": 10**400},
    {"iat": int(time.time()) + 600, "exp": int(time.time()) + 700},
    {"nbf": int(time.time()) + 600},
    {"exp": int(time.time()) + TOKEN_LIFE_MAX_SECONDS + 5, "iat": int(time.time())},
    {"guest": "yes"},
]


@pytest.mark.parametrize(
    "changes", WRONG, ids=[f"{n}-{next(iter(c))}" for n, c in enumerate(WRONG)]
)
def test_token_with_a_wrong_claim_is_invalid(changes: dict[str, Any]) -> None:
    """A true signature under a wrong claim is no proof."""
    with pytest.raises(InvalidToken):
        authenticator().caller(signed(claims(**changes)))


def test_longest_allowed_life_is_accepted_and_a_second_more_is_not() -> None:
    """Both sides of the bound on `exp - iat`."""
    now = int(time.time())
    at_most = claims(iat=now, exp=now + TOKEN_LIFE_MAX_SECONDS)
    too_long = claims(iat=now, exp=now + TOKEN_LIFE_MAX_SECONDS + 1)

    assert authenticator().caller(signed(at_most)).sub == "ada"
    with pytest.raises(InvalidToken):
        authenticator().caller(signed(too_long))


def test_expired_token_is_told_apart() -> None:
    """The client of an expired token fetches a new one; code 109 tells it so."""
    now = int(time.time())

    with pytest.raises(ExpiredToken) as caught:
        authenticator().caller(signed(claims(iat=now - 100, exp=now - 1)))

    assert caught.value.code == 109


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_other_algorithm_with_our_own_key_is_invalid(algorithm: str) -> None:
    """The list of algorithms is ours, not the token's."""
    key = "k" * 64
    auth = Authenticator(key, guests=Guests.OFF)

    with pytest.raises(InvalidToken):
        auth.caller(signed(claims(), key=key, algorithm=algorithm))


def test_unsigned_token_is_invalid() -> None:
    """`alg: none` is refused before anything is read from the token."""
    with pytest.raises(InvalidToken):
        authenticator().caller(jwt.encode(claims(), "", algorithm="none"))


def test_token_of_another_secret_is_invalid() -> None:
    """The signature counts."""
    with pytest.raises(InvalidToken):
        authenticator().caller(signed(claims(), key="another secret, and as long as ours"))


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b.c",
        "é.é.é",
        "." * 10,
        "x" * (TOKEN_BYTES_MAX + 1),
        handmade({"alg": "HS256"}, b'{"exp": 1e999, "iat": 1, "sub": "a", "aud": "live"}'),
        handmade({"alg": "HS256"}, b"[" * 2_000),
        handmade({"alg": "HS256"}, b"\xff"),
        handmade({"alg": "HS256"}, b"[]"),
        handmade({"alg": ["HS256"]}, b"{}"),
        handmade({"alg": "HS256", "crit": ["x"]}, json.dumps(claims()).encode()),
    ],
    ids=lambda token: token[:12],
)
def test_broken_token_is_invalid_and_nothing_else(token: str) -> None:
    """No text that a client sends makes the check itself fail."""
    with pytest.raises(InvalidToken):
        authenticator().caller(token)


def test_refusal_does_not_quote_the_token() -> None:
    """Error texts go to clients and logs."""
    token = signed(claims(aud="other"))

    with pytest.raises(InvalidToken) as caught:
        authenticator().caller(token)

    assert token.split(".")[1] not in str(caught.value) and caught.value.__cause__ is None


def test_session_token_and_bearer_token_are_no_substitutes() -> None:
    """Each audience takes its own tokens only."""
    auth = authenticator()
    bearer = auth.mint(role=Role.HOST, sub="ada", shows=["demo"], ttl=60)
    caller = auth.caller(bearer)
    assert caller.expires_at is not None
    session = auth.sign_session(caller, name="s", parent=caller.token, end=caller.expires_at)

    assert auth.session(session).caller.sub == "ada"
    with pytest.raises(InvalidToken):
        auth.caller(session)
    with pytest.raises(InvalidToken):
        auth.session(bearer)


def test_viewer_without_token_is_anonymous_where_guests_may_watch() -> None:
    """No name, no buyer: they can watch and nothing else."""
    caller = authenticator(Guests.WATCH).caller("")

    assert (caller.sub, caller.buyer, caller.role, caller.guest) == ("", None, Role.VIEWER, True)


def test_guests_are_refused_where_they_are_off() -> None:
    """Neither without a token nor with a guest's token from before."""
    token = authenticator().mint(role=Role.VIEWER, sub="guest-1", shows=["*"], ttl=60, guest=True)
    auth = authenticator(Guests.OFF)

    for refused in ("", token):
        with pytest.raises(InvalidToken):
            auth.caller(refused)
    assert authenticator(Guests.BUY).caller(token).guest


@pytest.mark.parametrize(
    ("sub", "shows", "ttl"),
    [("", ["demo"], 60), ("ada", ["a b"], 60), ("ada", [], 0), ("ada", [], 12 * 3600 + 1)],
)
def test_mint_refuses_what_would_not_be_accepted(sub: str, shows: list[str], ttl: int) -> None:
    """A token that `caller` refuses is never given away."""
    with pytest.raises(ValueError):
        authenticator().mint(role=Role.VIEWER, sub=sub, shows=shows, ttl=ttl)


def test_minted_tokens_stay_under_the_length_that_is_accepted() -> None:
    """A hundred long show names still fit, or are refused when made."""
    auth = authenticator()
    shows = [f"{number:03}-{'x' * 60}" for number in range(100)]

    with pytest.raises(ValueError):
        auth.mint(role=Role.HOST, sub="ada", shows=shows, ttl=60)
