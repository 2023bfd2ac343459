"""A receiver of webhooks: verifies, notes, answers; works afterwards, one event after the other.

    pip install standardwebhooks
    WEBHOOK_SECRET=whsec_... PORT=8030 python receiver.py

What was answered 204 is in SQLite, so a crash loses nothing, and a repeat is known by its id.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

PORT = int(os.environ.get("PORT", "8030"))
BOOKS = os.environ.get("BOOKS", "webhooks.sqlite3")
BODY_BYTES_MAX, PAUSE_SECONDS = 64 * 1024, 5.0
# Ids stay for good here; 31 days are enough (events are kept for 30, and can be replayed).
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS events (n INTEGER PRIMARY KEY, id UNIQUE, body, done DEFAULT 0)"
)
Event = dict[str, Any]


class Handler(BaseHTTPRequestHandler):
    arrived = threading.Event()
    timeout = 10  # seconds for a caller to say what it has to say

    def do_POST(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(min(size, BODY_BYTES_MAX))  # as it came: the signature covers bytes
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            Webhook(os.environ["WEBHOOK_SECRET"]).verify(body, headers)
        except (WebhookVerificationError, ValueError):  # the latter: bytes that are no text
            return self.answer(401)
        with closing(sqlite3.connect(BOOKS)) as db, db:  # one that is there already is a repeat
            row = (headers["webhook-id"], body.decode())
            db.execute("INSERT OR IGNORE INTO events (id, body) VALUES (?, ?)", row)
        self.arrived.set()
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def work(on_event: Callable[[str, Event], None]) -> None:
    """Give each event to `on_event` with its id; one that fails is tried again and holds up the
    rest, so their order stays."""
    db = sqlite3.connect(BOOKS, isolation_level=None)
    while True:
        Handler.arrived.clear()
        found = db.execute("SELECT n, id, body FROM events WHERE NOT done ORDER BY n").fetchone()
        if found is None:
            Handler.arrived.wait()
            continue
        n, id, body = found
        try:
            on_event(id, json.loads(body))
            db.execute("UPDATE events SET done = 1 WHERE n = ?", (n,))
        except Exception as error:  # whatever the work may raise; it must not end the thread
            print(f"{id}: {error!r}, again soon", flush=True)
            time.sleep(PAUSE_SECONDS)


def run(on_event: Callable[[str, Event], None]) -> None:
    with closing(sqlite3.connect(BOOKS)) as db:
        db.execute(SCHEMA)
    threading.Thread(target=work, args=[on_event], daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()


if __name__ == "__main__":
    run(lambda id, event: print(id, event["type"], event["data"].get("order", ""), flush=True))
