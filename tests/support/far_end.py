"""The server's end of a client's connection, on bytes alone: no socket, no loop."""

from typing import Any

import orjson
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from live.client import ClientCore
from live.client.events import Event


class FarEnd:
    """One connection, begun and upgraded; `commands` are what the client has sent on it."""

    def __init__(self, core: ClientCore) -> None:
        self.core = core
        self.commands: list[dict[str, Any]] = []
        self.frames = 0
        self._ws = ServerProtocol()
        core.begin()
        self.listen()

    def listen(self) -> None:
        """Read what the client has to send; answer the upgrade."""
        for chunk in self.core.data_to_send():
            self._ws.receive_data(chunk)
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._ws.send_response(self._ws.accept(event))
                self.project()
                self.listen()
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.frames += 1
                self.commands += map(orjson.loads, bytes(event.data).split(b"\n"))

    def project(self, at: float | None = None) -> list[Event]:
        """Give the client what this end has written."""
        return self.core.receive(b"".join(self._ws.data_to_send()), at)

    def say(self, *objects: object, at: float | None = None) -> list[Event]:
        """Send these in one message; what the client makes of it."""
        self._ws.send_text(b"\n".join(map(orjson.dumps, objects)))
        events = self.project(at)
        self.listen()
        return events

    def say_raw(self, text: bytes) -> list[Event]:
        self._ws.send_text(text)
        return self.project()

    def welcome(self, **result: object) -> list[Event]:
        """Accept the connect command."""
        number = next(c["id"] for c in reversed(self.commands) if "connect" in c)
        return self.say({"id": number, "connect": {"client": "c", **result}})

    def publish(self, channel: str, offset: int, data: object = None) -> list[Event]:
        return self.say({"push": {"channel": channel, "pub": {"data": data, "offset": offset}}})

    def close(self, code: int, reason: str) -> list[Event]:
        self._ws.send_close(code, reason)
        return self.project()
