"""The AsyncAPI 3 document: the WebSocket's channels and what each carries, from domain types."""

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from live.chat.rules import LINES_PER_SECOND_MAX
from live.domain.channels import RECOVERABLE, ChannelKind
from live.domain.events import (
    AnnouncementEvent,
    ChatAuthor,
    ChatDeleted,
    ChatMessage,
    ChatPinned,
    DeskFigures,
    Event,
    HoldEvent,
    ModerationEvent,
    OfferEvent,
    OrderEvent,
    PaymentFailed,
    PinEvent,
    Pulse,
    ShowEvent,
    StaffMessage,
    StaffOrderEvent,
)

Json = dict[str, Any]  # Any: a JSON document's values are whatever JSON has

CARRIES: dict[ChannelKind, tuple[type, ...]] = {
    ChannelKind.SHOW: (ShowEvent, PinEvent, OfferEvent, AnnouncementEvent),
    ChannelKind.CHAT: (ChatMessage, StaffMessage, ChatDeleted, ChatPinned),
    ChannelKind.PULSE: (Pulse,),
    ChannelKind.PERSONAL: (HoldEvent, OrderEvent, PaymentFailed),
    ChannelKind.DESK: (
        DeskFigures,
        OrderEvent,
        StaffOrderEvent,
        ModerationEvent,
        ChatAuthor,
        OfferEvent,
    ),
}

_WORDS = {
    ChannelKind.SHOW: "What happens to the show and its offers",
    ChannelKind.CHAT: "Chat; whoever has a token may publish, guests too, with a name or without. "
    f"Of the lines of one second the first {LINES_PER_SECOND_MAX} reach everybody, later ones "
    "their authors alone; the staff's always reach everybody",
    ChannelKind.PULSE: "The latest figures, at most five times a second, without history",
    ChannelKind.PERSONAL: "A person's own holds and orders; the server subscribes them",
    ChannelKind.DESK: "Figures, orders, moderation, drafts, who the authors of lines are; a "
    "moderator's without amounts",
}


def asyncapi(*, version: str, rpc: Mapping[str, tuple[type, type]] | None = None) -> Json:
    """Build the document; `rpc` names each method's request and answer type."""
    methods = dict(rpc or {})
    events = list(get_args(Event))
    kinds = list(dict.fromkeys([*events, *(kind for pair in methods.values() for kind in pair)]))
    found, schemas = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    payloads = dict(zip(kinds, found, strict=True))
    messages: Json = {
        kind.__name__: {
            "name": kind.__name__,
            "contentType": "application/json",
            "payload": payload,
        }
        for kind, payload in payloads.items()
    }
    channels: Json = {kind.value: _channel(kind) for kind in CARRIES}
    operations: Json = {f"receive_{kind.value}": _receive(kind) for kind in CARRIES}
    operations["publish_chat"] = {"action": "receive", "channel": _ref("channels", "chat")}
    for method, (request, answer) in methods.items():
        name = method.replace(".", "_")
        channels[name] = _method(method, request, answer)
        operations[name] = _call(name, request, answer)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Live shopping",
            "version": version,
            "description": "The Centrifuge client protocol, JSON or Protobuf, over WebSocket. "
            'A show is joined with connect data {"show": id}, a rehearsal with '
            '{"show": id, "passcode": text}; the answer\'s data is a Snapshot, as of show.state. '
            "Its `providers` are the ways to pay that are open to its reader: guests cannot pay by "
            "invoice. hold.checkout is error 106 where too many cards were declined.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _channel(kind: ChannelKind) -> Json:
    personal = kind is ChannelKind.PERSONAL
    name = "sub" if personal else "show"
    return {
        "address": "#{sub}" if personal else f"{kind.value}:{{show}}",
        "description": _WORDS[kind]
        + ("; recovers by offset" if kind in RECOVERABLE else "; does not recover"),
        "parameters": {name: {"description": f"id of the {'person' if personal else 'show'}"}},
        "messages": {
            event.__name__: _ref("components/messages", event.__name__) for event in CARRIES[kind]
        },
    }


def _receive(kind: ChannelKind) -> Json:
    """`send`: the document describes the server, and the server sends."""
    return {
        "action": "send",
        "channel": _ref("channels", kind.value),
        "messages": [
            _ref(f"channels/{kind.value}/messages", event.__name__) for event in CARRIES[kind]
        ],
    }


def _method(method: str, request: type, answer: type) -> Json:
    return {
        "address": method,
        "description": "rpc",
        "messages": {
            kind.__name__: _ref("components/messages", kind.__name__)
            for kind in dict.fromkeys((request, answer))
        },
    }


def _call(name: str, request: type, answer: type) -> Json:
    messages = f"channels/{name}/messages"
    return {
        "action": "receive",
        "channel": _ref("channels", name),
        "messages": [_ref(messages, request.__name__)],
        "reply": {
            "channel": _ref("channels", name),
            "messages": [_ref(messages, answer.__name__)],
        },
    }


def _ref(where: str, name: str) -> Json:
    return {"$ref": f"#/{where}/{name}"}
