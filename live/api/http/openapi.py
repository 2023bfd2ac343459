"""The OpenAPI 3.1 document, made from the table that also routes: it cannot tell anything else."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from live.api.http.call import BODY_BYTES_MAX, KEY_CHARS_MAX
from live.api.http.paging import CURSOR_CHARS_MAX, LIMIT_DEFAULT, LIMIT_MAX
from live.api.http.table import Endpoint
from live.api.problems import MEDIA_TYPE
from live.api.schema.fields import REASON_CHARS_MAX, TIME_MS_MAX, Empty
from live.api.schema.http_answers import Problem
from live.domain.ids import SUB_BYTES_MAX
from live.domain.order import OrderState
from live.domain.orders.fulfilment import Fulfilment
from live.domain.outgoing.webhooks import DeliveryState
from live.ledger.orders.pages import Sorting

REFS = "#/components/schemas/{name}"
_ERRORS = {
    400: "A field is missing, of a wrong type or out of range; `field` names it",
    401: "No token, or one that is not valid",
    403: "The role may not do this",
    404: "Unknown, or somebody else's",
    408: "The body did not arrive in time",
    409: "The state does not allow it, or a key was used for something else",
    413: f"The body has more than {BODY_BYTES_MAX} bytes",
    415: "The body is not said to be application/json",
    429: "Too many requests",
    503: "One moment: repeat with the same key",
}
_KEY = "the same key and body give the same answer, another body 409"
_KEY_OF_SECRET = (
    "another body with the same key gives 409; no answer is stored: a repeat makes it anew"
)
_PARAMETER = re.compile(r"\{(?P<name>\w+)(:\w+)?\}")

# Any, here and below: a JSON document's values are whatever JSON has, and a table's endpoints
# have a body type each.
Json = dict[str, Any]


def openapi(endpoints: Sequence[Endpoint[Any]], *, version: str) -> Json:
    """Build the document."""
    kinds = [endpoint.body for endpoint in endpoints if endpoint.body is not Empty]
    kinds += [endpoint.answer for endpoint in endpoints]
    unique: list[type] = list(dict.fromkeys([*kinds, Problem]))
    found, components = msgspec.json.schema_components(unique, ref_template=REFS)
    schemas: dict[type, Json] = dict(zip(unique, found, strict=True))
    paths: Json = {}
    for endpoint in endpoints:
        path = _PARAMETER.sub(r"{\g<name>}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Live shopping", "version": version, "license": _LICENSE},
        "security": [{"token": []}, {"console": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


_LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
_SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "console": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-live",
        "description": "made by POST /v1/session; changing requests need an Origin of this server",
    },
}


def _operation(endpoint: Endpoint[Any], schemas: Mapping[type, Json]) -> Json:
    roles = sorted(role.value for role in endpoint.access.roles)
    operation: Json = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        "description": f"Roles: {', '.join(roles)}" if roles else "Without a token.",
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, schemas),
    }
    if not roles:
        operation["security"] = []
    if endpoint.raw:
        # The provider's own format, signed byte by byte; each one's documentation has the schema.
        content = {"application/json": {"schema": {"type": "object"}}}
        operation["requestBody"] = {"required": True, "content": content}
    elif endpoint.body is not Empty:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[endpoint.body]}},
        }
    return operation


def _parameters(endpoint: Endpoint[Any]) -> list[Json]:
    parameters: list[Json] = [
        {"name": found["name"], "in": "path", "required": True, "schema": _NAMES[found["name"]]}
        for found in _PARAMETER.finditer(endpoint.path)
    ]
    names = _QUERY | _QUERY_OF.get(endpoint.path, {})
    parameters += [
        {"name": name, "in": "query", "required": True, "schema": names[name]}
        for name in endpoint.needed
    ]
    parameters += [{"name": name, "in": "query", "schema": names[name]} for name in endpoint.query]
    if endpoint.method == "POST" and endpoint.keyed:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": endpoint.key_needed,
                "schema": {"type": "string", "pattern": f"^[ -~]{{1,{KEY_CHARS_MAX}}}$"},
                "description": _KEY_OF_SECRET if endpoint.secret else _KEY,
            }
        )
    return parameters


_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_PERSON = {"type": "string", "minLength": 1, "maxLength": SUB_BYTES_MAX}
_NAMES: dict[str, Json] = {
    "show": _ID,
    "offer": _ID,
    "sku": _ID,
    "order": _ID,
    "shipment": _ID,
    "return": _ID,
    "provider": _ID,
    "hold": {"type": "string", "format": "uuid", "description": "the key of `offer.hold`"},
    "sub": _PERSON,
    "buyer": _PERSON,
    "webhook": {"type": "string", "format": "uuid"},
    "types": {
        "type": "string",
        "description": "types of events, `order.*` or `*`, with commas between; unknown ones: 400",
    },
    "after": {
        "type": "string",
        "maxLength": CURSOR_CHARS_MAX,
        "description": "`cursor` of a page of events; left out: from the oldest that is kept",
    },
    "cursor": {
        "type": "string",
        "maxLength": CURSOR_CHARS_MAX,
        "description": "`next` of a page of this list; anything else is refused",
    },
    "limit": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
}
_QUERY: dict[str, Json] = _NAMES | {
    "order": {"type": "string", "enum": ["oldest", "newest"], "default": "oldest"}
}
_QUERY_OF: dict[str, dict[str, Json]] = {
    "/v1/webhooks/{webhook}/deliveries": {
        "state": {"type": "string", "enum": [*DeliveryState]},
    },
    "/v1/orders": {
        "order": {
            "type": "string",
            "enum": [*Sorting],
            "description": "`oldest`, but `updated` with `updated_since`: by their last change, "
            "the oldest first",
        },
        "state": {"type": "string", "enum": [*OrderState]},
        "fulfilment": {"type": "string", "enum": [*Fulfilment]},
        "to_ship": {
            "type": "boolean",
            "description": "true: orders of which units may leave now, whatever their state; "
            "false: the others",
        },
        "reference": {
            "type": "string",
            "minLength": 1,
            "maxLength": REASON_CHARS_MAX,
            "description": "the shop's own number of the order",
        },
        "updated_since": {
            "type": "integer",
            "minimum": 0,
            "maximum": TIME_MS_MAX,
            "description": "Unix ms; orders that changed at that time or later. Of a time to come: "
            "none yet, and the cursor goes on from there",
        },
    },
}
"""What a name means in one list and in no other."""


def _responses(endpoint: Endpoint[Any], schemas: Mapping[type, Json]) -> Json:
    responses: Json = {
        str(endpoint.status): {
            "description": "Done",
            "content": {"application/json": {"schema": schemas[endpoint.answer]}},
        }
    }
    problem = {MEDIA_TYPE: {"schema": schemas[Problem]}}
    for status, text in _ERRORS.items():
        responses[str(status)] = {"description": text, "content": problem}
    return responses
