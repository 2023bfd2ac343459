"""The audit log over HTTP: every command of a host is a row of the chain, and the chain holds."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from live.api.http.routes import ENDPOINTS
from live.api.http.table import Where
from live.domain.caller import Role
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from live.ledger.hosting import actions
from tests.integration.test_api_shows import LAMP, begin, offer
from tests.support.api_kit import Stage, open_stage


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


SHOW, OFFER = "/v1/shows/{show}", "/v1/offers/{offer}"
WALK: list[tuple[str, str, dict[str, Any] | None, str]] = [
    ("PATCH", SHOW, {"title": "Saturday", "rehearsal_passcode": "xylophone"}, "show.patch"),
    ("PUT", f"{SHOW}/run-order", {"skus": ["lamp"]}, "show.run_order"),
    ("POST", f"{SHOW}/pins", {"skus": ["lamp"]}, "show.pin"),
    ("POST", f"{SHOW}/announcements", {"text": "hi"}, "show.announce"),
    ("PATCH", OFFER, {"price_minor": 1}, "offer.edit"),
    ("POST", f"{OFFER}/open", None, "offer.open"),
    ("POST", f"{OFFER}/pause", None, "offer.pause"),
    ("POST", f"{OFFER}/resume", None, "offer.resume"),
    ("POST", f"{OFFER}/sold-out", None, "offer.sold_out"),
    ("POST", f"{OFFER}/resume", None, "offer.resume"),
    ("POST", f"{OFFER}/extend", {"seconds": 5}, "offer.extend"),
    ("POST", f"{OFFER}/restock", {"quantity": 1}, "offer.restock"),
    ("POST", f"{OFFER}/close", None, "offer.close"),
    ("POST", f"{SHOW}/moderation", {"action": "mute", "sub": "ada"}, "chat.mute"),
    ("POST", f"{SHOW}/moderation", {"action": "unmute", "sub": "ada"}, "chat.lift"),
    ("POST", f"{SHOW}/moderation", {"action": "ban", "sub": "ada"}, "chat.ban"),
    ("POST", f"{SHOW}/moderation", {"action": "shadow_ban", "sub": "ada"}, "chat.shadow_ban"),
    ("POST", f"{SHOW}/moderation", {"action": "unban", "sub": "ada"}, "chat.lift"),
    ("POST", f"{SHOW}/moderation", {"action": "delete", "message": "1-0"}, "chat.delete"),
    ("POST", f"{SHOW}/moderation", {"action": "unpin", "message": "1-0"}, "chat.unpin"),
    ("POST", f"{SHOW}/pause", None, "show.pause"),
    ("POST", f"{SHOW}/resume", None, "show.resume"),
    ("POST", f"{SHOW}/end", None, "show.end"),
]
BEGUN = ["show.create", "show.start", "offer.create"]


async def read_all(stage: Stage, show: ShowId, *, limit: int) -> list[dict[str, Any]]:
    """Page through the log as a client does."""
    items: list[dict[str, Any]] = []
    path = f"/v1/shows/{show}/audit-log?limit={limit}"
    cursor: str | None = ""
    while cursor is not None:
        answer = await stage.call("GET", path + (f"&cursor={cursor}" if cursor else ""))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) <= limit
        items += page["items"]
        cursor = page["next"]
    return items


def test_walk_has_every_command() -> None:
    """A new call that changes a show must be walked before it is released."""
    changing = {
        (one.method, one.path)
        for one in ENDPOINTS
        if one.method != "GET" and one.access.where in (Where.SHOW, Where.OFFER)
    }
    walked = {(method, path) for method, path, _, _ in WALK}
    begun = {("POST", f"{SHOW}/start"), ("POST", f"{SHOW}/offers")}
    assert changing == walked | begun


async def test_every_command_is_a_row_of_the_chain(stage: Stage, pool: Pool, show: ShowId) -> None:
    """One row a command, by whom and with what, read page by page; refused ones leave none."""
    await begin(stage, show)
    made = await stage.call(
        "POST", f"{SHOW}/offers".format(show=show), offer(quantity=2, duration_seconds=60)
    )
    name = made.json()["id"]
    wanted = [*BEGUN, "offer.create"]
    for method, template, body, action in WALK:
        path = template.format(show=show, offer=name)
        answer = await stage.call(method, path, body)
        assert answer.status_code in (200, 202), (path, answer.text)
        wanted.append(action)
    refused = await stage.call("POST", f"/v1/offers/{name}/open")
    assert refused.status_code == 409

    rows = await read_all(stage, show, limit=4)

    assert [row["action"] for row in rows] == wanted
    assert {(row["caller"], row["role"], row["address"]) for row in rows} == {
        ("host-1", "host", "127.0.0.1")
    }
    edited = next(row for row in rows if row["action"] == "offer.edit")
    assert orjson.loads(edited["detail"]) == {"offer": name, "price_minor": 1}
    assert "xylophone" not in orjson.loads(rows[4]["detail"]).values()  # the passcode
    async with pool.acquire() as connection:
        assert await actions.verify(connection, show) is None


async def test_rehearsal_is_in_the_log(stage: Stage, pool: Pool, show: ShowId) -> None:
    """Its beginning and its end, told apart from the show's own."""
    await stage.call("POST", "/v1/products", LAMP)
    await stage.call("POST", "/v1/shows", {"id": show, "title": "Friday", "currency": "EUR"})
    for method, path, body in (
        ("PATCH", SHOW, {"rehearsal_passcode": "xylophone"}),
        ("POST", f"{SHOW}/start", {"rehearsal": True}),
        ("POST", f"{SHOW}/end", None),
        ("POST", f"{SHOW}/start", None),
        ("POST", f"{SHOW}/end", None),
    ):
        answer = await stage.call(method, path.format(show=show), body)
        assert answer.status_code == 200, answer.text

    rows = await read_all(stage, show, limit=50)

    told = [(row["action"], orjson.loads(row["detail"])) for row in rows[2:]]
    assert told == [
        ("show.rehearse", {}),
        ("show.end", {"rehearsal": "ended"}),
        ("show.start", {}),
        ("show.end", {}),
    ]
    async with pool.acquire() as connection:
        assert await actions.verify(connection, show) is None


async def test_log_out_is_in_the_log_of_shows_on_air(stage: Stage, show: ShowId) -> None:
    """It concerns no show by name, so those that the caller hosts and that run now note it."""
    await begin(stage, show)
    other = ShowId(f"{show}-2")
    await stage.call("POST", "/v1/shows", {"id": other, "title": "Later", "currency": "EUR"})
    await stage.call("POST", f"/v1/shows/{other}/start")

    done = await stage.call("POST", "/v1/users/ada/logout", shows=[show])

    assert (done.status_code, [disconnect.show for disconnect in stage.disconnects]) == (
        200,
        [show],
    )
    row = (await read_all(stage, show, limit=50))[-1]
    assert (row["action"], orjson.loads(row["detail"])) == ("user.logout", {"sub": "ada"})
    assert "user.logout" not in [row["action"] for row in await read_all(stage, other, limit=50)]


async def test_moderators_actions_bear_their_names(stage: Stage, show: ShowId) -> None:
    """What a moderator does is in the log that hosts read, and they do not read it."""
    await begin(stage, show)
    body = {"action": "mute", "sub": "ada"}
    done = await stage.call("POST", f"/v1/shows/{show}/moderation", body, role=Role.MODERATOR)
    assert done.status_code == 202

    row = (await read_all(stage, show, limit=50))[-1]
    denied = await stage.call("GET", f"/v1/shows/{show}/audit-log", role=Role.MODERATOR)

    assert (row["caller"], row["role"], row["action"]) == ("moderator-1", "moderator", "chat.mute")
    assert denied.status_code == 403
