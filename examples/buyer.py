"""Waits in a show for an offer, buys one unit of it, and prints the order.

    python examples/buyer.py http://127.0.0.1:8000 demo [TOKEN]

Without a token it buys as a guest, where the service and the offer let guests.
"""

import asyncio
import json
import sys
from uuid import uuid4

import httpx

from live.client import Client, Connected, Published


async def buy(base: str, show: str, token: str) -> None:
    url = base.replace("http", "ws", 1) + "/connection/websocket"
    async with Client(url, token=token, data={"show": show}) as client:
        key = ""
        async for news in client:  # ends when the server sends us away for good
            for offer in open_offers(news):
                if not key:  # a key makes a call repeatable: after `NoAnswer`, ask again with it
                    key = str(uuid4())
                    hold = {"offer": offer, "qty": 1, "key": key}
                    print("hold:", json.loads(await client.rpc("offer.hold", hold))["outcome"])
                    payment = {"hold": key, "provider": "sandbox", "token": "tok_approve"}
                    await client.rpc("hold.checkout", payment | {"key": str(uuid4())})
            if isinstance(news, Published) and b"order.confirmed" in news.data:
                print(json.dumps(json.loads(news.data)["order"], indent=2))
                return


def open_offers(news: object) -> list[str]:
    """Offers that are open: of the show as it was when we came, or of an event since."""
    offers = []
    if isinstance(news, Connected):
        offers = json.loads(news.data)["show"]["offers"]
    elif isinstance(news, Published):
        offers = [json.loads(news.data).get("offer") or {}]
    return [offer["id"] for offer in offers if offer.get("phase") == "open"]


if __name__ == "__main__":
    base, show, *tokens = sys.argv[1:]
    token = tokens[0] if tokens else httpx.post(f"{base}/v1/guests").json()["token"]
    asyncio.run(buy(base, show, token))
