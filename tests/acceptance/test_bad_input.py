"""Bad input gets the contract's answer, and nobody else notices.

Method: beside every offender a bystander is connected to the same gateway; after the fault they
still buys on that connection, and at the end the audit holds.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from jsonschema import Draft202012Validator

from live.domain.caller import Role
from live.payments.webhooks import signed_headers, signing_key
from tests.acceptance.conftest import SECRET, Service, Stage
from tests.support.wire import Wire, dial

MESSAGE_BYTES_MAX = 65_536

pytestmark = pytest.mark.timeout(60)


def _hold(offer: str, /, **change: Any) -> dict[str, Any]:
    request = {"offer": offer, "qty": 1, "key": str(uuid4())} | change
    return {name: value for name, value in request.items() if value is not ...}


@pytest.fixture(autouse=True)
async def bystander(stage: Stage) -> AsyncIterator[Wire]:
    """Somebody who has nothing to do with it: connected before the fault, they buy after it."""
    offer = await stage.offer(1)
    async with await stage.viewer() as wire:
        yield wire
        held = await wire.hold(offer)
        assert held["outcome"] == "held", held
        await wire.checkout(held["hold"])
        async with asyncio.timeout(60):
            confirmed = await wire.event("order.confirmed")
        assert confirmed["order"]["hold"] == held["hold"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("qty", 0),
        ("qty", -1),
        ("qty", 1.5),
        ("qty", "1"),
        ("qty", True),
        ("qty", 10**9),
        ("qty", None),
        ("qty", ...),
        ("key", ...),
        ("key", "not-a-uuid"),
        ("key", 7),
        ("offer", ...),
        ("price_minor", 1),
    ],
)
async def test_bad_field_is_named_and_the_connection_stays(
    stage: Stage, field: str, value: object
) -> None:
    """Error 1400 names the field; the same connection then holds."""
    offer = await stage.offer(5)
    async with await stage.viewer() as offender:
        answer = await offender.rpc("offer.hold", _hold(offer, **{field: value}))

        assert answer["error"]["code"] == 1400, answer
        assert field in answer["error"]["message"]
        assert (await offender.hold(offer))["outcome"] == "held"


async def test_number_without_end_is_a_bad_field(stage: Stage) -> None:
    """JSON can write 1e999, and no quantity is that."""
    offer = await stage.offer(5)
    async with await stage.viewer() as viewer:
        data = json.dumps(_hold(offer, qty=...))[:-1] + ', "qty": 1e999}'
        await viewer.socket.send(f'{{"id":90,"rpc":{{"method":"offer.hold","data":{data}}}}}')
        while (answer := await viewer.read()).get("id") != 90:
            pass  # a pulse on its way

        assert answer["error"]["code"] == 1400, answer
        assert (await viewer.hold(offer))["outcome"] == "held"


async def test_unknown_offer_is_not_found(stage: Stage) -> None:
    """Error 1404 for an offer that is nowhere."""
    async with await stage.viewer() as viewer:
        answer = await viewer.rpc("offer.hold", _hold("nowhere"))

        assert answer["error"]["code"] == 1404


async def test_draft_offer_is_not_open(stage: Stage) -> None:
    """A prepared offer sells nothing, whether its id was guessed or not."""
    offer = await stage.offer(5, opened=False)
    async with await stage.viewer() as viewer:
        answer = await viewer.rpc("offer.hold", _hold(offer))

        refused = answer.get("outcome") == "not_open" or answer["error"]["code"] == 1404
        assert refused, answer
        assert (await stage.look(offer))["held"] == 0


async def test_unknown_show_refuses_the_connection(service: Service) -> None:
    """Joining a show that is not there is error 1404."""
    async with await dial(service.socket_url) as wire:
        token = service.token(Role.VIEWER, "alice")
        await wire.send({"id": 1, "connect": {"token": token, "data": {"show": "nowhere"}}})
        assert (await wire.read())["error"]["code"] == 1404


async def test_hold_of_another_buyer_is_not_found(stage: Stage) -> None:
    """Their key is no key of mine: release and checkout say 1404, and their hold stays."""
    offer = await stage.offer(5)
    async with await stage.viewer() as owner, await stage.viewer() as thief:
        held = await owner.hold(offer)

        released = await thief.rpc("hold.release", {"hold": held["hold"]})
        paid = await thief.checkout(held["hold"])

        assert released["error"]["code"] == 1404
        assert paid["error"]["code"] == 1404
        assert (await owner.checkout(held["hold"]))["outcome"] == "confirmed"


async def test_key_with_another_request_is_a_conflict(stage: Stage) -> None:
    """The same key asks for two units after one: error 1409, one unit held."""
    offer = await stage.offer(5)
    async with await stage.viewer() as viewer:
        key = str(uuid4())
        assert (await viewer.hold(offer, 1, key))["outcome"] == "held"

        answer = await viewer.hold(offer, 2, key)

        assert answer["error"]["code"] == 1409
        assert (await stage.look(offer))["held"] == 1


async def test_unknown_method_is_error_104(stage: Stage) -> None:
    async with await stage.viewer() as viewer:
        assert (await viewer.rpc("offer.steal", {}))["error"]["code"] == 104


async def test_unknown_command_is_error_104(stage: Stage) -> None:
    """A command of no kind that we know is told so; the connection stays."""
    async with await stage.viewer() as viewer:
        reply = await viewer.ask({"steal": {}})

        assert reply["error"]["code"] == 104
        assert "time" in await viewer.rpc("time.now", {})


@pytest.mark.parametrize("channel", ["#somebody-else", "desk:{show}"])
async def test_foreign_channel_is_denied(stage: Stage, channel: str) -> None:
    """Error 103 for another's channel and for the hosts' desk."""
    async with await stage.viewer() as viewer:
        name = channel.format(show=stage.show)
        reply = await viewer.ask({"subscribe": {"channel": name}})

        assert reply["error"]["code"] == 103


@pytest.mark.parametrize("channel", ["show:{show}", "pulse:{show}", "desk:{show}"])
async def test_viewer_cannot_publish_beside_chat(stage: Stage, channel: str) -> None:
    async with await stage.viewer() as viewer:
        name = channel.format(show=stage.show)
        reply = await viewer.ask({"publish": {"channel": name, "data": {"text": "x"}}})

        assert reply["error"]["code"] == 103


@pytest.mark.parametrize(
    "frame",
    [
        "{not json",
        "[1]",
        '{"rpc":{"method":"time.now"}}',
        '{"id":0,"rpc":{"method":"time.now"}}',
        "[" * 2000,
    ],
)
async def test_broken_frame_closes_that_connection_alone(stage: Stage, frame: str) -> None:
    """Close 3501 for what cannot be a command."""
    async with await stage.viewer() as offender:
        await offender.socket.send(frame)

        code, reason = await offender.closed()

        assert code == 3501
        assert reason


async def test_oversize_message_closes_1009(stage: Stage) -> None:
    """64 KiB pass, one byte more does not."""
    async with await stage.viewer() as offender:
        fitting = json.dumps({"id": 90, "rpc": {"method": "time.now", "data": {}}})
        await offender.socket.send(fitting + " " * (MESSAGE_BYTES_MAX - len(fitting)))
        assert (await offender.read())["id"] == 90

        await offender.socket.send(fitting + " " * (MESSAGE_BYTES_MAX - len(fitting) + 1))

        assert (await offender.closed())[0] == 1009


async def test_binary_frame_on_json_closes_3506(stage: Stage) -> None:
    async with await stage.viewer() as viewer:
        await viewer.socket.send(b"\x00\x01")

        assert (await viewer.closed())[0] == 3506


async def test_command_before_connect_closes_3501(service: Service) -> None:
    async with await dial(service.socket_url) as wire:
        await wire.send({"id": 1, "rpc": {"method": "time.now", "data": {}}})

        assert (await wire.closed())[0] == 3501


async def test_second_connect_closes_3501(stage: Stage) -> None:
    async with await stage.viewer() as viewer:
        await viewer.send({"id": 50, "connect": {}})

        assert (await viewer.closed())[0] == 3501


def _token(**change: object) -> str:
    now = int(time.time())
    claims: dict[str, object] = {
        "sub": "alice",
        "role": "viewer",
        "shows": ["*"],
        "iat": now,
        "exp": now + 600,
        "aud": "live",
    }
    claims |= change
    kept = {name: value for name, value in claims.items() if value is not ...}
    return jwt.encode(kept, SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    "token",
    [
        "rubbish",
        _token(role=...),
        _token(role="emperor"),
        _token(sub=...),
        _token(exp=...),
        _token(aud="elsewhere"),
        _token(exp=10**400),
        jwt.encode(
            {"sub": "alice", "role": "host"}, "another secret, which is long enough", "HS256"
        ),
    ],
    ids=["rubbish", "no role", "unknown role", "no sub", "no exp", "aud", "for ever", "forged"],
)
async def test_invalid_token_closes_3500(service: Service, token: str) -> None:
    """What no new try would mend ends the connection for good."""
    async with await dial(service.socket_url) as wire:
        await wire.send({"id": 1, "connect": {"token": token}})

        assert (await wire.closed())[0] == 3500


async def test_expired_token_is_error_109(service: Service) -> None:
    """The client fetches a new token on 109."""
    async with await dial(service.socket_url) as wire:
        past = int(time.time()) - 3600
        await wire.send({"id": 1, "connect": {"token": _token(iat=past, exp=past + 60)}})

        assert (await wire.read())["error"]["code"] == 109


async def test_twenty_errors_close_3509(stage: Stage) -> None:
    """A client that errs on and on is sent away for good."""
    async with await stage.viewer() as viewer:
        for number in range(20):
            await viewer.send({"id": 100 + number, "rpc": {"method": "no.such", "data": {}}})

        assert (await viewer.closed())[0] == 3509


async def test_twenty_forbidden_channels_close_3509(stage: Stage) -> None:
    """Nineteen 103s are answered; who goes on trying other people's doors is sent away for good."""
    async with await stage.viewer() as viewer:
        for number in range(19):
            reply = await viewer.ask({"subscribe": {"channel": f"#buyer-{number}"}})
            assert reply["error"]["code"] == 103

        await viewer.send({"id": 99, "subscribe": {"channel": f"desk:{stage.show}"}})

        assert (await viewer.closed())[0] == 3509


async def test_foreign_origin_is_refused(service: Service) -> None:
    """A page elsewhere cannot open a socket, nor can one whose name merely contains ours."""
    for origin in ("https://evil.example", f"http://127.0.0.1:{service.port}.evil.example"):
        with pytest.raises(Exception, match="403"):
            await dial(service.socket_url, origin=origin)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/nowhere", 404, None),
        ("GET", "/nowhere", 404, None),
        ("PUT", "/v1/products", 405, "GET, HEAD, POST"),
        ("POST", "/healthz", 405, "GET, HEAD"),
    ],
)
async def test_unknown_path_or_method_is_a_problem(
    service: Service, method: str, path: str, status: int, allow: str | None
) -> None:
    """Also beside the API's own calls an error is a problem document; 405 names what goes."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=60) as http:
        answer = await http.request(method, path)
        schema = (await http.get("/openapi.json")).json()["components"]["schemas"]["Problem"]

    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    Draft202012Validator(schema).validate(answer.json())


@pytest.mark.parametrize(
    ("age_seconds", "status", "reason"),
    [(0, 401, "webhook.signature"), (3600, 400, "webhook.stale")],
)
async def test_refused_webhook_is_the_documented_problem(
    service: Service, age_seconds: int, status: int, reason: str
) -> None:
    """A wrong signature and an old one have their words, in an answer as openapi.json has it."""
    then, body = int(time.time()) - age_seconds, b"{}"
    key = (service.data / "sandbox.key").read_text() if age_seconds else "not the provider's key"
    known = signing_key(key.strip())
    headers = signed_headers(known, event="evt_1", timestamp=then, body=body)
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=60) as http:
        answer = await http.post("/v1/payments/sandbox/webhook", content=body, headers=headers)
        schema = (await http.get("/openapi.json")).json()["components"]["schemas"]["Problem"]

    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert answer.headers["content-type"] == "application/problem+json"
    Draft202012Validator(schema).validate(answer.json())


async def test_audit_holds_after_all_that(service: Service, stage: Stage) -> None:
    """After a buyer among offenders has paid, every promise still holds."""
    offer = await stage.offer(3)
    async with await stage.viewer() as viewer:
        held = await viewer.hold(offer, 2)
        assert (await viewer.checkout(held["hold"]))["outcome"] == "confirmed"

    done = await asyncio.to_thread(service.live, "audit", "--json")  # pings go on meanwhile

    assert done.returncode == 0, [json.loads(done.stdout)["findings"], done.stderr]
    assert json.loads(done.stdout)["ok"]
