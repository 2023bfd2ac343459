"""A show that goes on for long: who joins is sent what is current, and the rest is read by page.

Method: real engines; offers that are long over are written as the settler would have left them.
"""

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from live.api.http import offers
from live.base.settings import Guests
from live.domain.caller import Role
from live.domain.ids import ShowId
from live.domain.offer import OFFERS_AHEAD_MAX, OFFERS_CLOSED_MAX, OFFERS_PER_SHOW_MAX
from live.hosting.views import view_show
from live.ledger.db.pool import Pool
from live.pages.structured_data import json_ld
from tests.integration.test_api_shows import begin, offer
from tests.support.api_kit import Stage, open_stage

STATE_BYTES_MAX = 32_768


@pytest.fixture
async def stage(pool: Pool, redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(pool, redis_url) as opened:
        yield opened


async def fill(pool: Pool, show: ShowId, count: int, *, phase: str = "closed") -> None:
    """Add offers behind those that are there, each opened a second after the one before."""
    await pool.execute(
        """INSERT INTO offers (id, show, slot, sku, title, image_url, price_minor, currency, mode,
                               phase, quantity, allotted, per_buyer_limit, hold_seconds, waitlist,
                               guests, countdown_seconds, opens_at)
           SELECT $1 || '-' || slot, $1, slot, 'lamp', 'Lamp', '', 1900, 'EUR', 'hold', $3, 5, 0, 2,
                  60, false, true, 0,
                  CASE $3 WHEN 'closed' THEN
                      now() - interval '1 day' + make_interval(secs => slot) END
           FROM generate_series((SELECT count(*) FROM offers WHERE show = $1),
                                (SELECT count(*) FROM offers WHERE show = $1) + $2 - 1) AS slot""",
        show,
        count,
        phase,
    )


async def read_all(stage: Stage, show: ShowId, limit: int, **call: Any) -> list[str]:
    """Every page of the closed offers."""
    names: list[str] = []
    path = f"/v1/shows/{show}/offers?limit={limit}"
    cursor = ""
    while True:
        answer = await stage.call("GET", f"{path}&cursor={cursor}" if cursor else path, **call)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) <= limit
        names += [one["id"] for one in page["items"]]
        if page["next"] is None:
            return names
        cursor = page["next"]


async def test_show_with_a_thousand_offers_works(stage: Stage, show: ShowId) -> None:
    """What is stored and sent stays small, a command tells one thing, and pages have all of it."""
    name = await begin(stage, show)
    await fill(stage.pool, show, OFFERS_PER_SHOW_MAX - 1)
    await stage.redis.delete(f"live:{{{show}}}:state")  # so that they are nobody's news
    assert (await stage.call("PATCH", f"/v1/shows/{show}", {"title": "Later"})).status_code == 200
    before = (await stage.log.store.position(show)).tops["show"]

    opened = await stage.call("POST", f"/v1/offers/{name}/open")

    assert opened.status_code == 200
    assert (await stage.log.store.position(show)).tops["show"] == before + 1
    assert (await stage.types(show))[-1] == "offer.opened"
    stored = await stage.log.store.read_state(show)
    assert stored is not None and len(orjson.dumps(stored)) < STATE_BYTES_MAX
    seen = (await stage.call("GET", f"/v1/shows/{show}")).json()["offers"]
    latest = [f"{show}-{slot}" for slot in range(OFFERS_PER_SHOW_MAX)][-OFFERS_CLOSED_MAX:]
    assert [one["id"] for one in seen] == [name, *latest]

    pages = await read_all(stage, show, 200, role=Role.VIEWER)
    assert pages == [f"{show}-{slot}" for slot in range(OFFERS_PER_SHOW_MAX - 1, 0, -1)]
    full = await stage.call("POST", f"/v1/shows/{show}/offers", offer(quantity=1))
    assert full.status_code == 409 and str(OFFERS_PER_SHOW_MAX) in full.json()["detail"]


async def test_offers_ahead_are_bounded(stage: Stage, show: ShowId) -> None:
    """The next one is refused in words, and can be made when another one is closed."""
    name = await begin(stage, show)
    await fill(stage.pool, show, OFFERS_AHEAD_MAX - 1, phase="draft")

    refused = await stage.call("POST", f"/v1/shows/{show}/offers", offer(quantity=1))
    assert refused.status_code == 409
    assert f"{OFFERS_AHEAD_MAX} offers that are not closed" in refused.json()["detail"]

    assert (await stage.call("POST", f"/v1/offers/{name}/close")).status_code == 200
    made = await stage.call("POST", f"/v1/shows/{show}/offers", offer(quantity=1))
    assert made.status_code == 201


async def test_offer_that_was_never_opened_is_told_to_nobody(stage: Stage, show: ShowId) -> None:
    """Closed as a draft, by hand or with its show, it is as invisible as before."""
    sold = await begin(stage, show)
    assert (await stage.call("POST", f"/v1/offers/{sold}/open")).status_code == 200
    for secret in ("at-one-cent", "another"):
        body = offer(id=secret, quantity=1, price_minor=1)
        assert (await stage.call("POST", f"/v1/shows/{show}/offers", body)).status_code == 201
    assert (await stage.call("POST", "/v1/offers/at-one-cent/close")).status_code == 200
    assert (await stage.call("POST", f"/v1/shows/{show}/end")).status_code == 200

    state = await stage.log.read_state(show)
    assert state is not None
    snapshot = view_show(state, {}, drafts=False)
    told = [await stage.published(show), orjson.loads(orjson.dumps(snapshot))]
    told += [json.loads(json_ld(snapshot, "https://live.example/watch/x"))]
    assert sold in json.dumps(told)
    for secret in ("at-one-cent", "another"):
        assert secret not in json.dumps(told)
        assert secret not in await read_all(stage, show, 50)
    closed = [one for one in await stage.published(show, "desk") if one["type"] == "offer.closed"]
    assert closed == []


async def test_closed_offers_are_for_who_may_watch(
    stage: Stage, pool: Pool, redis_url: str, show: ShowId
) -> None:
    """With the right token, without one where guests may watch; a rehearsal is for its staff."""
    await begin(stage, show)
    await fill(pool, show, 3)
    path = f"/v1/shows/{show}/offers"
    everything = [f"{show}-3", f"{show}-2", f"{show}-1"]

    assert await read_all(stage, show, 2, role=Role.VIEWER, shows=[show]) == everything
    assert [one["id"] for one in (await stage.client.get(path)).json()["items"]] == everything
    other = await stage.call("GET", path, role=Role.VIEWER, shows=["elsewhere"])
    assert other.status_code == 403
    assert (await stage.client.get("/v1/shows/nowhere/offers")).status_code == 404
    async with open_stage(pool, redis_url, guests=Guests.OFF) as private:
        assert (await private.client.get(path)).status_code == 401
    await pool.execute("UPDATE shows SET status = 'rehearsal' WHERE id = $1", show)
    assert (await stage.call("GET", path, role=Role.VIEWER)).status_code == 403
    assert (await stage.client.get(path)).status_code == 403
    assert await read_all(stage, show, 2, role=Role.MODERATOR) == everything


@pytest.mark.parametrize("cursor", ["LTE=", "OTk5OTk5", "w7g=", "x", "%00"])
async def test_cursor_of_another_list_is_refused(stage: Stage, show: ShowId, cursor: str) -> None:
    await begin(stage, show)
    answer = await stage.call("GET", f"/v1/shows/{show}/offers?cursor={cursor}")
    assert (answer.status_code, answer.json()["field"]) == (400, "cursor")


async def test_guests_without_a_token_are_bounded(
    stage: Stage, show: ShowId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page asks the ledger, and nobody is known who could be told to stop."""
    await begin(stage, show)
    monkeypatch.setattr(offers, "time", SimpleNamespace(monotonic=lambda: 0.0))
    codes = {(await stage.client.get(f"/v1/shows/{show}/offers")).status_code for _ in range(150)}
    assert codes == {200, 429}
