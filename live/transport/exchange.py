"""uvicorn's HTTP protocol with one exchange at a time: a request, its answer, the next request.

uvicorn parses all that it has read and keeps each request in it until its turn comes, so one
connection that does not wait for its answers takes the memory and the loop of everybody.
Always: the parser gets no byte behind a request before its answer is complete; what was read and
not parsed is one read at most, and nothing is read while there is some. Whoever sends on has their
requests answered in order, in turns with all others who do; an upgrade waits as they do.
Not here: how long a peer may keep bytes behind an answer, and every other bound (http_guard.py).
"""

import asyncio
import re
from functools import partial
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from live.transport.fast.turns import TURNS, Turns

# A chunk of one byte has six, so this is at most 680 calls of ours: 1 ms of the loop.
PIECE_BYTES_MAX: Final = 4_096
PASS_PIECES_MAX: Final = 4  # that one connection may have parsed before others get a turn
REQUESTS_PER_TURN: Final = 2  # of all that were sent before the answer in front of them

# Every request that has no length ends with an empty line; those in front of one are nothing.
_EMPTY_LINES: Final = re.compile(rb"[\r\n]+")
_LINE_AND_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")

_NEXT_REQUESTS: Final = Turns(steps_max=REQUESTS_PER_TURN)


class Exchange(HttpToolsProtocol):
    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        # Any: uvicorn's own type for what the lifespan left there.
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.flow: _Flow
        self._read = b""
        self._parsed = 0  # bytes of it that the parser has had
        self._turn_due = False
        self._in_request = False  # its first byte was parsed, its last one was not
        self._body_left = 0  # bytes of a body with a length
        self._parser_skips = False  # the body: it stops at the head of every upgrade

    # From the transport

    # As uvicorn's.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._take_unparsed()

    def data_received(self, data: bytes) -> None:
        self._read = self._take_unparsed() + data
        self._go_on()

    def handle_websocket_upgrade(self) -> None:
        """Hand the socket over, with what was read behind the head."""
        behind = self._take_unparsed()
        self.flow.hold(False)
        super().handle_websocket_upgrade()
        # It holds us; uvicorn lets go of it where a connection stays HTTP, and only there.
        self.parser = None  # type: ignore[assignment]
        if behind:
            self.transport.get_protocol().data_received(behind)  # type: ignore[attr-defined]

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_request = True

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        length = dict(self.headers).get(b"content-length", b"0")  # the parser has checked it
        self._body_left = int(length)
        self._parser_skips = self._body_left > 0 and self.parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        self._body_left = max(0, self._body_left - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not (self._parser_skips and self._body_left):
            self._in_request = self._parser_skips = False
            self._request_complete()

    def _request_complete(self) -> None:
        super().on_message_complete()

    # From the application

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unparsed():
            self._go_on_later(_NEXT_REQUESTS)

    # Starlette's words for the same types.
    def _start_asgi_task(  # type: ignore[override]
        self, cycle: RequestResponseCycle, app: ASGIApp
    ) -> None:
        super()._start_asgi_task(cycle, partial(_answer, app, cycle))

    # Passes

    def _go_on(self) -> None:
        """Parse what was read, until an answer is due or others have their turn."""
        pieces = 0
        while self._may_parse():
            if pieces == PASS_PIECES_MAX:
                self._go_on_later(TURNS)
                break
            pieces += 1
            self._parse(self._next_piece())
        self._hold()

    def _go_on_later(self, turns: Turns) -> None:
        if not self._turn_due:
            self._turn_due = True
            turns.later(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_due = False
        self._go_on()

    def _may_parse(self) -> bool:
        return (
            self._unparsed() > 0
            and not self._turn_due
            and self.parser is not None
            and not self.transport.is_closing()
            and (self._in_request or not self._answering())
        )

    def _parse(self, piece: bytes) -> None:
        """Give this to the parser, or to the request whose body the parser passes over."""
        if not self._parser_skips:
            super().data_received(piece)
            return
        self.on_body(piece)
        if not self._body_left:
            self.on_message_complete()

    def _next_piece(self) -> bytes:
        """Take what ends where a request may end; there is none with two ends."""
        start = self._parsed
        end = min(start + PIECE_BYTES_MAX, len(self._read))
        if self._body_left:
            end = min(end, start + self._body_left)
        else:
            found = _EMPTY_LINES.match(self._read, start, end)
            found = found or _LINE_AND_EMPTY_LINE.search(self._read, start, end)
            end = found.end() if found else end
        self._parsed = end
        return self._read[start:end]

    def _hold(self) -> None:
        """Read no more while there is something that waits."""
        if self.parser is None or self.transport.is_closing():
            self._take_unparsed()
            return
        if self._behind_answer():  # old clients send an empty line behind a body
            empty = _EMPTY_LINES.match(self._read, self._parsed)
            self._parsed = empty.end() if empty else self._parsed
        if not self._unparsed():
            self._take_unparsed()  # and keep nothing of it
        self.flow.hold(self._unparsed() > 0)

    def _unparsed(self) -> int:
        return len(self._read) - self._parsed

    def _take_unparsed(self) -> bytes:
        rest = self._read[self._parsed :]
        self._read, self._parsed = b"", 0
        return rest

    def _answering(self) -> bool:
        """Whether an answer is under way; then a peer that sends slowly prolongs nothing."""
        return self.cycle is not None and not self.cycle.response_complete

    def _behind_answer(self) -> bool:
        """Whether what was read and not parsed came before its time."""
        return self._answering() and not self._in_request


class _Flow(FlowControl):
    """uvicorn's, which pauses reading for a body that nobody takes; `hold` is another reason."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._held = False

    def hold(self, held: bool) -> None:
        if held != self._held:
            self._held = held
            self._read_or_not()

    def pause_reading(self) -> None:
        self.read_paused = True
        self._read_or_not()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._read_or_not()

    def _read_or_not(self) -> None:
        if self._transport.is_closing():
            return
        if self.read_paused or self._held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


async def _answer(
    app: ASGIApp, cycle: RequestResponseCycle, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run the application for one request; whoever leaves in the middle of it is nobody's fault."""

    async def tell(message: Message) -> None:
        if cycle.transport.is_closing():
            cycle.disconnected = True  # uvicorn is told a turn of the loop later, and would write
        await send(message)

    try:
        await app(scope, receive, tell)
    except ClientDisconnect:
        cycle.disconnected = True
