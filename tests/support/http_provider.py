"""The example of a payment service (examples/provider/provider.py), with faults on demand."""

import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

from live.payments.providers.http import HttpProvider

SECRET = "whsec_dGhlIHNlY3JldCBvZiBhIHBheW1lbnQgc2VydmljZQ=="
EXAMPLE = Path(__file__).parents[2] / "examples" / "provider" / "provider.py"
HANG_SECONDS = 1.5  # longer than the tests' clients wait
_FATES = {"succeeded": "done", "pending": "pending", "failed": "refused"}


def load_example(monkey: dict[str, str]) -> ModuleType:
    """The example as a module of its own, with this environment."""
    before = dict(os.environ)
    os.environ.update(monkey)
    try:
        spec = importlib.util.spec_from_file_location("example_provider", EXAMPLE)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return module


class ExampleServer:
    """The example on a free port, in threads of this process."""

    def __init__(self, path: Path, *, news_url: str = "http://127.0.0.1:9/") -> None:
        self.example = load_example({"LIVE_PROVIDER_SECRET": SECRET, "NEWS_URL": news_url})
        self.books = self.example.Books(str(path))
        self.faults: dict[str, Any] = {}
        self.received: list[tuple[str, dict[str, str], bytes]] = []  # path, headers, body
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def _handler(self) -> type:
        outer = self

        class Faulty(self.example.Handler):  # type: ignore[misc,name-defined]  # loaded by its path
            books = outer.books

            def signed(self, body: bytes) -> bool:
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.received.append((self.path, headers, body))
                return bool(super().signed(body))

            def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
                faults = outer.faults
                if faults.get("down"):
                    status, body = 500, b"{}"
                if "say" in faults:
                    status, body = faults["say"]
                if faults.get("hang") == self.path or outer.losing:
                    outer.losing = False
                    time.sleep(HANG_SECONDS)
                    self.close_connection = True
                    return
                super().answer(status, body, kind)

        return Faulty

    losing = False  # the next answer is lost

    def start(self) -> None:
        authorise = self.books.authorise

        def losing(ask: dict[str, Any]) -> Any:
            if ask["token"] == "tok_lose":
                # Of the first call alone: a repeat is answered.
                self.losing = self.books.charge(ask["payment"])["state"] == "created"
                ask = ask | {"token": "tok_approve"}
            return authorise(ask)

        self.books.authorise = losing
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.books.db.close()

    def provider(self, *, timeout_seconds: float = 1.0) -> HttpProvider:
        return HttpProvider(self.url, secrets=(SECRET,), timeout_seconds=timeout_seconds)

    async def misbehave(
        self,
        *,
        down: bool = False,
        hang_captures: bool = False,
        refunds: str = "succeeded",
        **more: Any,
    ) -> None:
        self.faults = {"down": down, "hang": "/capture" if hang_captures else "", **more}
        self.books.bank = _FATES[refunds]

    async def finish(self, ref: str, verb: str) -> None:
        """What the buyer does at their bank."""
        with self.books.lock:
            (charge,) = self.books.rows("SELECT payment FROM charges WHERE ref = ?", ref)
            self.books.pay(charge["payment"], "authorised" if verb == "approve" else "declined")

    async def bank(self, ref: str, state: str) -> None:
        """What their bank does with refunds, days later."""
        with self.books.lock:
            self.books.rows(
                "UPDATE refunds SET state = ?, reason = 'the bank decided'"
                " WHERE payment = (SELECT payment FROM charges WHERE ref = ?)",
                _FATES[state],
                ref,
            )


@contextmanager
def running_example(
    path: Path, *, news_url: str = "http://127.0.0.1:9/"
) -> Iterator[ExampleServer]:
    server = ExampleServer(path, news_url=news_url)
    server.start()
    try:
        yield server
    finally:
        server.close()
