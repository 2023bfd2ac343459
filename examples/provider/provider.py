"""A payment service that the provider `http` asks: five signed calls, and news by webhook.

Money is a row of SQLite here; put your own in its place. A call is repeated until its answer
arrives, so each is safe to do twice: a charge is known by its payment, a refund by its key.
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = base64.b64decode(os.environ.get("LIVE_PROVIDER_SECRET", "").removeprefix("whsec_"))
NEWS = os.environ.get("NEWS_URL", "http://127.0.0.1:8000/v1/payments/http/webhook")
PORT = int(os.environ.get("PORT", "8020"))
BODY_BYTES_MAX, AGE_SECONDS_MAX = 64 * 1024, 300
SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (payment TEXT PRIMARY KEY, ref TEXT, state TEXT, reason TEXT,
    amount_minor INT, currency TEXT, captured_minor INT DEFAULT 0);
CREATE TABLE IF NOT EXISTS refunds (key TEXT PRIMARY KEY, payment TEXT, amount_minor INT,
    state TEXT, reason TEXT DEFAULT '');"""
CARDS = {"tok_approve": "authorised", "tok_action_required": "action_required"}
Json = dict[str, Any]


def signature(id: str, stamp: str, body: bytes) -> str:
    mac = hmac.new(SECRET, f"{id}.{stamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


class Books:
    """All charges and refunds. `bank`: what becomes of a refund, done | pending | refused."""

    def __init__(self, path: str) -> None:
        self.lock, self.bank = threading.Lock(), "done"
        self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.executescript(SCHEMA)

    def rows(self, sql: str, *values: object) -> list[Json]:
        return [dict(row) for row in self.db.execute(sql, values)]

    def charge(self, payment: str) -> Json:
        found = self.rows("SELECT * FROM charges WHERE payment = ?", payment)
        if not found:
            return {"payment": payment, "state": "created"}
        refunds = self.rows("SELECT * FROM refunds WHERE payment = ? ORDER BY rowid", payment)
        back = sum(one["amount_minor"] for one in refunds if one["state"] == "done")
        charge = found[0] | {"refunds": refunds, "refunded_minor": back}
        if back:
            whole = back == charge["captured_minor"]
            charge["state"] = "refunded" if whole else "partially_refunded"
        if charge["state"] == "action_required":
            page = f"http://127.0.0.1:{PORT}/pay/{payment}"
            charge["action"] = {"kind": "redirect", "value": page}
        return charge

    def authorise(self, ask: Json) -> Json:
        state = CARDS.get(ask["token"] or "", "declined")
        reason = "the card was declined" if state == "declined" else ""
        self.rows(
            "INSERT OR IGNORE INTO charges (payment, ref, state, reason, amount_minor, currency)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            *(ask["payment"], f"ch_{uuid.uuid4().hex}", state, reason),
            *(ask["amount_minor"], ask["currency"]),
        )
        return self.charge(ask["payment"])

    def look_up(self, ask: Json) -> Json:
        return self.charge(ask["payment"])

    def capture(self, ask: Json) -> Json:
        return self._end(ask, "captured", ask["amount_minor"], before=("authorised",))

    def void(self, ask: Json) -> Json:
        return self._end(ask, "voided", 0, before=("authorised", "action_required"))

    def _end(self, ask: Json, state: str, captured: int, before: tuple[str, ...]) -> Json:
        now = self.rows("SELECT state FROM charges WHERE payment = ?", ask["payment"])
        if not now or now[0]["state"] not in (*before, state):
            return {"result": "refused", "reason": f"is {now[0]['state'] if now else 'unknown'}"}
        update = "UPDATE charges SET state = ?, captured_minor = ? WHERE payment = ?"
        self.rows(update, state, captured, ask["payment"])
        return {"result": "done"}

    def refund(self, ask: Json) -> Json:
        known = "SELECT state AS result, reason FROM refunds WHERE key = ?"
        if not self.rows(known, ask["key"]):
            charge = self.charge(ask["payment"])
            left = charge.get("captured_minor", 0) - sum(
                one["amount_minor"]
                for one in charge.get("refunds", [])
                if one["state"] != "refused"
            )
            if ask["amount_minor"] > left:
                return {"result": "refused", "reason": f"only {left} can go back"}
            why = "the bank refused it" if self.bank == "refused" else ""
            self.rows(
                "INSERT INTO refunds VALUES (?, ?, ?, ?, ?)",
                *(ask["key"], ask["payment"], ask["amount_minor"], self.bank, why),
            )
        return self.rows(known, ask["key"])[0]

    def pay(self, payment: str, state: str) -> None:
        """The buyer is back from their bank: authorised, or declined."""
        waiting = "UPDATE charges SET state = ? WHERE payment = ? AND state = 'action_required'"
        self.rows(waiting, state, payment)


class Handler(BaseHTTPRequestHandler):
    books: Books
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(min(size, BODY_BYTES_MAX))
        if self.path.startswith("/pay/"):  # the form below; a real one asks the buyer's bank
            payment, state = self.path.removeprefix("/pay/").split("/")
            with self.books.lock:
                self.books.pay(payment, "authorised" if state == "yes" else "declined")
            tell({"type": "payment.updated", "payment": payment})
            return self.answer(200, b"You may go back to the show.", "text/plain")
        if not self.signed(body):
            return self.answer(401, b"{}")
        ask = json.loads(body)
        if self.path != f"/{ask['call']}":  # the signature covers the body, and not the path
            return self.answer(400, b"{}")
        with self.books.lock:
            found = getattr(self.books, ask["call"])(ask)
        self.answer(200, json.dumps(found).encode())

    def do_GET(self) -> None:
        button = "<form method=post action='{0}/{1}'><button>{1}</button></form>"
        page = "".join(button.format(self.path, word) for word in ("yes", "no"))
        self.answer(200, page.encode(), "text/html")

    def signed(self, body: bytes) -> bool:
        id, stamp = self.headers["webhook-id"] or "", self.headers["webhook-timestamp"] or ""
        if not stamp.isdecimal() or abs(time.time() - int(stamp)) > AGE_SECONDS_MAX:
            return False
        given = (self.headers["webhook-signature"] or "").split()
        wanted = signature(id, stamp, body)
        return any([hmac.compare_digest(wanted, one) for one in given])

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def tell(news: Json) -> None:
    """News are a hint to ask; what is lost here is asked for later anyway."""
    body, id, stamp = json.dumps(news).encode(), f"msg_{uuid.uuid4().hex}", str(int(time.time()))
    headers = {"webhook-id": id, "webhook-timestamp": stamp, "content-type": "application/json"}
    headers["webhook-signature"] = signature(id, stamp, body)
    try:
        urllib.request.urlopen(urllib.request.Request(NEWS, body, headers), timeout=5).close()
    except OSError as error:
        print(f"news of {news['payment']} not taken: {error}")


if __name__ == "__main__":
    Handler.books = Books(os.environ.get("BOOKS", "provider.sqlite3"))
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
