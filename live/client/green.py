"""The client on gevent: one greenlet reads, others call. Needs gevent, which Locust brings.

Always: every call ends in an answer, `CallFailed`, or `NoAnswer` within `COMMAND_SECONDS`.
Unlike asyncio's, this client comes back when it is told to (`connect`, `stay`): a load test wants
to measure each attempt, and its people look at their screens only now and then.
"""

import ssl
import time
from collections.abc import Callable

import gevent
from gevent import socket
from gevent.event import AsyncResult, Event
from gevent.lock import RLock

from live.base.errors import reason_of
from live.client.core import ClientCore
from live.client.events import Connected, Disconnected, Gone, NoAnswer
from live.client.events import Event as ClientEvent
from live.client.shell import COMMAND_SECONDS, Listener, ending, settle
from live.protocol.commands import Result, RpcResult

READ_BYTES = 65_536
CONNECTS_MAX = 20  # in a row, of one `stay`


class GreenClient:
    """One client; `listener` hears each event in the greenlet that reads, and must not block.

    `receive_bytes`: the kernel's receive buffer, 0 for the system's choice.
    """

    def __init__(
        self,
        url: str,
        *,
        listener: Listener,
        token: str = "",
        data: object = None,
        name: str = "live",
        receive_bytes: int = 0,
    ) -> None:
        self.core = ClientCore(url, token=token, data=data, name=name)
        self.closed = Event()
        self.closed.set()
        self.end: Disconnected | None = None  # of the last connection
        self._hear = listener
        self._receive_bytes = receive_bytes
        self._waiting: dict[int, AsyncResult[Result]] = {}
        self._joined: AsyncResult[Connected] = AsyncResult()
        self._socket: socket.socket | None = None
        self._reader: gevent.Greenlet[..., None] | None = None
        self._sending = RLock()
        self._reading = Event()
        self._reading.set()

    # -- its life

    def connect(self) -> Connected:
        """Try once to connect. Raises NoAnswer, and Gone where it is not to be tried again."""
        self.end, self._joined = None, AsyncResult()
        self.core.begin()
        try:
            self._socket = self._open_socket()
        except OSError as fault:
            self._take(self.core.lost(f"not connected: {reason_of(fault)}"))
        else:
            self.closed.clear()
            self._reader = gevent.spawn(self._read, self._socket)
            self._flush()
        try:
            connected = self._joined.get(timeout=COMMAND_SECONDS)
        except gevent.Timeout:
            self._take(self.core.lost("no answer to connect"))
            raise NoAnswer(f"not connected in {COMMAND_SECONDS:.0f} s") from None
        assert connected is not None, "it is an event or an error"
        return connected

    def stay(self, attempt: Callable[[], Connected] | None = None) -> None:
        """Come back where the connection ended, with the pauses that the protocol wants.

        `attempt` is called in place of `connect`. Raises Gone where the end is final, or after
        `CONNECTS_MAX` attempts.
        """
        for _ in range(CONNECTS_MAX):
            if not self.closed.is_set():
                return
            if self.end is not None:
                if self.end.retry_seconds is None:
                    raise ending(self.end)
                gevent.sleep(self.end.retry_seconds)
            try:
                (attempt or self.connect)()
            except NoAnswer:
                continue  # `end` says how long to wait
        if self.closed.is_set():
            raise Gone(f"no connection in {CONNECTS_MAX} tries")

    def close(self) -> None:
        """Say goodbye and hang up."""
        self._take(self.core.leave())

    def cut(self) -> None:
        """Hang up without a word, as a lost network does."""
        self._take(self.core.lost("cut off by ourselves"))

    def stop_reading(self) -> None:
        """Behave like a phone in a tunnel: the socket stays open, nothing is taken from it."""
        self._reading.clear()

    def read_on(self) -> None:
        self._reading.set()

    # -- calls: each raises CallFailed, or NoAnswer where the outcome is unknown

    def rpc(self, method: str, data: object) -> bytes:
        """Call a method; the answer's data, as JSON."""
        result = self.answer(self.core.rpc(method, data))
        assert isinstance(result, RpcResult), "the core has checked it"
        return bytes(result.data) if result.data else b"null"

    def publish(self, channel: str, data: object) -> None:
        """Publish to a channel; the publisher hears it as well."""
        self.answer(self.core.publish(channel, data))

    def answer(self, number: int) -> Result:
        """Send what the core has to send and wait for the answer to this command of it."""
        promise: AsyncResult[Result] = AsyncResult()
        self._waiting[number] = promise
        try:
            self._flush()
            result = promise.get(timeout=COMMAND_SECONDS)
        except gevent.Timeout:
            raise NoAnswer(f"no answer in {COMMAND_SECONDS:.0f} s") from None
        finally:
            self._waiting.pop(number, None)
            self.core.forget(number)
        assert result is not None, "it is an answer or an error"
        return result

    # -- below

    def _open_socket(self) -> socket.socket:
        target = self.core.target
        plain = socket.socket(socket.AF_INET6 if ":" in target.host else socket.AF_INET)
        try:
            if self._receive_bytes:
                # Before connect: afterwards the window has been announced already.
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
            plain.settimeout(COMMAND_SECONDS)
            plain.connect((target.host, target.port))
            plain.settimeout(None)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.secure:
                context = ssl.create_default_context()
                return context.wrap_socket(plain, server_hostname=target.host)
        except BaseException:
            plain.close()
            raise
        return plain

    def _read(self, line: socket.socket) -> None:
        while line is self._socket:
            self._reading.wait()
            self._read_once(line)

    def _read_once(self, line: socket.socket) -> None:
        why = "cut off"
        try:
            line.settimeout(self.core.silence_seconds or None)
            data = line.recv(READ_BYTES)
        except OSError as fault:
            data, why = b"", reason_of(fault)
        at = time.time() * 1000
        if line is self._socket:  # not hung up meanwhile
            self._take(self.core.receive(data, at) if data else self.core.lost(why))

    def _take(self, events: list[ClientEvent]) -> None:
        for event in events:
            news = settle(self._waiting, event)
            if isinstance(event, Connected):
                self._joined.set(event)
            elif isinstance(event, Disconnected):
                self.end = event
                self._joined.set_exception(ending(event))
            if news is not None:
                self._hear(news)
        self._flush()
        if self.end is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        line, self._socket = self._socket, None
        if line is not None:
            line.close()
        if self._reader is not None and gevent.getcurrent() is not self._reader:
            self._reader.kill(block=False)
        self.closed.set()

    def _flush(self) -> None:
        line = self._socket
        if line is None:
            return
        try:
            with self._sending:  # two greenlets in `sendall` would mix their frames
                for chunk in self.core.data_to_send():
                    line.sendall(chunk)
        except OSError as fault:
            self._take(self.core.lost(reason_of(fault)))
