"""Sessions, guests, tokens, log-out, webhooks and orders of the HTTP API."""

import time
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from uuid import uuid4

import httpx
import pytest

from live.api.auth import InvalidToken
from live.api.http.deps import GUESTS_BURST
from live.base.settings import Guests
from live.domain.caller import Role
from live.domain.ids import ShowId, buyer_of
from live.ledger.db.pool import Pool
from live.ledger.money.payments import PaymentRows
from tests.support.api_kit import SECRET, Stage, open_stage
from tests.support.ledger_kit import make_show, new_buyer, pay
from tests.support.shows_kit import set_stage

LOOPBACK, SECURE, PLAIN = "http://localhost", "https://shop.example", "http://shop.example"


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


async def log_in(
    stage: Stage, place: str, *, role: Role = Role.HOST, origin: str | None = None
) -> httpx.Response:
    body = {"token": stage.token(role, ["demo"])}
    headers = {} if origin is None else {"origin": origin}
    return await stage.client.post(f"{place}/v1/session", json=body, headers=headers)


def cookie_of(answer: httpx.Response) -> tuple[str, str, str]:
    """Name, value and attributes of the one cookie that was set."""
    text = answer.headers["set-cookie"]
    [(name, morsel)] = SimpleCookie(text).items()
    return name, morsel.value, text.partition(";")[2].lower()


@pytest.mark.parametrize(
    ("place", "name", "secure"), [(LOOPBACK, "live", False), (SECURE, "__Host-live", True)]
)
async def test_log_in_sets_a_cookie_that_scripts_and_other_sites_cannot_use(
    stage: Stage, place: str, name: str, secure: bool
) -> None:
    """HttpOnly, strict, for this host; its value is no bearer token."""
    answer = await log_in(stage, place)

    found, value, attributes = cookie_of(answer)
    assert (answer.status_code, found) == (200, name)
    assert {"httponly", "samesite=strict", "path=/"} <= set(attributes.replace(" ", "").split(";"))
    assert ("secure" in attributes, "domain" in attributes) == (secure, False)
    assert stage.auth.session(value).caller.sub == "host-1"
    with pytest.raises(InvalidToken):
        stage.auth.caller(value)


async def test_plain_http_from_elsewhere_is_refused_with_a_message(stage: Stage) -> None:
    """A cookie that anybody on the way can read is not made."""
    answer = await log_in(stage, PLAIN)

    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert "https" in answer.json()["detail"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.SERVICE])
async def test_only_hosts_and_moderators_have_a_console(stage: Stage, role: Role) -> None:
    """A service's token in a browser would be a mistake."""
    assert (await log_in(stage, LOOPBACK, role=role)).status_code == 403


async def test_session_reads_and_with_an_own_origin_writes(stage: Stage, show: ShowId) -> None:
    """Reading needs the cookie; changing needs a page of ours, or of an allowed origin."""
    await set_stage(stage.pool, ShowId("demo"))
    name, value, _ = cookie_of(await log_in(stage, LOOPBACK))
    cookie = {"cookie": f"{name}={value}"}
    path = f"{LOOPBACK}/v1/shows/demo/start"

    assert (await stage.client.get(f"{LOOPBACK}/v1/session", headers=cookie)).json() == {
        "sub": "host-1",
        "role": "host",
        "shows": ["demo"],
        "expires_at": stage.auth.session(value).caller.expires_at,
    }
    for origin in (
        None,
        "null",
        "http://localhost:9",
        "https://localhost",
        "http://localhost.evil.example",
    ):
        headers = cookie | ({} if origin is None else {"origin": origin})
        refused = await stage.client.post(path, headers=headers)
        assert refused.status_code == 403, origin
    done = await stage.client.post(path, headers=cookie | {"origin": LOOPBACK})
    assert done.status_code == 200


async def test_allowed_origin_is_no_page_of_the_console(pool: Pool, redis_url: str) -> None:
    """LIVE_ALLOWED_ORIGINS names pages for viewers: a fault in one must not move a host's hand."""
    shop = "https://admin.shop.example"
    await set_stage(pool, ShowId("demo"))
    async with open_stage(pool, redis_url, allowed_origins=(shop,)) as stage:
        assert (await log_in(stage, SECURE, origin=shop)).status_code == 403
        name, value, _ = cookie_of(await log_in(stage, SECURE))
        headers = {"cookie": f"{name}={value}", "origin": shop}
        done = await stage.client.post(f"{SECURE}/v1/shows/demo/start", headers=headers)

    assert done.status_code == 403


async def test_browser_says_which_page_is_ours(stage: Stage) -> None:
    """Its word counts, not the Origin: a proxy may know us by another name than the browser."""
    await set_stage(stage.pool, ShowId("demo"))
    name, value, _ = cookie_of(await log_in(stage, LOOPBACK))
    cookie = {"cookie": f"{name}={value}", "origin": "https://live.example"}
    path = f"{LOOPBACK}/v1/shows/demo/start"
    for site in ("cross-site", "same-site", "none"):
        headers = cookie | {"sec-fetch-site": site, "origin": LOOPBACK}
        assert (await stage.client.post(path, headers=headers)).status_code == 403, site

    done = await stage.client.post(path, headers=cookie | {"sec-fetch-site": "same-origin"})
    assert done.status_code == 200


async def test_cookie_of_one_scheme_is_nothing_in_the_other(stage: Stage) -> None:
    """The insecure name is ignored over https, and no cookie counts on plain http elsewhere."""
    _, value, _ = cookie_of(await log_in(stage, LOOPBACK))

    for place, name in ((SECURE, "live"), (PLAIN, "live"), (PLAIN, "__Host-live")):
        headers = {"cookie": f"{name}={value}"}
        answer = await stage.client.get(f"{place}/v1/session", headers=headers)
        assert answer.status_code == 401, (place, name)


async def test_bearer_token_in_the_cookie_is_refused(stage: Stage) -> None:
    """Only what log-in made is a session."""
    headers = {"cookie": f"live={stage.token(Role.HOST, ['demo'])}"}

    answer = await stage.client.get(f"{LOOPBACK}/v1/session", headers=headers)

    assert answer.status_code == 401


async def test_log_in_and_log_out_from_a_foreign_page_are_refused(stage: Stage) -> None:
    """Nobody else logs a host in as somebody else, or out."""
    evil = "https://evil.example"

    assert (await log_in(stage, LOOPBACK, origin=evil)).status_code == 403
    url = f"{LOOPBACK}/v1/session"
    assert (await stage.client.delete(url, headers={"origin": evil})).status_code == 403
    assert (await stage.client.delete(url)).status_code == 403


async def test_log_out_takes_the_cookie_away(stage: Stage) -> None:
    """Also without a valid session: whoever wants out gets out."""
    answer = await stage.client.delete(f"{LOOPBACK}/v1/session", headers={"origin": LOOPBACK})

    name, value, attributes = cookie_of(answer)
    assert (answer.status_code, name, value) == (200, "live", "")
    assert "max-age=0" in attributes


async def test_guest_gets_a_viewers_token(stage: Stage) -> None:
    """Marked as a guest's, with a name of its own, for every show."""
    first, second = [(await stage.client.post(f"{PLAIN}/v1/guests")).json() for _ in range(2)]

    caller = stage.auth.caller(first["token"])
    assert (caller.guest, caller.role, caller.sub) == (True, Role.VIEWER, first["sub"])
    assert first["sub"].startswith("guest-") and first["sub"] != second["sub"]


async def test_guest_who_comes_back_stays_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a token that ended some days ago, too; not with a stranger's, nor after a log-out."""

    async def come(token: str) -> str:
        headers = {"authorization": f"Bearer {token}"}
        answer = await stage.client.post(f"{PLAIN}/v1/guests", headers=headers)
        return str(answer.json()["sub"])

    guest = (await stage.client.post(f"{PLAIN}/v1/guests")).json()
    assert await come(guest["token"]) == guest["sub"]
    days = time.time() - 5 * 86_400
    with monkeypatch.context() as before:
        before.setattr(time, "time", lambda: days)
        old = stage.auth.mint(
            role=Role.VIEWER, sub=guest["sub"], shows=["*"], ttl=3_600, guest=True
        )
    assert await come(old) == guest["sub"]

    named = stage.auth.mint(role=Role.VIEWER, sub="ann", shows=["*"], ttl=3_600)
    for stranger in (named, old[:-2], "nonsense"):
        assert (await come(stranger)).startswith("guest-")
    assert await come(old[:-2]) != guest["sub"]


async def test_guests_are_bounded_per_address(stage: Stage) -> None:
    """The burst is given, the next one waits: 429 with a time."""
    answers = [await stage.client.post(f"{PLAIN}/v1/guests") for _ in range(GUESTS_BURST + 5)]

    codes = [answer.status_code for answer in answers]
    assert codes[:GUESTS_BURST] == [201] * GUESTS_BURST and codes[-1] == 429
    assert int(answers[-1].headers["retry-after"]) >= 1 and answers[-1].json()["temporary"]


async def test_guests_are_refused_where_they_are_off(pool: Pool, redis_url: str) -> None:
    """LIVE_GUESTS=off means it."""
    async with open_stage(pool, redis_url, guests=Guests.OFF) as stage:
        assert (await stage.client.post(f"{PLAIN}/v1/guests")).status_code == 403


async def test_service_makes_tokens_within_its_own_shows(stage: Stage) -> None:
    """Not for other shows, not for services, not for longer than twelve hours."""
    body = {"role": "viewer", "sub": "ada", "shows": ["a"], "ttl_seconds": 60}

    async def ask(own: list[str], **changes: object) -> httpx.Response:
        asked = body | changes
        return await stage.call("POST", "/v1/tokens", asked, role=Role.SERVICE, shows=own)

    made = await ask(["a", "b"])
    assert stage.auth.caller(made.json()["token"]).sub == "ada"
    assert (await ask(["*"])).status_code == 201
    assert (await ask(["b"])).status_code == 403
    assert (await ask(["a"], shows=["*"])).status_code == 403
    assert (await ask(["*"], role="service")).status_code == 400
    assert (await ask(["*"], ttl_seconds=43_201)).status_code == 400
    assert (await ask(["*"], shows=[])).status_code == 400


async def test_token_key_is_one_wish_and_no_token_is_stored(stage: Stage) -> None:
    """A repeat makes the same person's token anew; another body is a conflict; no token is kept."""
    body = {"role": "viewer", "sub": "ada", "shows": ["a"], "ttl_seconds": 60}
    key = {"idempotency-key": str(uuid4())}

    async def ask(**changes: object) -> httpx.Response:
        asked = body | changes
        return await stage.call("POST", "/v1/tokens", asked, role=Role.SERVICE, headers=key)

    first, again, other = await ask(), await ask(), await ask(sub="eve")

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 409)
    subs = [stage.auth.caller(made.json()["token"]).sub for made in (first, again)]
    assert subs == ["ada", "ada"]
    kept = await stage.pool.fetch("SELECT body FROM idempotency WHERE key = $1", *key.values())
    assert [row["body"] for row in kept] == [b""]


async def test_user_is_logged_out_by_his_whole_name(stage: Stage) -> None:
    """A `sub` is any text, also one with slashes and signs."""
    for sub, path in (("ada", "ada"), ("shop|7/ß", "shop%7C7/%C3%9F")):
        answer = await stage.call("POST", f"/v1/users/{path}/logout")
        assert answer.status_code == 200
        assert stage.disconnects[-1].person == buyer_of(sub, secret=SECRET).hex()
    assert (await stage.call("POST", "/v1/users/a%0Ab/logout")).status_code == 404


async def test_webhook_gets_the_raw_bytes(stage: Stage) -> None:
    """The signature covers bytes, so they are handed on as they came, without a token."""
    body = b'{"id":  "evt_1", "\xc3\xa4": 1}\n'
    headers = {"Webhook-Signature": "v1,abc", "content-type": "text/plain"}

    answer = await stage.client.post(
        f"{PLAIN}/v1/payments/sandbox/webhook", content=body, headers=headers
    )

    assert answer.status_code == 200
    [(provider, given, raw)] = stage.webhooks
    assert (provider, given["webhook-signature"], raw) == ("sandbox", "v1,abc", body)


async def place_order(stage: Stage, show: ShowId) -> str:
    """An order of viewer-1 that no payment belongs to."""
    order = str(uuid4())
    await stage.pool.execute(
        """INSERT INTO orders (id, show, buyer, sub, key, state, total_minor, currency, seq)
           VALUES ($1, $2, $3, 'viewer-1', $4, 'confirmed', 1900, 'EUR', 1)""",
        order,
        show,
        b"b" * 16,
        uuid4(),
    )
    return order


async def test_orders_are_seen_by_their_buyer_and_their_hosts(stage: Stage, show: ShowId) -> None:
    """A viewer's list is their own; another's order does not exist for them."""
    await set_stage(stage.pool, show)
    order = await place_order(stage, show)
    path = f"/v1/orders/{order}"
    other = {"authorization": f"Bearer {stage.token(Role.VIEWER, ['*'], sub='eve')}"}

    own = await stage.call("GET", "/v1/orders", role=Role.VIEWER)
    assert [one["order"] for one in own.json()["items"]] == [order]
    assert (await stage.call("GET", "/v1/orders?buyer=eve", role=Role.VIEWER)).status_code == 403
    assert (await stage.call("GET", path, role=Role.VIEWER)).status_code == 200
    assert (await stage.client.get(path, headers=other)).status_code == 404
    assert (await stage.client.get("/v1/orders", headers=other)).json()["items"] == []
    assert (await stage.call("GET", path, shows=[show])).status_code == 200
    assert (await stage.call("GET", path, shows=["elsewhere"])).status_code == 404
    assert (await stage.call("GET", "/v1/orders", shows=["elsewhere"])).status_code == 400
    listed = await stage.call("GET", f"/v1/orders?show={show}", shows=[show])
    assert [one["order"] for one in listed.json()["items"]] == [order]
    assert listed.json()["items"][0]["sub"] == "viewer-1"


async def test_refund_needs_a_key_and_captured_money(stage: Stage, show: ShowId) -> None:
    """A lost answer must not pay twice; an order without a capture has nothing to give back."""
    await set_stage(stage.pool, show)
    path = f"/v1/orders/{await place_order(stage, show)}/refund"
    body = {"reason": "broken"}

    keyless = await stage.call("POST", path, body, headers={"idempotency-key": ""})
    foreign = await stage.call("POST", path, body, shows=["elsewhere"])
    nothing = await stage.call("POST", path, body)

    assert (keyless.status_code, keyless.json()["field"]) == (400, "Idempotency-Key")
    assert (foreign.status_code, nothing.status_code) == (404, 409)
    assert await stage.pool.fetchval("SELECT count(*) FROM money_jobs") == 0


async def test_refund_and_its_row_of_the_audit_log_are_written_together(
    stage: Stage, show: ShowId
) -> None:
    """Where the log cannot be written no money goes back; one key is one row of both."""
    await make_show(stage.pool, show, 5)
    order = await place_order(stage, show)
    paid = await pay(PaymentRows(stage.pool), show, new_buyer())
    await stage.pool.execute("UPDATE orders SET payment = $1", paid.id)
    await stage.pool.execute(
        "UPDATE payments SET state = 'captured', captured_minor = amount_minor"
    )
    await stage.pool.execute(
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'no room'; END $$;
           CREATE TRIGGER no_room BEFORE INSERT ON host_actions
           FOR EACH ROW EXECUTE FUNCTION refuse()"""
    )
    path, body = f"/v1/orders/{order}/refund", {"amount_minor": 1, "reason": "late"}
    refused = await stage.call("POST", path, body)
    asked = "SELECT count(*) FROM money_jobs WHERE kind = 'refund'"
    assert (refused.status_code, await stage.pool.fetchval(asked)) == (503, 0)

    await stage.pool.execute("DROP TRIGGER no_room ON host_actions")
    key = {"idempotency-key": "once"}
    answers = []
    for _ in range(2):
        answers.append(await stage.call("POST", path, body, headers=key))
        await stage.pool.execute("UPDATE idempotency SET status = NULL, created_at = '2020-01-01'")

    assert [answer.status_code for answer in answers] == [200, 200]
    logged = "SELECT count(*) FROM host_actions WHERE action = 'order.refund'"
    assert (await stage.pool.fetchval(asked), await stage.pool.fetchval(logged)) == (1, 1)
