"""What load balancers and Prometheus ask: does it live, may it take traffic, how is it doing.

Always: `/healthz` touches nothing outside the process, so a stopped Redis never gets a gateway
killed; `/readyz` names every reason why it is not ready, and asks Redis on the connections that
sell, so that it cannot be well where they are not. Of a cluster one node that answers is
enough: a dead one costs its own shows, and taking the gateways away would cost all the others too.
"""

import asyncio
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from live.errors import EngineError, reason_of
from live.ledger.pool import DATABASE_ERRORS, Pool
from live.telemetry import render_metrics

CHECK_SECONDS = 1.0


class Engine(Protocol):
    """The stock engine, as far as it is needed here."""

    async def must_answer(self) -> None:
        """Raise EngineError, with the reason, where it cannot work now."""


class Probe:
    """Asks the engines; `draining` is set when this process is on its way out."""

    def __init__(self, pool: Pool, stock: Engine) -> None:
        self.draining = False
        self._pool = pool
        self._stock = stock

    async def faults(self) -> dict[str, str]:
        """Every reason to stay away, by its source; empty: come in."""
        redis, postgres = await asyncio.gather(self._ask_redis(), self._ask_postgres())
        found = {"redis": redis, "postgres": postgres}
        if self.draining:
            found["gateway"] = "draining"
        return {source: fault for source, fault in found.items() if fault}

    async def _ask_redis(self) -> str:
        try:
            # No time-out of ours: it ends by itself, and one that is cut short would never find
            # out that its connection is dead.
            await self._stock.must_answer()
        except EngineError as error:
            return f"no answer: {reason_of(error)}"
        return ""

    async def _ask_postgres(self) -> str:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._pool.fetchval("SELECT count(*) FROM shows WHERE false")
        except DATABASE_ERRORS as error:
            return f"no answer: {reason_of(error)}"
        return ""


def ops_routes(probe: Probe) -> list[Route]:
    async def live(_request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def ready(_request: Request) -> Response:
        faults = await probe.faults()
        return JSONResponse({"ready": not faults, "faults": faults}, 503 if faults else 200)

    async def metrics(_request: Request) -> Response:
        body, content_type = await asyncio.to_thread(render_metrics)
        return Response(body, media_type=content_type)

    return [
        Route("/healthz", live, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
