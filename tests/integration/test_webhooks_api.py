"""The calls about webhooks and events: who may, what is refused in which words, what is told."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from live.api.http.paging import write_cursor
from live.domain.caller import Role
from live.domain.ids import ShowId
from live.domain.outgoing.webhooks import ENDPOINTS_MAX
from live.ledger.db.pool import Pool
from tests.support.answers import Json
from tests.support.api_kit import Stage, open_stage
from tests.support.events_kit import Out, going_out
from tests.support.receiver import receiving

URL = "https://8.8.8.8/hooks"  # a public address that no resolver is asked for


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


@pytest.fixture
async def out(pool: Pool) -> AsyncIterator[Out]:
    async with going_out(pool) as found:
        yield found


async def ask(
    stage: Stage,
    method: str,
    path: str,
    body: object = None,
    *,
    shows: list[str] | None = None,
    **more: dict[str, str],
) -> httpx.Response:
    return await stage.call(method, path, body, role=Role.SERVICE, shows=shows, **more)


async def make(stage: Stage, shows: list[str] | None = None, **changes: object) -> Json:
    for show in shows or []:
        await make_show(stage, show)
    body = {"url": URL, "types": ["order.*"]} | changes
    answer = await ask(stage, "POST", "/v1/webhooks", body, shows=shows)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def make_show(stage: Stage, show: str) -> None:
    await stage.pool.execute(
        "INSERT INTO shows (id, title, currency) VALUES ($1, 'T', 'EUR') ON CONFLICT DO NOTHING",
        show,
    )


async def happen(stage: Stage, type: str, show: str = "") -> None:
    await stage.pool.execute(
        "INSERT INTO events (type, show, subject, detail) VALUES ($1, $2, 'x:y', '{}')", type, show
    )


async def test_secret_is_told_once(stage: Stage) -> None:
    """By the call that makes it, and to its repeat; in no list, and in no log."""
    key = {"idempotency-key": str(uuid4())}
    body = {"url": URL, "types": ["order.*"]}
    first = await ask(stage, "POST", "/v1/webhooks", body, headers=key)
    again = await ask(stage, "POST", "/v1/webhooks", body, headers=key)
    made = first.json()

    one = await ask(stage, "GET", f"/v1/webhooks/{made['webhook']}")
    listed = await ask(stage, "GET", "/v1/webhooks")
    log = await ask(stage, "GET", "/v1/catalogue/audit-log")

    assert made == again.json() and made["secret"].startswith("whsec_")
    assert one.json() == {name: value for name, value in made.items() if name != "secret"}
    assert listed.json()["items"] == [one.json()]
    assert made["secret"] not in log.text and "webhook.create" in log.text
    stored = await stage.pool.fetch("SELECT body FROM idempotency")
    assert made["secret"] not in str(stored)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MODERATOR, Role.HOST])
@pytest.mark.parametrize("path", ["/v1/webhooks", "/v1/events"])
async def test_machines_of_the_shop_alone_may(stage: Stage, role: Role, path: str) -> None:
    assert (await stage.call("GET", path, role=role)).status_code == 403


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://shop.example/hooks", "https://"),
        ("ftp://shop.example/", "https://"),
        ("https://ann:secret@shop.example/", "credentials"),
        ("https://@shop.example/", "credentials"),
        ("https://shop.example:22/", "port"),
        ("https://shop.example/#here", "fragment"),
        ("https:///hooks", "host"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://127.1/", "no address"),
        ("https://0x7f000001/", "no address"),
        ("https://2130706433/", "no address"),
        ("https://10.0.0.1/", "not a public address"),
        ("https://172.16.1.1/", "not a public address"),
        ("https://192.168.0.1/", "not a public address"),
        ("https://169.254.169.254/latest/meta-data", "not a public address"),
        ("https://100.64.0.1/", "not a public address"),
        ("https://224.0.0.1/", "not a public address"),
        ("https://0.0.0.0/", "not a public address"),
        ("https://240.0.0.1/", "not a public address"),
        ("https://[::1]/", "not a public address"),
        ("https://[fe80::1]/", "not a public address"),
        ("https://[fd00::1]/", "not a public address"),
        ("https://[ff02::1]/", "not a public address"),
        ("https://[::ffff:10.0.0.1]/", "not a public address"),
        ("https://[::ffff:8.8.8.8]/", "not a public address"),
        ("https://[64:ff9b::a00:1]/", "not a public address"),
        ("https://[2002:a00:1::]/", "not a public address"),
        ("https://[2001::1]/", "not a public address"),
        ("https://localhost/", "private network"),
        ("https://intranet/", "private network"),
        ("https://db.internal/", "private network"),
        ("https://shop.example/a b", "percent-encoded"),
        ("https://shop.example/\u00e4", "percent-encoded"),
        ("https://shop.example/" + "a" * 2_000, "url"),
    ],
)
async def test_address_that_is_not_public_is_refused_with_the_reason(
    stage: Stage, url: str, words: str
) -> None:
    made = await ask(stage, "POST", "/v1/webhooks", {"url": url, "types": ["*"]})
    known = (await make(stage))["webhook"]
    changed = await ask(stage, "PATCH", f"/v1/webhooks/{known}", {"url": url})

    for answer in (made, changed):
        problem = answer.json()
        assert (answer.status_code, problem["field"]) == (400, "url"), problem
        assert words in problem["detail"], problem


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("types", []),
        ("types", ["order.eaten"]),
        ("types", ["order"]),
        ("types", ["ord*"]),
        ("types", ["unknown.*"]),
        ("types", ["order.paid"] * 51),
        ("shows", ["no show!"]),
        ("format", "xml"),
        ("contact", 1),
        ("secret", "whsec_mine"),
    ],
)
async def test_bad_field_is_named(stage: Stage, field: str, value: object) -> None:
    body = {"url": URL, "types": ["order.*"]} | {field: value}

    answer = await ask(stage, "POST", "/v1/webhooks", body)

    assert answer.status_code == 400
    assert field in answer.json()["detail"]


async def test_what_would_never_come_is_refused(stage: Stage) -> None:
    body = {"url": URL, "types": ["stock.adjusted"], "shows": ["s1"]}

    answer = await ask(stage, "POST", "/v1/webhooks", body)

    assert (answer.status_code, answer.json()["field"]) == (400, "types")


async def test_unknown_show_is_refused(stage: Stage) -> None:
    """By its name: an endpoint for it would hear nothing for ever."""
    await make_show(stage, "s1")
    body = {"url": URL, "types": ["order.*"], "shows": ["s1", "nosuch"]}

    made = await ask(stage, "POST", "/v1/webhooks", body)
    known = (await make(stage))["webhook"]
    changed = await ask(stage, "PATCH", f"/v1/webhooks/{known}", {"shows": ["nosuch"]})
    good = await ask(stage, "POST", "/v1/webhooks", body | {"shows": ["s1"]})

    for answer in (made, changed):
        problem = answer.json()
        assert (answer.status_code, problem["field"]) == (400, "shows"), problem
        assert "nosuch" in problem["detail"]
    assert good.status_code == 201


async def test_secrets_are_made_once_for_each_key(stage: Stage) -> None:
    """Without one a repeat would make another."""
    path = f"/v1/webhooks/{(await make(stage))['webhook']}/rotate"
    body = {"url": URL, "types": ["order.*"]}
    none = {"idempotency-key": ""}
    key = {"idempotency-key": str(uuid4())}

    for bare in (
        await ask(stage, "POST", path, headers=none),
        await ask(stage, "POST", "/v1/webhooks", body, headers=none),
    ):
        assert (bare.status_code, bare.json()["field"]) == (400, "Idempotency-Key")
    first = await ask(stage, "POST", path, headers=key)
    again = await ask(stage, "POST", path, headers=key)

    assert first.status_code == 200 and first.json()["secret"] == again.json()["secret"]
    assert await stage.pool.fetchval("SELECT count(*) FROM webhook_secrets") == 2


async def test_key_tells_no_secret_beyond_the_tokens_shows(stage: Stage, show: ShowId) -> None:
    """A token for one show that repeats the words of one for all, as the same person."""
    body, key = {"url": URL, "types": ["order.*"]}, {"idempotency-key": str(uuid4())}
    made = await ask(stage, "POST", "/v1/webhooks", body, headers=key)
    assert made.status_code == 201

    narrow = await ask(stage, "POST", "/v1/webhooks", body, shows=[show], headers=key)

    assert narrow.status_code == 409
    assert made.json()["secret"] not in narrow.text


async def test_cursor_of_another_list_is_refused(stage: Stage, out: Out) -> None:
    made, other = await make(stage), await make(stage)
    for _ in range(3):
        await happen(stage, "order.paid")
    await out.place()
    path = f"/v1/webhooks/{made['webhook']}/deliveries"
    page = (await ask(stage, "GET", f"{path}?limit=2&state=due")).json()
    cursor = page["next"]

    rest = await ask(stage, "GET", f"{path}?limit=2&state=due&cursor={cursor}")
    elsewhere = f"/v1/webhooks/{other['webhook']}/deliveries"
    wrong = [
        await ask(stage, "GET", f"{path}?cursor={cursor}"),
        await ask(stage, "GET", f"{path}?state=delivered&cursor={cursor}"),
        await ask(stage, "GET", f"{elsewhere}?state=due&cursor={cursor}"),
        await ask(stage, "GET", f"{path}?cursor={write_cursor('7')}"),
    ]

    assert len(page["items"]) == 2 and len(rest.json()["items"]) == 1
    assert [(one.status_code, one.json().get("field")) for one in wrong] == [(400, "cursor")] * 4


async def test_replay_says_how_many_and_that_they_wait(stage: Stage, out: Out) -> None:
    made = await make(stage)
    path = f"/v1/webhooks/{made['webhook']}"
    for _ in range(3):
        await happen(stage, "order.paid")
    await happen(stage, "offer.opened")
    await out.place()
    await ask(stage, "PATCH", path, {"state": "paused"})
    due = (await ask(stage, "GET", f"{path}/deliveries")).json()["items"]

    span = await ask(stage, "POST", f"{path}/replay", {"from": 0, "to": 4_102_444_800_000})
    one = await ask(stage, "POST", f"{path}/replay", {"deliveries": [due[0]["delivery"]]})

    assert (span.status_code, one.status_code) == (202, 202)
    assert span.json() == {"deliveries": 3, "more": False, "state": "paused"}
    assert one.json() == {"deliveries": 1, "more": False, "state": "paused"}


async def test_token_of_some_shows_sees_and_makes_theirs_alone(stage: Stage, out: Out) -> None:
    """Another's endpoint looks like none."""
    everything = await make(stage)
    mine = await make(stage, shows=["s1", "s2"])
    assert mine["shows"] == ["s1", "s2"]

    listed = await ask(stage, "GET", "/v1/webhooks", shows=["s1", "s2", "s3"])
    other = await ask(stage, "GET", f"/v1/webhooks/{mine['webhook']}", shows=["s1"])
    await make_show(stage, "s3")
    body = {"url": URL, "types": ["*"], "shows": ["s3"]}
    beyond = await ask(stage, "POST", "/v1/webhooks", body, shows=["s1"])
    wide = await ask(stage, "POST", "/v1/webhooks", body | {"shows": []}, shows=["s1"])

    assert [one["webhook"] for one in listed.json()["items"]] == [mine["webhook"]]
    assert (other.status_code, beyond.status_code, wide.status_code) == (404, 403, 403)
    for call in ("test", "rotate"):
        path = f"/v1/webhooks/{everything['webhook']}/{call}"
        assert (await ask(stage, "POST", path, shows=["s1"])).status_code == 404
    gone = await ask(stage, "DELETE", f"/v1/webhooks/{everything['webhook']}", shows=["s1"])
    assert gone.status_code == 404

    for show in ("s1", "s3", ""):
        await happen(stage, "offer.opened", show)
    await out.place()
    page = (await ask(stage, "GET", "/v1/events?types=offer.*", shows=["s1"])).json()
    assert len(page["items"]) == 1
    assert len((await ask(stage, "GET", "/v1/events?types=offer.*")).json()["items"]) == 3


async def test_endpoint_is_changed_paused_and_deleted(stage: Stage) -> None:
    made = await make(stage)
    path = f"/v1/webhooks/{made['webhook']}"

    changed = await ask(stage, "PATCH", path, {"types": ["offer.*"], "state": "paused"})
    tested = await ask(stage, "POST", f"{path}/test")
    gone = await ask(stage, "DELETE", path)

    assert (changed.json()["types"], changed.json()["state"]) == (["offer.*"], "paused")
    assert tested.status_code == 409
    assert (gone.status_code, (await ask(stage, "GET", path)).status_code) == (200, 404)
    assert await stage.pool.fetchval("SELECT count(*) FROM webhook_secrets") == 0


async def test_no_more_endpoints_than_can_have_a_call_each(stage: Stage) -> None:
    await stage.pool.execute(
        """INSERT INTO webhooks (id, url, types, format)
           SELECT gen_random_uuid(), 'https://shop.example', '{*}', 'standard'
           FROM generate_series(1, $1)""",
        ENDPOINTS_MAX,
    )

    answer = await ask(stage, "POST", "/v1/webhooks", {"url": URL, "types": ["*"]})

    assert answer.status_code == 409


async def test_poller_goes_on_from_its_cursor(stage: Stage, out: Out) -> None:
    """Page by page, type by type; the ids are those of the webhooks."""
    for type in ("order.confirmed", "order.paid", "offer.opened", "order.refunded"):
        await happen(stage, type)
    await out.place()

    first = (await ask(stage, "GET", "/v1/events?types=order.*&limit=2")).json()
    then = (await ask(stage, "GET", f"/v1/events?types=order.*&after={first['cursor']}")).json()
    await happen(stage, "order.confirmed")
    await out.place()
    later = (await ask(stage, "GET", f"/v1/events?after={then['cursor']}")).json()

    assert [one["type"] for one in first["items"]] == ["order.confirmed", "order.paid"]
    assert [one["type"] for one in then["items"]] == ["order.refunded"]
    assert (first["more"], then["more"], first["complete"]) == (True, False, True)
    assert [one["type"] for one in later["items"]] == ["order.confirmed"]
    assert later["items"][0]["id"].startswith("evt_")
    assert later["items"][0]["timestamp"].endswith("Z")


async def test_poller_is_told_what_was_deleted_unread(stage: Stage, out: Out) -> None:
    for _ in range(3):
        await happen(stage, "order.paid")
    await out.place()
    await stage.pool.execute("DELETE FROM events WHERE position <= 2")

    behind = (await ask(stage, "GET", f"/v1/events?after={write_cursor('1')}")).json()
    level = (await ask(stage, "GET", f"/v1/events?after={write_cursor('2')}")).json()

    assert (len(behind["items"]), behind["complete"]) == (1, False)
    assert (len(level["items"]), level["complete"]) == (1, True)


@pytest.mark.parametrize(
    "query",
    [
        "types=order.eaten",
        "types=",
        "after=nonsense",
        f"after={write_cursor('99')}",
        f"after={write_cursor('-1')}",
        "limit=0",
        "limit=201",
        "show=s1",
    ],
)
async def test_bad_question_for_events_is_refused(stage: Stage, query: str) -> None:
    assert (await ask(stage, "GET", f"/v1/events?{query}")).status_code == 400


async def test_deliveries_are_listed_and_sent_again(pool: Pool, redis_url: str, out: Out) -> None:
    """The log says what was answered; a replay of one, and of a span."""
    async with open_stage(pool, redis_url, webhook_development=True) as stage, receiving() as shop:
        made = await make(stage, url=shop.url)
        path = f"/v1/webhooks/{made['webhook']}"
        shop.status(404)
        await happen(stage, "order.paid")
        await out.send()
        due = (await ask(stage, "GET", f"{path}/deliveries?state=due")).json()["items"]
        shop.answer = None

        body = {"deliveries": [due[0]["delivery"]]}
        again = await ask(stage, "POST", f"{path}/replay", body)
        await out.send()
        span = {"from": 0, "to": 4_102_444_800_000, "types": ["order.paid"]}
        spanned = await ask(stage, "POST", f"{path}/replay", span)
        await out.send()
        done = (await ask(stage, "GET", f"{path}/deliveries?state=delivered")).json()["items"]
        tested = await ask(stage, "POST", f"{path}/test")

        assert due[0]["attempts"][0]["answer"] == "this is 404" and due[0]["next_at"] > 0
        assert (again.status_code, spanned.status_code, tested.status_code) == (202, 202, 202)
        assert [len(one["attempts"]) for one in done] == [1, 2]
        assert len({one.id for one in shop.got}) == 1 and len(shop.got) == 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from": 1},
        {"from": 5, "to": 5},
        {"from": 1, "to": 2, "types": ["offer.opened"]},
        {"from": 1, "to": 2, "deliveries": ["1"]},
        {"deliveries": []},
        {"deliveries": ["x"]},
    ],
)
async def test_bad_replay_is_refused(stage: Stage, body: Json) -> None:
    made = await make(stage)

    answer = await ask(stage, "POST", f"/v1/webhooks/{made['webhook']}/replay", body)

    assert answer.status_code == 400


async def test_unknown_delivery_and_state_are_refused(stage: Stage) -> None:
    made = await make(stage)
    path = f"/v1/webhooks/{made['webhook']}"

    unknown = await ask(stage, "POST", f"{path}/replay", {"deliveries": ["77"]})
    state = await ask(stage, "GET", f"{path}/deliveries?state=lost")

    assert (unknown.status_code, state.status_code) == (404, 400)
