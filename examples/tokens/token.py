"""A viewer's token, with nothing but Python: LIVE_SECRET=... python token.py SUB SHOW"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


sub, show = sys.argv[1:]
secret = os.environ["LIVE_SECRET"].partition(",")[0]  # of two, the first one signs
now = int(time.time())
claims = {"sub": sub, "role": "viewer", "shows": [show], "aud": "live"}
claims |= {"iat": now, "exp": now + 3_600}
signed = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
sys.stdout.write(f"{signed}.{part(signature)}\n")
