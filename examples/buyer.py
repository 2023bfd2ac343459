"""Waits in a show for an offer, buys one unit of it, and prints the order.

    python examples/buyer.py http://127.0.0.1:8000 demo [TOKEN]

Without a token it buys as a guest, where the service and the offer let guests.
"""

import asyncio
import json
import sys
from uuid import uuid4

import httpx

from live.client import CallFailed, Client, Connected, Published


async def buy(base: str, show: str, token: str) -> None:
    url, key = base.replace("http", "ws", 1) + "/connection/websocket", ""
    async with Client(url, token=token, data={"show": show}) as client:
        async for news in client:  # ends when the server sends us away for good
            told = json.loads(news.data) if isinstance(news, Connected | Published) else {}
            offers = told["show"]["offers"] if isinstance(news, Connected) else [told.get("offer")]
            for offer in offers:  # of the show as it was when we came, or of an event since
                if offer and offer["phase"] == "open" and not key:
                    key = str(uuid4())  # after `NoAnswer`, repeat the call with the same key
                    hold = {"offer": offer["id"], "qty": 1, "key": key}
                    print("hold:", json.loads(await client.rpc("offer.hold", hold))["outcome"])
                    payment = {"hold": key, "provider": "sandbox", "token": "tok_approve"}
                    await client.rpc("hold.checkout", payment | {"key": str(uuid4())})
            if told.get("type") == "order.confirmed":
                print(json.dumps(told["order"], indent=2))
                return


if __name__ == "__main__":
    base, show, *tokens = sys.argv[1:]
    token = tokens[0] if tokens else httpx.post(f"{base}/v1/guests").json()["token"]
    try:
        asyncio.run(buy(base, show, token))
    except CallFailed as refused:  # such as: guests may not buy this
        sys.exit(f"refused: {refused}")
