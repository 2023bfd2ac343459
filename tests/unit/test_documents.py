"""OpenAPI and AsyncAPI: complete, and every reference leads somewhere."""

import re
from typing import Any, get_args

import orjson
from jsonschema import Draft202012Validator

from live.api import problems
from live.api.http.openapi import openapi
from live.api.http.routes import ENDPOINTS
from live.api.rpc.asyncapi import CARRIES, asyncapi
from live.domain.channels import ChannelKind
from live.domain.events import Event


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    if isinstance(node, list):
        return [found for value in node for found in references(value)]
    return []


def resolve(document: Any, reference: str) -> Any:
    node = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_openapi_has_every_call_and_resolves() -> None:
    """One operation a line of the table, ids unique, no dangling reference."""
    document = orjson.loads(orjson.dumps(openapi(ENDPOINTS, version="1")))

    operations = [one for path in document["paths"].values() for one in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(operations) == len(ENDPOINTS) == len(set(ids))
    assert all(resolve(document, reference) for reference in references(document))
    assert "/v1/users/{sub}/logout" in document["paths"]


def test_openapi_schemas_are_json_schema_and_keep_bounds() -> None:
    """What the server enforces is what the document promises."""
    schemas = openapi(ENDPOINTS, version="1")["components"]["schemas"]

    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    offer = schemas["OfferBody"]
    assert offer["additionalProperties"] is False
    assert offer["properties"]["quantity"]["maximum"] == 1_000_000
    assert set(offer["required"]) >= {"sku", "price_minor", "quantity", "mode"}


def test_openapi_says_what_parameters_may_be() -> None:
    """A made client refuses by itself what the server would."""
    paths = openapi(ENDPOINTS, version="1")["paths"]
    orders = {one["name"]: one["schema"] for one in paths["/v1/orders"]["get"]["parameters"]}
    assert (orders["limit"]["type"], orders["limit"]["minimum"], orders["limit"]["maximum"]) == (
        "integer",
        1,
        200,
    )
    assert orders["order"]["enum"] == ["oldest", "newest", "updated"]
    assert orders["buyer"]["maxLength"] == 255

    keys = {
        path: one
        for path, methods in paths.items()
        for one in methods.get("post", {}).get("parameters", [])
        if one["name"] == "Idempotency-Key"
    }
    needed = [path for path, one in keys.items() if one["required"]]
    order = "/v1/orders/{order}"
    of_orders = [f"{order}/{one}" for one in ("refund", "shipments", "returns")]
    assert needed == [*of_orders, "/v1/webhooks", "/v1/webhooks/{webhook}/rotate"]
    pattern = re.compile(keys[needed[0]]["schema"]["pattern"])
    assert pattern.match("a key") and not pattern.match("") and not pattern.match("x" * 256)
    webhook = paths["/v1/payments/{provider}/webhook"]["post"]["requestBody"]["content"]
    assert webhook["application/json"]["schema"]["type"] == "object"


def test_openapi_names_every_status_of_a_refusal() -> None:
    """Whatever status a failed call is answered by stands at every call."""
    statuses = {str(kind.status) for kind in problems._KINDS}

    for methods in openapi(ENDPOINTS, version="1")["paths"].values():
        for operation in methods.values():
            assert statuses <= operation["responses"].keys(), operation["operationId"]


def test_asyncapi_has_every_channel_and_event() -> None:
    """Each event of the domain is carried by a channel, and each reference resolves."""
    document = orjson.loads(orjson.dumps(asyncapi(version="1", rpc={})))

    # Moderators read `staff` under the desk's name.
    assert {kind.value for kind in ChannelKind} - {"staff"} <= document["channels"].keys()
    assert {event for kinds in CARRIES.values() for event in kinds} == set(get_args(Event))
    assert all(resolve(document, reference) for reference in references(document))
    assert document["channels"]["chat"]["address"] == "chat:{show}"
