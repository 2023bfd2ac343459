"""What the console reads over HTTP: shows to choose from, newest lists, restrictions, the audit."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from live.domain.caller import Role
from live.domain.ids import ShowId
from live.ledger.db.pool import Pool
from live.ledger.hosting.desk_rows import note_audit
from tests.integration.test_api_access import place_order
from tests.integration.test_api_shows import begin
from tests.support.api_kit import Stage, open_stage


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


async def make_shows(stage: Stage, *names: str) -> None:
    for name in names:
        body = {"id": name, "title": f"Show {name}", "currency": "EUR", "starts_at": 1_900_000_000}
        assert (await stage.call("POST", "/v1/shows", body)).status_code == 201


async def pages(stage: Stage, path: str, **who: Any) -> list[list[dict[str, Any]]]:
    """Every page of a list."""
    found: list[list[dict[str, Any]]] = []
    cursor = ""
    while True:
        answer = await stage.call("GET", path + (f"&cursor={cursor}" if cursor else ""), **who)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["items"])
        cursor = answer.json()["next"]
        if cursor is None:
            return found


async def test_planned_shows_are_listed_the_newest_first(stage: Stage) -> None:
    """Also shows that nobody can watch yet, in pages that have each once."""
    names = [f"s{uuid4().hex[:8]}" for _ in range(3)]
    await make_shows(stage, *names)

    found = await pages(stage, "/v1/shows?limit=2")

    assert [[one["id"] for one in page] for page in found] == [[names[2], names[1]], [names[0]]]
    assert {(one["status"], one["starts_at"]) for one in found[0]} == {("scheduled", 1_900_000_000)}


async def test_shows_of_others_are_not_listed(stage: Stage) -> None:
    """A moderator of one show reads that one."""
    mine, theirs = f"m{uuid4().hex[:8]}", f"t{uuid4().hex[:8]}"
    await make_shows(stage, mine, theirs)

    [found] = await pages(stage, "/v1/shows?limit=9", role=Role.MODERATOR, shows=[mine, "other"])

    assert [one["id"] for one in found] == [mine]


async def test_orders_and_actions_may_be_read_from_their_end(stage: Stage, show: ShowId) -> None:
    """`order=newest` turns a list around, its pages too; another word is refused by name."""
    await begin(stage, show)
    placed = [await place_order(stage, show) for _ in range(3)]

    orders = await pages(stage, f"/v1/orders?show={show}&order=newest&limit=2")
    actions = await pages(stage, f"/v1/shows/{show}/audit-log?order=newest&limit=2")
    wrong = await stage.call("GET", f"/v1/orders?show={show}&order=sideways")

    assert [[one["order"] for one in page] for page in orders] == [placed[:0:-1], placed[:1]]
    names = [[one["action"] for one in page] for page in actions]
    assert names == [["offer.create", "show.start"], ["show.create"]]
    assert (wrong.status_code, wrong.json()["field"]) == (400, "order")


async def test_what_is_done_to_the_catalogue_is_in_a_log_of_its_own(stage: Stage) -> None:
    """Who made a product and changed its stock, once however often it is repeated, and why."""
    sku = f"p{uuid4().hex[:8]}"
    product = {"sku": sku, "title": "Lamp", "price_minor": 900, "currency": "EUR", "on_hand": 5}
    change = {"sku": sku, "delta": -2, "reason": "broken", "key": uuid4().hex}
    assert (await stage.call("POST", "/v1/products", product)).status_code == 201
    for _ in range(2):
        assert (await stage.call("POST", "/v1/stock/adjustments", change)).status_code == 200

    answer = await stage.call("GET", "/v1/catalogue/audit-log?order=newest&limit=2")
    refused = await stage.call("GET", "/v1/catalogue/audit-log", shows=["elsewhere"])

    adjusted, created = answer.json()["items"]
    assert (created["action"], created["caller"]) == ("product.create", "host-1")
    assert json.loads(created["detail"])["sku"] == sku
    assert adjusted["action"] == "stock.adjust"
    assert json.loads(adjusted["detail"]) == {"sku": sku, "delta": -2, "reason": "broken"}
    assert refused.status_code == 403


async def test_restrictions_in_force_can_be_read_and_lifted(stage: Stage, show: ShowId) -> None:
    """Whoever moderates sees what others decided; a lifted one is gone."""
    await begin(stage, show)
    path = f"/v1/shows/{show}/moderation"
    await stage.call("POST", path, {"action": "shadow_ban", "sub": "ada"})
    await stage.call("POST", path, {"action": "mute", "sub": "bob", "seconds": 60})

    read = f"/v1/shows/{show}/restrictions"
    before = (await stage.call("GET", read, role=Role.MODERATOR)).json()["items"]
    await stage.call("POST", path, {"action": "unban", "sub": "ada"})
    after = (await stage.call("GET", read, role=Role.MODERATOR)).json()["items"]

    assert {(one["sub"], one["kind"]) for one in before} == {("ada", "shadow_ban"), ("bob", "mute")}
    assert [one["sub"] for one in after] == ["bob"]


async def test_report_tells_the_last_audit(stage: Stage, show: ShowId) -> None:
    """Nothing before the first one, then always the latest."""
    await begin(stage, show)
    path = f"/v1/shows/{show}/report"

    before = (await stage.call("GET", path)).json()["audit"]
    await note_audit(stage.pool, findings=2, in_flight=0)
    await note_audit(stage.pool, findings=0, in_flight=1)
    after = (await stage.call("GET", path)).json()["audit"]

    assert before is None
    assert (after["findings"], after["in_flight"]) == (0, 1)
    assert after["at"] > 0
