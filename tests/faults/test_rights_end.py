"""Where rights end, on two gateways with processes of their own: show, rank and log-out.

Method: people say and do things on one gateway; what the other one gives, takes and closes is what
is asserted, because a right that ended here only has not ended.
"""

import asyncio
import time
from typing import Any

import httpx
import jwt
import pytest
from websockets.exceptions import ConnectionClosed

from live.domain.caller import Role
from tests.acceptance.conftest import SECRET, Service, Stage
from tests.faults.test_gateways_together import SOON_SECONDS, enter, moderate, pair, say, stage
from tests.support.wire import Wire, dial, join

__all__ = ["pair", "stage"]
pytestmark = pytest.mark.timeout(90)

Pair = tuple[Service, Service]
SECRET_LINE = "her number is 555-1234"


async def history(wire: Wire, channel: str) -> str:
    """The whole log of a channel as this connection reads it, as text."""
    reply = await wire.ask({"history": {"channel": channel, "limit": 300}})
    return str(reply["history"]["publications"])


async def knock(service: Service, token: str, show: str) -> int:
    """Try to join with a token: 0, or the code of the error or close that it ends in."""
    wire = await dial(service.socket_url)
    await wire.send({"id": 1, "connect": {"token": token, "data": {"show": show}}})
    try:
        async with asyncio.timeout(SOON_SECONDS):
            message = await wire.read()
            error: int = message.get("error", {}).get("code", 0)
            return error
    except ConnectionClosed as end:
        assert end.rcvd is not None, "closed without a close frame"
        return end.rcvd.code
    finally:
        await wire.socket.close()


async def call(service: Service, token: str, path: str) -> httpx.Response:
    """POST as whoever has this token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, trust_env=False, timeout=60
    ) as http:
        return await http.post(path)


async def test_deleted_line_is_nowhere_any_more(pair: Pair, stage: Stage) -> None:
    """Not in history, not in a recovery, not in a pin, on either gateway; offsets have no gap."""
    show, chat = stage.show, f"chat:{stage.show}"
    async with (
        await enter(pair[0], show, "eve") as author,
        await enter(pair[1], show, "bob") as reader,
    ):
        before = reader.hello["subs"][chat]
        assert await say(author, show, SECRET_LINE) == {}
        async with asyncio.timeout(SOON_SECONDS):
            line = await reader.event("chat.message")
        await say(author, show, "something else")
        for body in ({"action": "pin"}, {"action": "delete"}):
            path = f"/v1/shows/{show}/moderation"
            done = await stage.post(path, body | {"message": line["id"]})
            assert done.status_code == 202
        async with asyncio.timeout(SOON_SECONDS):
            assert (await reader.event("chat.deleted"))["id"] == line["id"]

        for service in pair:
            async with await enter(service, show, "new") as newcomer:
                assert SECRET_LINE not in await history(newcomer, chat)
            since = {"recover": True, "epoch": before["epoch"], "offset": before.get("offset", 0)}
            wire = await dial(service.socket_url)
            await wire.ask({"connect": {"token": service.token(Role.VIEWER, "zoe", show)}})
            caught = (await wire.ask({"subscribe": {"channel": chat, **since}}))["subscribe"]
            await wire.socket.close()
            assert caught["recovered"], caught
            offsets = [one["offset"] for one in caught["publications"]]
            assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
            assert len(offsets) >= 4 and SECRET_LINE not in str(caught)


async def test_viewers_read_no_name_of_the_shop(pair: Pair, stage: Stage) -> None:
    """A line tells an opaque author and a neutral name; who it is goes to the desk alone."""
    show = stage.show
    host = await join(pair[1].socket_url, pair[1].token(Role.HOST, "boss", show), show)
    async with (
        host,
        await enter(pair[0], show, "ann@shop.example") as author,
        await enter(pair[1], show, "bob") as reader,
    ):
        await say(author, show, "hello")
        async with asyncio.timeout(SOON_SECONDS):
            line = await reader.event("chat.message")
            told = await host.event("chat.author")
        assert "ann@shop.example" not in str(line) and "role" not in line
        assert line["name"].startswith("Guest ")
        assert (told["author"], told["sub"]) == (line["author"], "ann@shop.example")
        assert author.hello["data"]["me"]["author"] == line["author"]
        await say(host, show, "good evening")
        async with asyncio.timeout(SOON_SECONDS):
            assert (await reader.event("chat.message"))["role"] == "host"
        error = await reader.ask(
            {"publish": {"channel": f"chat:{show}", "data": {"text": "hi", "name": "H0st ✔"}}}
        )
        assert error["error"]["code"] == 1400


async def test_shadow_ban_is_not_seen_by_its_victim(pair: Pair, stage: Stage) -> None:
    """Their line comes to all of their tabs on the channel on which lines come, and to nobody
    else."""
    show = stage.show
    await moderate(stage, "shadow_ban", "mia")
    async with (
        await enter(pair[0], show, "mia") as here,
        await enter(pair[1], show, "mia") as there,
        await enter(pair[1], show, "bob") as other,
    ):
        assert await say(here, show, "in the shadow") == {}
        for own in (here, there):
            async with asyncio.timeout(SOON_SECONDS):
                while True:
                    message = own.pushes.popleft() if own.pushes else await own.read()
                    push: dict[str, Any] = message.get("push", {})
                    if push.get("pub", {}).get("data", {}).get("type") == "chat.message":
                        break
            assert push["channel"] == f"chat:{show}"
            assert push["pub"]["data"]["text"] == "in the shadow"
        assert await say(other, show, "in the light") == {}
        async with asyncio.timeout(SOON_SECONDS):
            assert (await other.event("chat.message"))["text"] == "in the light"


async def test_moderator_cannot_shut_the_host_out(pair: Pair, stage: Stage) -> None:
    """A ban reaches down only: the host stays, comes back, and speaks."""
    show = stage.show
    moderator = pair[0].token(Role.MODERATOR, "mod", show)
    token = pair[1].token(Role.HOST, "star", show)
    async with await join(pair[1].socket_url, token, show) as host:
        headers = {"Authorization": f"Bearer {moderator}"}
        async with httpx.AsyncClient(
            base_url=pair[0].url, headers=headers, trust_env=False, timeout=60
        ) as mod:
            path = f"/v1/shows/{show}/moderation"
            for action in ("mute", "shadow_ban", "ban"):
                answer = await mod.post(path, json={"action": action, "sub": "star"})
                assert answer.status_code == 403, (action, answer.text)
            away = await mod.post(path, json={"action": "ban", "sub": "star-2"})
            assert away.status_code == 202  # nobody knows yet who that is
        assert await say(host, show, "still here") == {}
    for sub in ("star", "star-2"):
        assert await knock(pair[1], pair[1].token(Role.HOST, sub, show), show) == 0
    assert await knock(pair[1], pair[1].token(Role.VIEWER, "star-2", show), show) == 3503


async def test_logged_out_person_stays_out_on_every_gateway(pair: Pair, stage: Stage) -> None:
    """Their sockets close, their token opens nothing more, over HTTP neither; a new one does."""
    show = stage.show
    old = pair[0].token(Role.VIEWER, "kim", show)
    sockets = [await join(service.socket_url, old, show) for service in pair]

    assert (await stage.post("/v1/users/kim/logout")).status_code == 200

    for wire in sockets:
        async with asyncio.timeout(SOON_SECONDS):
            assert (await wire.closed())[0] == 3503
    for service in pair:
        assert await knock(service, old, show) == 3500
        assert (await get(service, old, "/v1/orders")).status_code == 401
    fresh = jwt.encode(
        {
            "aud": "live",
            "sub": "kim",
            "role": "viewer",
            "shows": [show],
            "iat": int(time.time()) + 1,
            "exp": int(time.time()) + 600,
        },
        SECRET,
        algorithm="HS256",
    )
    for service in pair:
        assert await knock(service, fresh, show) == 0
        async with await join(service.socket_url, fresh, show) as back:
            await back.send({"id": 9, "refresh": {"token": old}})
            async with asyncio.timeout(SOON_SECONDS):
                assert (await back.closed())[0] == 3500


async def get(service: Service, token: str, path: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, trust_env=False, timeout=60
    ) as http:
        return await http.get(path)


async def test_host_logs_out_of_his_own_shows_only(pair: Pair, stage: Stage) -> None:
    """The other show does not notice: the socket stays and the token goes on there."""
    show, other = stage.show, f"{stage.show}-b"
    made = await stage.post("/v1/shows", {"id": other, "title": "Other", "currency": "USD"})
    assert made.status_code == 201
    both = jwt.encode(
        {
            "aud": "live",
            "sub": "lou",
            "role": "viewer",
            "shows": [show, other],
            "iat": int(time.time()),
            "exp": int(time.time()) + 600,
        },
        SECRET,
        algorithm="HS256",
    )
    here = await join(pair[1].socket_url, both, show)
    async with await join(pair[1].socket_url, both, other) as there:
        host = pair[0].token(Role.HOST, "host-of-one", show)
        assert (await call(pair[0], host, "/v1/users/lou/logout")).status_code == 200
        async with asyncio.timeout(SOON_SECONDS):
            assert (await here.closed())[0] == 3503
        assert await knock(pair[1], both, show) != 0
        assert await knock(pair[1], both, other) == 0
        assert "time" in await there.rpc("time.now", {})

    nobody = pair[0].token(Role.HOST, "host-of-none", "not-a-show")
    await call(pair[0], nobody, "/v1/users/lou/logout")
    assert await knock(pair[1], both, other) == 0


async def test_console_that_logged_out_is_out(pair: Pair, stage: Stage) -> None:
    """Neither the cookie nor the token it was made from opens anything, on either gateway."""
    show = stage.show
    token = pair[0].token(Role.HOST, "ida", show)
    origin = {"origin": pair[0].url}
    async with httpx.AsyncClient(base_url=pair[0].url, trust_env=False, timeout=60) as http:
        assert (await http.post("/v1/session", json={"token": token})).status_code == 200
        cookie = {"cookie": f"live={http.cookies['live']}"}
        desk = await join(pair[1].socket_url, token, show)
        assert (await http.delete("/v1/session", headers=origin | cookie)).status_code == 200

        async with asyncio.timeout(SOON_SECONDS):
            assert (await desk.closed())[0] == 3503
        for service in pair:
            async with httpx.AsyncClient(
                base_url=service.url, trust_env=False, timeout=60
            ) as fresh:
                answer = await fresh.get("/v1/session", headers=cookie)
                assert answer.status_code == 401, service.url
                again = await fresh.post("/v1/session", json={"token": token})
                assert again.status_code == 401
            assert await knock(service, token, show) == 3500
