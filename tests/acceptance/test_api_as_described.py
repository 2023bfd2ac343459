"""Every answer of the running service is one that /openapi.json describes.

Method: schemathesis reads the document as a made client would, and calls: with what fits it, with
what is beside its bounds, as the shop, a host, a viewer and without a token. The names in paths are
those of things that are there, so answers are objects and not only refusals.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from live.domain.caller import Role
from tests.acceptance.conftest import Service, Stage, on_air, until
from tests.support.servers import scratch_directory

pytestmark = pytest.mark.timeout(600)

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
LOG_OUT = "^/v1/(session|users/)"  # would end the tokens that the run itself needs
ROLES = (Role.SERVICE, Role.HOST, Role.VIEWER, None)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Its own: what is made up here stays in no other test's lists."""
    found = Service(
        scratch_directory(),
        environment={"LIVE_PROVIDERS": "sandbox,invoice", "LIVE_WEBHOOK_DEVELOPMENT": "on"},
    )
    found.start()
    yield found
    found.stop()


@pytest.fixture
async def stage(service: Service) -> AsyncIterator[Stage]:
    async with on_air(service, f"s{uuid4().hex[:10]}") as found:
        yield found


async def places(stage: Stage) -> dict[str, str]:
    """A show with an order that has a parcel and a return, and a webhook: their names in paths."""
    offer = await stage.offer(20)
    async with await stage.viewer("ada") as buyer:
        hold = (await buyer.hold(offer))["hold"]
        await buyer.checkout(hold)
        async with asyncio.timeout(20):
            order = (await buyer.event("order.confirmed"))["order"]["order"]
    path = f"/v1/orders/{order}"

    async def is_paid() -> bool:
        return bool((await stage.http.get(path)).json()["state"] == "paid")

    await until(is_paid)
    parcel = {"carrier": "Parcels", "tracking_number": "1"}
    sent = (await stage.post(f"{path}/shipments", parcel)).json()
    back = {"items": [{"line": 1, "qty": 1}], "reason": "broken"}
    returned = (await stage.post(f"{path}/returns", back)).json()
    token = stage.service.token(Role.SERVICE, "shop")
    shop = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid4().hex}
    body = {"url": "http://127.0.0.1:9/", "types": ["*"]}
    made = await stage.http.post("/v1/webhooks", json=body, headers=shop)
    return {
        "show": stage.show,
        "offer": offer,
        "sku": sent["items"][0]["sku"],
        "hold": hold,
        "order": order,
        "shipment": sent["shipments"][0]["shipment"],
        "return": returned["returns"][0]["return"],
        "webhook": made.json()["webhook"],
        "provider": "sandbox",
    }


async def call_all(stage: Stage, folder: Path, role: Role | None, *options: str) -> str:
    """What schemathesis says of a run; "" where it has found nothing."""
    names = [f'"path.{name}" = "{value}"' for name, value in (await places(stage)).items()]
    config = folder / "schemathesis.toml"
    config.write_text("\n".join(["[parameters]", *names]))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{stage.service.url}/openapi.json", "--checks", ",".join(CHECKS)]
    command += ["--no-color", "--seed", "1", "--exclude-path-regex", LOG_OUT, "--warnings", "off"]
    command += ["--continue-on-failure", "--generation-database", "none", *options]
    if role is not None:
        command += ["-H", f"Authorization: Bearer {stage.service.token(role, 'ada')}"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=540, cwd=folder
    )
    return "" if done.returncode == 0 else done.stdout[-20_000:] + done.stderr


async def test_reading_calls_answer_as_described(stage: Stage, tmp_path: Path) -> None:
    """Lists and objects, and every refusal of a query."""
    quick = ("--include-method", "GET", "-n", "3", "--phases", "fuzzing", "--no-shrink")

    assert await call_all(stage, tmp_path, Role.SERVICE, *quick) == ""


@pytest.mark.long
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value if role else "nobody")
async def test_all_calls_answer_as_described(
    stage: Stage, tmp_path: Path, role: Role | None
) -> None:
    """Whatever changes something, too."""
    assert await call_all(stage, tmp_path, role, "-n", "30") == ""


async def test_document_is_openapi(service: Service) -> None:
    """The validator of the OpenAPI specification finds no fault in it."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as http:
        document = (await http.get("/openapi.json")).json()

    faults = [str(fault) for fault in OpenAPIV31SpecValidator(document).iter_errors()]

    assert faults == []
