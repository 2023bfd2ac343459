"""The official JavaScript verifier under Node takes what we send, where Node and npm are found."""

import asyncio
import json
from pathlib import Path

import pytest

from live.ledger.db.pool import Pool
from tests.support.events_kit import SHOP, going_out
from tests.support.node import install, run_node
from tests.support.receiver import Got, receiving

PACKAGE = "standardwebhooks@1.1.1"

VERIFY = """
const { Webhook } = require("standardwebhooks");
const { secrets, calls } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const told = calls.map(({ body, headers }) => secrets.map((secret) => {
  try { return new Webhook(secret).verify(body, headers).type; }
  catch (error) { return error.name; }
}));
console.log(JSON.stringify(told));
"""


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, and a script that verifies."""
    folder = tmp_path_factory.mktemp("verifier")
    install(folder, PACKAGE)
    (folder / "verify.cjs").write_text(VERIFY)
    return folder


async def verify(folder: Path, calls: list[Got], *secrets: str) -> list[list[str]]:
    """What each secret makes of each call: the type of its event, or the name of a fault."""
    asked = [{"body": one.body.decode(), "headers": one.headers} for one in calls]
    said = await asyncio.to_thread(
        run_node, folder / "verify.cjs", json.dumps({"secrets": secrets, "calls": asked})
    )
    told: list[list[str]] = json.loads(said)
    return told


async def test_javascript_verifier_takes_what_is_sent(pool: Pool, verifier: Path) -> None:
    """Both secrets of a rotation are good, a third is not; text beyond ASCII is."""
    async with going_out(pool) as out, receiving() as shop:
        made = await out.endpoint(shop.url)
        await out.pool.execute(
            """INSERT INTO events (type, subject, detail)
               VALUES ('product.updated', 'product:x', '{"title": "Чайник – 5 €"}')"""
        )
        rotated = await out.endpoints.rotate(made.endpoint.webhook, SHOP)
        other = await out.endpoint("http://127.0.0.1:9/")
        await out.place()
        await out.sender.send_due()

        told = await verify(verifier, shop.got, made.secret, rotated.secret, other.secret)

        assert told == [["product.updated", "product.updated", "WebhookVerificationError"]]
