"""A quote hook: what shipping, tax and duty a purchase comes to. Standard library alone.

    LIVE_QUOTE_SECRET=whsec_… python examples/quote/quote.py 9000

and the service with LIVE_QUOTE_URL=http://127.0.0.1:9000/quote and the same secret.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["LIVE_QUOTE_SECRET"].split(",")[0].removeprefix("whsec_"))
BODY_BYTES_MAX = 256 * 1024
SKEW_SECONDS_MAX = 300
HOME, NEAR = "DE", {"AT": 20, "BE": 21, "DE": 19, "FR": 20, "NL": 21}  # VAT in percent


def is_ours(headers, body: bytes) -> bool:
    """Whether the service signed this, and just now."""
    event, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    mac = hmac.new(KEY, f"{event}.{stamp}.".encode() + body, hashlib.sha256)
    wanted = "v1," + base64.b64encode(mac.digest()).decode()
    given = headers.get("webhook-signature", "").split()
    signed = any(hmac.compare_digest(wanted, one) for one in given)
    return signed and abs(time.time() - int(stamp)) <= SKEW_SECONDS_MAX


def quote(asked: dict) -> tuple[int, dict]:
    """Prices contain our VAT at home and near; elsewhere we add duty and tax nothing."""
    country, currency = asked["contact"]["country"], asked["currency"]
    goods = sum(item["qty"] * item["price_minor"] for item in asked["items"])
    if country == "AQ":
        return 422, {"reason": "We do not ship to Antarctica."}
    shipping = [{"id": "standard", "label": "Standard", "amount_minor": 490, "days": 4}]
    tax, duty = [], 0
    if country in NEAR:
        rate = NEAR[country]
        vat = round(goods * rate / (100 + rate))
        tax = [{"label": f"VAT {rate} %", "amount_minor": vat, "inclusive": True}]
    else:
        shipping[0] |= {"amount_minor": 1990, "days": 14}
        duty = goods // 10
    if country == HOME:
        shipping.append({"id": "express", "label": "Express", "amount_minor": 990, "days": 1})
    return 200, {
        "currency": currency,
        "quote_id": f"q-{time.time_ns()}",  # keep it with the amounts, to find it again
        "expires_at": int((time.time() + 900) * 1_000),
        "shipping": shipping,
        "tax": tax,
        "duties_minor": duty,
    }


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("content-length", 0)), BODY_BYTES_MAX))
        status, answer = quote(json.loads(body)) if is_ours(self.headers, body) else (401, {})
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hook)
    print(f"http://127.0.0.1:{server.server_port}/quote", flush=True)
    server.serve_forever()
