"""A gateway for tests: the real protocol, hub and log behind a permissive channel policy.

Channels need no namespace; whoever is connected may publish, read history and presence. Tokens are
HS256 with the key `secret`, as the SDKs' own test suites have it.
Run: python -m tests.support.realtime_app REDIS_URL SHOW [--port N] [--asgi] [--limits JSON] ...
"""

import argparse
import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network

import jwt
import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from live.base.errors import CallError
from live.connection.addresses import ForwardedScope, Proxies
from live.connection.admission import DEFAULT as ADMISSION
from live.connection.admission import AdmissionLimits
from live.connection.application import Gateway
from live.connection.policy import Asking, Grant
from live.connection.ports import RpcCall, RpcHandler
from live.domain.caller import Caller, Role
from live.domain.ids import ShowId, buyer_of
from live.domain.show import ShowState
from live.fanout.hub import Hub
from live.protocol.codec import MESSAGE_BYTES_MAX
from live.protocol.codes import Failure
from live.protocol.commands import ConnectRequest, SubscribeRequest
from live.protocol.limits import DEFAULT, Limits
from live.showlog.follower import Follower
from live.showlog.log import ShowLog
from live.showlog.store import Retention
from live.transport.asgi import WebSocketEndpoint
from live.transport.handshake import FrontDoor
from live.transport.hosts import Hosts
from live.transport.plain import PlainHttp, PlainSocket
from live.transport.sse import SseEndpoint

KEY = "secret"


class TokenInvalid(CallError):
    code = 101


class TokenExpired(CallError):
    code = 109


def authenticate(token: str) -> Caller:
    if not token:
        return Caller(sub="", buyer=None, role=Role.VIEWER, shows=frozenset("*"), expires_at=None)
    try:
        claims = jwt.decode(token, KEY, algorithms=["HS256"], options={"verify_aud": False})
    except jwt.ExpiredSignatureError as fault:
        raise TokenExpired("expired") from fault
    except jwt.InvalidTokenError as fault:
        raise TokenInvalid("invalid") from fault
    sub = claims.get("sub", "")
    return Caller(
        sub=sub,
        buyer=buyer_of(sub, secret=KEY) if sub else None,
        role=Role.VIEWER,
        shows=frozenset("*"),
        expires_at=claims.get("exp"),
    )


class PermissivePolicy:
    """`presence`: keep and tell who comes and goes, at a cost per connection and listener."""

    def __init__(self, follower: Follower, show: ShowId, *, presence: bool = True) -> None:
        self._log = follower.log
        self._show = show
        self._presence = presence

    def show_of(self, caller: Caller, request: ConnectRequest) -> ShowId | Failure | None:
        return self._show

    def at_connect(self, caller: Caller, show: ShowId | None) -> list[Grant]:
        if not caller.sub:
            return []
        return [self._grant(f"#{caller.sub}")]

    def subscribe(self, asking: Asking, request: SubscribeRequest) -> Grant | Failure:
        if request.token:
            try:
                claims = jwt.decode(request.token, KEY, algorithms=["HS256"])
            except jwt.ExpiredSignatureError:
                return Failure(109, "token expired")
            except jwt.InvalidTokenError:
                return Failure(103, "permission denied")
            if claims.get("channel") != request.channel:
                return Failure(103, "permission denied")
        return self._grant(request.channel)

    def admits(self, asking: Asking, state: ShowState | None) -> bool:
        return True

    async def publish(self, asking: Asking, channel: str, data: bytes) -> None:
        info = msgspec.json.encode(asking.info)
        await self._log.store.append(
            self._show, f"x:{channel}", data, retention=Retention(_entries(channel), 300), info=info
        )

    def _grant(self, channel: str) -> Grant:
        return Grant(
            name=channel,
            show=self._show,
            log=f"x:{channel}",
            keep=_entries(channel),
            presence=self._presence,
            join_leave=self._presence,
        )


def _entries(channel: str) -> int:
    """How many publications a channel keeps: by its namespace; the suites expect 2 and 100."""
    return {"smallhistory": 2, "longhistory": 300}.get(channel.partition(":")[0], 100)


def echo(call: RpcCall) -> None:
    call.reply(call.data or b"null")


async def slow(call: RpcCall) -> object:
    await asyncio.sleep(10)
    return {}


def build(
    redis_url: str,
    show: str,
    *,
    limits: Limits = DEFAULT,
    admission: AdmissionLimits = ADMISSION,
    proxies: Proxies | None = None,
    presence: bool = True,
    rpcs: Mapping[str, RpcHandler] | None = None,
) -> Starlette:
    hub = Hub()
    follower = Follower(ShowLog(redis_url), hub)
    gateway = Gateway(
        hub,
        follower,
        PermissivePolicy(follower, ShowId(show), presence=presence),
        authenticate,
        rpcs={"echo": echo, "slow": slow, **(rpcs or {})},
        limits=limits,
        admission=admission,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await follower.open()
        await gateway.open()
        await follower.log.store.position(ShowId(show))  # now it is known, and anybody may join
        yield
        await gateway.close()
        await follower.close()

    socket_routes = WebSocketEndpoint(gateway).routes()
    stream = Route("/connection/uni_sse", SseEndpoint(gateway).serve, methods=["GET", "POST"])
    trusted = proxies or Proxies()
    middleware = [Middleware(ForwardedScope, trusted)]
    app = Starlette(routes=[*socket_routes, stream], middleware=middleware, lifespan=lifespan)
    app.state.gateway = gateway
    app.state.proxies = trusted
    return app


def config(
    app: Starlette, port: int, *, front: bool = True, compression: bool = False
) -> uvicorn.Config:
    """`front`: the front door; else the plain ASGI route behind the guard alone."""
    hosts = Hosts("127.0.0.1")
    door = FrontDoor(
        app.state.gateway, hosts=hosts, proxies=app.state.proxies, compression=compression
    )
    headcount = app.state.gateway.admission.http
    plain = partial(PlainHttp, hosts=hosts, headcount=headcount, proxies=app.state.proxies)
    return uvicorn.Config(
        app,
        # uvicorn wants a class and only calls it; the door is what makes connections.
        http=door.protocol if front else plain,  # type: ignore[arg-type]
        host="127.0.0.1",
        port=port,
        ws=PlainSocket,
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        proxy_headers=False,
        log_level="warning",
    )


class Server(uvicorn.Server):
    """Tells when it listens, and on which port."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


@asynccontextmanager
async def serving(app: Starlette, *, front: bool = True) -> AsyncIterator[str]:
    """Serve an app on a free loopback port of this process; yields the WebSocket's address."""
    server = Server(config(app, 0, front=front))
    running = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.listening.wait(), 60)
    try:
        yield f"ws://127.0.0.1:{server.port}/connection/websocket"
    finally:
        server.should_exit = True
        await running


class Spawned:
    """The app in a process of its own, on uvloop, as it would run."""

    def __init__(self, redis_url: str, show: str, *options: str) -> None:
        command = [sys.executable, "-m", "tests.support.realtime_app", redis_url, show, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().removeprefix("listening "))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def close(self) -> None:
        """Stop it in order; it must go by itself."""
        assert self.process.stdout is not None
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()


async def main(arguments: argparse.Namespace) -> None:
    limits = Limits(**json.loads(arguments.limits))
    presence = not arguments.no_presence
    app = build(
        arguments.redis_url,
        arguments.show,
        limits=limits,
        admission=AdmissionLimits(**json.loads(arguments.admission)),
        proxies=Proxies([ip_network(arguments.proxy)] if arguments.proxy else ()),
        presence=presence,
    )
    server = Server(
        config(app, arguments.port, front=not arguments.asgi, compression=arguments.compression)
    )
    running = asyncio.create_task(server.serve())
    await server.listening.wait()
    print(f"listening {server.port}", flush=True)  # noqa: T201  # whoever spawned us reads it
    await running


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("redis_url")
    parser.add_argument("show")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--asgi", action="store_true", help="without the front door")
    parser.add_argument("--no-presence", action="store_true")
    parser.add_argument("--compression", action="store_true", help="where clients offer it")
    parser.add_argument("--limits", default="{}", help="fields of Limits, as JSON")
    parser.add_argument("--admission", default="{}", help="fields of AdmissionLimits, as JSON")
    parser.add_argument("--proxy", default="", help="a trusted network")
    uvloop.run(main(parser.parse_args()))
