"""Echo behind both doors of the gateway: what Autobahn's fuzzing client wants to talk to.

The doors, their connections and their closing are the gateway's; only what is said is not the
client protocol. Run: python -m tests.support.echo_app [--asgi]
"""

import argparse
import asyncio
from typing import cast

import uvloop
from starlette.applications import Starlette
from starlette.websockets import WebSocket
from websockets.frames import Opcode

from live.connection.addresses import Proxies
from live.connection.application import Gateway
from live.domain.ids import ShowId
from live.fanout.hub import Hub
from live.protocol import codes
from live.protocol.codec import Codec
from live.protocol.codes import Close
from live.protocol.port import Port
from live.protocol.session import Session
from live.protocol.shared import frame_header
from live.showlog.follower import Follower
from live.showlog.log import ShowLog
from live.transport import asgi
from live.transport import handshake as front
from live.transport.asgi import WebSocketPort
from live.transport.fast.light import LightConnection
from tests.support.realtime_app import PermissivePolicy, Server, authenticate, config


class Echo:
    """Stands for a session, and answers each message with itself."""

    client = "echo"

    def __init__(self, port: Port) -> None:
        self.port = port

    def receive(self, message: bytes) -> None:
        try:
            message.decode()
        except UnicodeDecodeError:
            self.close(codes.INVALID_UTF8)
        else:
            self.port.write(message)

    def close(self, close: Close) -> None:
        self.port.close(close)

    def lost(self) -> None:
        pass


class EchoConnection(LightConnection):
    """Takes text and binary messages, as no codec of ours does."""

    def _take_message(self, opcode: Opcode, data: bytes) -> None:
        if opcode is Opcode.TEXT:
            self._deliver(data)
        elif self._core is None or self._core.open:
            self.transport.write(frame_header(0x80 | opcode, len(data)) + data)


async def read(socket: WebSocket, session: Session, codec: Codec) -> None:
    """Take the place of the plain route's reader, for messages of both kinds."""
    port = session.port
    assert isinstance(port, WebSocketPort)
    while (event := await socket.receive())["type"] != "websocket.disconnect":
        message = event.get("text")
        message = event["bytes"] if message is None else message
        port._put(message, len(message))


class EchoGateway(Gateway):
    """The real one, with its admission and its limits; it never speaks to Redis."""

    def session(
        self, port: Port, codec: Codec, *, one_way: bool = False, address: str | None = None
    ) -> Session:
        return cast(Session, Echo(port))


def build() -> Starlette:
    front.LightConnection = EchoConnection  # type: ignore[attr-defined]  # what it makes
    asgi._read = read
    hub = Hub()
    follower = Follower(ShowLog("redis://127.0.0.1:1"), hub)
    policy = PermissivePolicy(follower, ShowId("echo"))
    gateway = EchoGateway(hub, follower, policy, authenticate)
    app = Starlette(routes=asgi.WebSocketEndpoint(gateway).routes())
    app.state.gateway = gateway
    app.state.proxies = Proxies()
    return app


async def main(*, plain: bool) -> None:
    server = Server(config(build(), 0, front=not plain))
    running = asyncio.create_task(server.serve())
    await server.listening.wait()
    print(f"listening {server.port}", flush=True)  # noqa: T201  # whoever spawned us reads it
    await running


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--asgi", action="store_true", help="without the front door")
    uvloop.run(main(plain=parser.parse_args().asgi))
