"""Log-outs on a real Postgres: what is refused, by whom it is known, and for how long."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from http.cookies import SimpleCookie

import httpx
import jwt
import pytest

from live.api import revoked as module
from live.api.auth import (
    SESSION_IDLE_SECONDS,
    TOKEN_LIFE_MAX_SECONDS,
    Authenticator,
    ExpiredToken,
    InvalidToken,
)
from live.api.revoked import Revoked
from live.base.errors import Busy, NotFound
from live.base.settings import Guests
from live.domain.caller import ABOVE_ALL, RANKS, Role
from live.domain.ids import BuyerId, ShowId, buyer_of
from live.ledger.db.pool import Pool
from live.ledger.hosting.revocations import RevocationRows
from live.ledger.hosting.show_command import Actor
from live.ledger.hosting.shows import ShowRows
from live.ledger.housekeeping import keep_house
from live.showlog.disconnects import Disconnect
from tests.support.api_kit import SECRET, Stage, open_stage
from tests.support.shows_kit import new_show

SERVICE = Actor(sub="shop", role=Role.SERVICE)
ONE_HOST = Actor(sub="host-1", role=Role.HOST)


class Gateway:
    """What one gateway knows of log-outs; `deaf`: Redis tells it nothing."""

    def __init__(self, pool: Pool, others: "list[Gateway]", *, deaf: bool = False) -> None:
        self.revoked = Revoked(RevocationRows(pool), digest_of=_digest, tell=self.tell)
        self.auth = Authenticator(SECRET, guests=Guests.WATCH, revoked=self.revoked)
        self.deaf = deaf
        self.redis_is_away = False
        self.read: list[Disconnect] = []
        self.news = asyncio.Event()
        self.revoked.on_news = self._take
        self._others = others
        others.append(self)

    def _take(self, disconnect: Disconnect) -> None:
        self.read.append(disconnect)
        self.news.set()

    async def tell(self, disconnect: Disconnect) -> None:
        if self.redis_is_away:
            raise Busy("Redis does not answer")
        for one in self._others:
            if not one.deaf:
                one.revoked.hear(disconnect)

    def refuses(self, token: str) -> bool:
        try:
            self.auth.caller(token)
        except InvalidToken:
            return True
        return False


def _digest(sub: str) -> BuyerId:
    return buyer_of(sub, secret=SECRET)


def token(
    sub: str, *, role: Role = Role.VIEWER, shows: tuple[str, ...] = ("*",), ago: int = 1
) -> str:
    """A token that was made some seconds ago."""
    iat = int(time.time()) - ago
    claims = {"aud": "live", "sub": sub, "role": role.value, "shows": list(shows)}
    return jwt.encode(claims | {"iat": iat, "exp": iat + 600}, SECRET, algorithm="HS256")


@pytest.fixture
async def make(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Gateway]]:
    """Makes gateways of one service, which read Postgres often."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    gateways: list[Gateway] = []
    yield lambda **more: Gateway(pool, gateways, **more)
    for one in gateways:
        await one.revoked.close()


async def test_log_out_is_known_without_redis(make: Callable[..., Gateway]) -> None:
    """A gateway that hears nothing reads it, and is told to close the sockets."""
    here, deaf = make(), make(deaf=True)
    old = token("ada")
    for one in (here, deaf):
        await one.revoked.open()
        assert not one.refuses(old)

    await here.revoked.log_out("ada", SERVICE, shows=None)

    assert here.refuses(old)
    async with asyncio.timeout(60):
        await deaf.news.wait()
    assert deaf.refuses(old) and not deaf.refuses(token("bob"))
    [disconnect] = deaf.read
    assert (disconnect.person, disconnect.rank) == (_digest("ada").hex(), RANKS[Role.SERVICE])
    assert here.read == deaf.read, "its own sockets are closed at once"


async def test_log_out_works_while_redis_is_away(make: Callable[..., Gateway]) -> None:
    """It is taken, and every gateway closes the sockets."""
    here, there = make(), make()
    here.redis_is_away = True
    for one in (here, there):
        await one.revoked.open()
    old = token("ada")

    await here.revoked.log_out("ada", SERVICE, shows=None)

    for one in (here, there):
        async with asyncio.timeout(60):
            await one.news.wait()
        assert one.refuses(old) and len(one.read) == 1


async def test_log_out_outlives_every_process(make: Callable[..., Gateway]) -> None:
    """A gateway that starts later knows it before it takes traffic."""
    first = make()
    old, other = token("ada"), token("bob")
    await first.revoked.log_out("ada", SERVICE, shows=None)
    await first.revoked.end_tokens(first.auth.caller(other))

    late = make()
    await late.revoked.open()

    assert late.refuses(old) and late.refuses(other)
    assert not late.refuses(token("bob", ago=9))  # one token of theirs was meant


async def test_token_of_afterwards_is_good_at_once(make: Callable[..., Gateway]) -> None:
    """Also one that we make in the very second of the log-out."""
    gateway = make()
    before = token("ada", ago=0)
    await gateway.revoked.log_out("ada", SERVICE, shows=None)

    assert gateway.refuses(before)
    fresh = gateway.auth.mint(role=Role.VIEWER, sub="ada", shows=["*"], ttl=60)
    assert gateway.auth.caller(fresh).sub == "ada"


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("by", [Role.HOST, Role.SERVICE])
async def test_log_out_reaches_those_below(
    make: Callable[..., Gateway], by: Role, role: Role
) -> None:
    """By the token that is shown: nobody has to know beforehand who is staff."""
    gateway = make()
    theirs = token("eve", role=role)

    await gateway.revoked.log_out("eve", Actor(sub="x", role=by), shows=None)

    assert gateway.refuses(theirs) == (RANKS[role] < RANKS[by])


async def test_log_out_of_a_show_ends_at_its_border(
    make: Callable[..., Gateway], pool: Pool
) -> None:
    """The token goes on elsewhere; one that covers nothing else is refused."""
    for name in ("one", "two"):
        await ShowRows(pool).create(new_show(ShowId(name)), ONE_HOST)
    gateway = make()
    both, everywhere = token("ada", shows=("one", "two")), token("ada")

    await gateway.revoked.log_out("ada", ONE_HOST, shows=[ShowId("nowhere"), ShowId("one")])

    for wide in (both, everywhere):
        caller = gateway.auth.caller(wide)
        assert (caller.may_see(ShowId("one")), caller.may_see(ShowId("two"))) == (False, True)
    assert gateway.refuses(token("ada", shows=("one",)))
    rows = await pool.fetch("SELECT show FROM host_actions WHERE action = 'user.logout'")
    assert [row["show"] for row in rows] == ["one"]
    with pytest.raises(NotFound):
        await gateway.revoked.log_out("ada", ONE_HOST, shows=[ShowId("nowhere")])


async def test_log_out_everywhere_is_in_the_logs(make: Callable[..., Gateway], pool: Pool) -> None:
    """Of the shows that run, and in the one that belongs to no show."""
    for name in ("on-air", "later"):
        await ShowRows(pool).create(new_show(ShowId(name)), ONE_HOST)
    await ShowRows(pool).start(ShowId("on-air"), ONE_HOST)

    await make().revoked.log_out("ada", SERVICE, shows=None)

    rows = await pool.fetch("SELECT show, caller FROM host_actions WHERE action = 'user.logout'")
    assert {(row["show"], row["caller"]) for row in rows} == {("on-air", "shop"), ("*", "shop")}


async def test_log_outs_are_forgotten_with_the_last_token(
    make: Callable[..., Gateway], pool: Pool
) -> None:
    """Until then they are kept; afterwards neither rows nor memory are left."""
    gateway = make()
    await gateway.revoked.log_out("ada", SERVICE, shows=None)
    await gateway.revoked.end_tokens(gateway.auth.caller(token("bob")))
    await keep_house(pool)
    rows = "SELECT until - now() > make_interval(secs => $1) FROM revocations WHERE token = ''"
    assert await pool.fetchval(rows, TOKEN_LIFE_MAX_SECONDS - 60)
    assert await pool.fetchval("SELECT count(*) FROM revocations") == 2

    await pool.execute("UPDATE revocations SET until = now() - interval '1 second'")
    await keep_house(pool)

    assert await pool.fetchval("SELECT count(*) FROM revocations") == 0
    late = make()
    await late.revoked.open()
    assert not late.refuses(token("ada"))


# Console sessions


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


def cookie_in(answer: httpx.Response) -> str:
    [morsel] = SimpleCookie(answer.headers["set-cookie"]).values()
    return morsel.value


async def log_in(stage: Stage, bearer: str) -> str:
    answer = await stage.client.post("/v1/session", json={"token": bearer})
    assert answer.status_code == 200, answer.text
    return cookie_in(answer)


async def look(stage: Stage, cookie: str) -> httpx.Response:
    return await stage.client.get("/v1/session", headers={"cookie": f"live={cookie}"})


async def test_session_goes_on_while_it_is_used(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call in the second half of the idle time renews it; without one it ends."""
    bearer = stage.auth.mint(role=Role.HOST, sub="host-1", shows=["demo"], ttl=4 * 3_600)
    cookie = await log_in(stage, bearer)
    assert "set-cookie" not in (await look(stage, cookie)).headers
    caller = stage.auth.session(cookie).caller
    assert caller.expires_at is not None
    made_at = time.time()

    with monkeypatch.context() as later:
        # The cookie of a console that was last used a while ago.
        later.setattr("time.time", lambda: made_at - SESSION_IDLE_SECONDS * 0.75)
        aged = stage.auth.sign_session(
            caller, name=caller.token, parent=caller.parent, end=caller.expires_at
        )
        later.setattr("time.time", lambda: made_at - SESSION_IDLE_SECONDS - 1)
        idle = stage.auth.sign_session(
            caller, name=caller.token, parent=caller.parent, end=caller.expires_at
        )
    renewed = stage.auth.session(cookie_in(await look(stage, aged)))

    assert renewed.caller.token == caller.token
    assert 0 < renewed.idle_at - made_at - SESSION_IDLE_SECONDS * 0.9 < SESSION_IDLE_SECONDS
    with pytest.raises(ExpiredToken):
        stage.auth.session(idle)
    assert (await look(stage, idle)).status_code == 401


async def test_session_ends_on_the_server(stage: Stage) -> None:
    """With its cookie, its renewed cookies and the token it was made from; other log-ins stay."""
    mine, other = (stage.token(Role.HOST, ["demo"]) for _ in range(2))
    cookie, untouched = await log_in(stage, mine), await log_in(stage, other)
    origin = {"origin": "http://localhost"}

    out = await stage.client.delete("/v1/session", headers=origin | {"cookie": f"live={cookie}"})

    assert out.status_code == 200
    assert (await look(stage, cookie)).status_code == 401
    assert (await stage.client.post("/v1/session", json={"token": mine})).status_code == 401
    assert (await look(stage, untouched)).status_code == 200
    assert {disconnect.rank for disconnect in stage.disconnects} == {ABOVE_ALL}


async def test_log_out_of_a_person_ends_his_sessions(stage: Stage) -> None:
    """A session made of an old token is as old as that."""
    cookie = await log_in(stage, token("mod-1", role=Role.MODERATOR, shows=("demo",)))

    done = await stage.call("POST", "/v1/users/mod-1/logout")

    assert done.status_code == 200
    assert (await look(stage, cookie)).status_code == 401
