"""Keys that change, clocks that differ, names of every kind: what a token is accepted for."""

import time
from typing import Any

import jwt
import pytest

from live.api.auth import CLOCK_SKEW_SECONDS, Authenticator, InvalidToken
from live.base.errors import SettingsError
from live.base.settings import Guests, Settings, digest_key_of
from live.domain.caller import Role
from live.domain.ids import buyer_of
from tests.support.answers import Json

OLD, NEW, THIRD = (letter * 32 for letter in "ont")


def signed(secret: str, *, headers: Json | None = None, **changes: Any) -> str:
    now = int(time.time())
    claims: dict[str, object] = {"aud": "live", "sub": "ada", "role": "host", "shows": ["demo"]}
    claims |= {"iat": now, "exp": now + 60}
    return jwt.encode(claims | changes, secret, algorithm="HS256", headers=headers)


def auth(secret: str, **more: Any) -> Authenticator:
    return Authenticator(secret, guests=Guests.WATCH, **more)


def test_first_secret_signs_and_both_verify() -> None:
    """While one replaces the other, tokens of both are good and new ones are the new one's."""
    both = auth(f"{NEW},{OLD}")
    made = both.mint(role=Role.HOST, sub="ada", shows=["demo"], ttl=60)

    assert both.caller(signed(OLD)).sub == both.caller(signed(NEW)).sub == "ada"
    assert auth(NEW).caller(made).sub == "ada"
    with pytest.raises(InvalidToken):
        auth(OLD).caller(made)
    with pytest.raises(InvalidToken):
        both.caller(signed(THIRD))


def test_rotation_renames_nobody() -> None:
    """The last secret keys the digests, until a key of their own takes its place."""
    during = Settings.from_env({"LIVE_SECRET": f"{NEW}, {OLD}"})
    after = Settings.from_env({"LIVE_SECRET": NEW, "LIVE_DIGEST_KEY": OLD})

    assert auth(OLD).caller(signed(OLD)).buyer == buyer_of("ada", secret=OLD)
    for settings in (during, after):
        assert settings.secret is not None
        assert digest_key_of(settings, settings.secret) == OLD
        service = auth(settings.secret, digest_key=settings.digest_key)
        assert service.caller(signed(NEW)).buyer == buyer_of("ada", secret=OLD)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("LIVE_SECRET", f"{'n' * 32},short"),
        ("LIVE_SECRET", ",".join(["n" * 32] * 3)),
        ("LIVE_SECRET", f"{'n' * 32},"),
        ("LIVE_DIGEST_KEY", "short"),
        ("LIVE_JWKS_URL", "http://id.shop.example/keys"),
        ("LIVE_ISSUER", "https://id.shop.example"),
    ],
)
def test_keys_that_prove_nothing_are_refused(key: str, value: str) -> None:
    """Short or too many secrets, keys that come over plain http, an issuer without keys."""
    with pytest.raises(SettingsError, match=key) as caught:
        Settings.from_env({key: value})
    assert "n" * 32 not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_keys_of_this_machine_may_come_over_http(host: str) -> None:
    """Nobody is between the two."""
    url = f"http://{host}:9000/keys"
    assert Settings.from_env({"LIVE_JWKS_URL": url}).jwks_url == url


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_clocks_may_differ_by_a_minute(claim: str) -> None:
    """An issuer whose clock is ahead of ours; both times have the same tolerance."""
    now = int(time.time())
    times = {"exp": now + 2 * CLOCK_SKEW_SECONDS + 60}

    late: Json = times | {claim: now + CLOCK_SKEW_SECONDS - 10}
    assert auth(NEW).caller(signed(NEW, **late)).sub == "ada"
    too_late: Json = times | {claim: now + CLOCK_SKEW_SECONDS + 10}
    with pytest.raises(InvalidToken):
        auth(NEW).caller(signed(NEW, **too_late))


@pytest.mark.parametrize(
    "sub",
    [
        "山田\u3000太郎",
        "a\u00a0b",
        "👩\u200d👩\u200d👧",
        "\u200fسلام",
        "a@b.example",
        "ä" * 127,
        "x" * 255,
    ],
)
def test_any_name_of_up_to_255_bytes_is_a_person(sub: str) -> None:
    """The shop's own word: blanks, joiners and marks of every script."""
    service = auth(NEW)
    token = service.mint(role=Role.VIEWER, sub=sub, shows=["demo"], ttl=60)

    assert service.caller(token).sub == sub
    assert service.caller(signed(NEW, sub=sub)).sub == sub


@pytest.mark.parametrize("sub", ["", "ä" * 128, "x" * 256, "a\nb", "a\x00b", "a\x85b", "\ud800"])
def test_what_is_no_name_is_refused(sub: str) -> None:
    """Too long in bytes, or with what neither a row nor a log can hold."""
    with pytest.raises(ValueError):
        auth(NEW).mint(role=Role.VIEWER, sub=sub, shows=["demo"], ttl=60)


@pytest.mark.parametrize(("kind", "good"), [("JWT", True), ("at+jwt", True), ("logout+jwt", False)])
def test_token_of_another_type_is_no_token(kind: str, good: bool) -> None:
    """The same key may sign what says that somebody logged out."""
    token = signed(NEW, headers={"typ": kind})
    if good:
        assert auth(NEW).caller(token).sub == "ada"
    else:
        with pytest.raises(InvalidToken):
            auth(NEW).caller(token)


def test_every_token_has_a_name() -> None:
    """Its own where it has one, else one made of it; two tokens never share one."""
    service = auth(NEW)
    own = service.caller(signed(NEW, jti="mine")).token
    names = [service.caller(signed(NEW, nonce=n)).token for n in range(2)]

    assert own == "mine"
    assert len({own, *names}) == 3 and all(names)
