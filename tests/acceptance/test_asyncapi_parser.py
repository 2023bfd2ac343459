"""The official parser of AsyncAPI takes the document, where Node and npm are found."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import Service
from tests.support.node import install, run_node

PACKAGE = "@asyncapi/parser@3.6.6"
KNOWN = {"asyncapi-latest-version"}  # 3.0.0 is what code generators read so far

PARSE = """
const { Parser } = require("@asyncapi/parser");
const text = require("fs").readFileSync(0, "utf8");
new Parser().parse(text).then(({ document, diagnostics }) => {
  const faults = diagnostics.map(({ code, message, path }) => ({ code, message, path }));
  const channels = document === undefined ? [] : document.channels().all().map((one) => one.id());
  console.log(JSON.stringify({ faults, channels }));
});
"""


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, and a script that parses what it reads."""
    folder = tmp_path_factory.mktemp("asyncapi")
    install(folder, PACKAGE)
    (folder / "parse.cjs").write_text(PARSE)
    return folder


async def test_parser_takes_the_document(service: Service, parser: Path) -> None:
    """Without a fault, and with every channel and RPC that the service has."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=20) as http:
        text = (await http.get("/asyncapi.json")).text

    said = await asyncio.to_thread(run_node, parser / "parse.cjs", text)

    found = json.loads(said)
    assert [fault for fault in found["faults"] if fault["code"] not in KNOWN] == []
    assert set(found["channels"]) == set(json.loads(text)["channels"])
    assert {"order_withdraw", "order_get", "hold_checkout"} <= set(found["channels"])
