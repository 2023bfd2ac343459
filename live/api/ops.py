"""What load balancers and Prometheus ask: does it live, may it take traffic, how is it doing.

Always: `/healthz` touches nothing outside the process, so a stopped Redis never gets a gateway
killed; `/readyz` names every reason why it is not ready, and asks Redis on the connections that
sell, so that it cannot be well where they are not; it counts shows that are being made again, which
are no reason: all others are served. Its warnings (watch.py) are none either: every process sees
them alike, so all would go. Of a cluster one node that answers is enough: a dead one costs its own
shows, and taking the gateways away would cost all the others too.
Health may be asked by anybody, so it tells what is wrong and not where: what stands behind a
fault's colon (addresses, paths, the engine's own words) goes to the log alone, as do the names of
shows. `/metrics` tells no names of people or shows; where it should not be public either,
`LIVE_METRICS_TOKEN` closes it.
"""

import asyncio
from collections.abc import Mapping
from hmac import compare_digest
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from live.base.errors import EngineError, reason_of
from live.base.seldom import Seldom
from live.base.telemetry import render_metrics
from live.ledger.db.pool import DATABASE_ERRORS, Pool

CHECK_SECONDS = 1.0
SHOWS_TOLD_MAX = 20

_READABLE = "SELECT count(*) FROM shows WHERE false"
_REBUILDING = "SELECT show, reason FROM stock_doubts ORDER BY created_at LIMIT $1"


_NONE: Mapping[str, str] = {}


class Engine(Protocol):
    """The stock engine, as far as it is needed here."""

    async def must_answer(self) -> None:
        """Raise EngineError, with the reason, where it cannot work now."""


class Probe:
    """Asks the engines; `draining` is set when this process is on its way out. `warnings` are the
    watch's, which keeps them up to date."""

    def __init__(self, pool: Pool, stock: Engine, *, warnings: Mapping[str, str] = _NONE) -> None:
        self.warnings = warnings
        self.draining = False
        self._pool = pool
        self._stock = stock

    async def faults(self) -> dict[str, str]:
        """Every reason to stay away, by its source; empty: come in.

        What stands before a colon is for everybody, what stands behind it for the log.
        """
        redis, postgres = await asyncio.gather(self._ask_redis(), self._ask_postgres())
        found = {"redis": redis, "postgres": postgres}
        if self.draining:
            found["gateway"] = "draining"
        return {source: fault for source, fault in found.items() if fault}

    async def rebuilding(self) -> dict[str, str]:
        """Shows of which Redis lost something or is not believed, and why; some of them."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                rows = await self._pool.fetch(_REBUILDING, SHOWS_TOLD_MAX)
        except DATABASE_ERRORS:
            return {}  # that is told as a fault
        return {row["show"]: row["reason"] for row in rows}

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
                await self._pool.fetchval(_READABLE)
        except DATABASE_ERRORS as error:
            return f"no answer: {reason_of(error)}"
        return ""


def ops_routes(probe: Probe, *, metrics_token: str | None = None) -> list[Route]:
    """`metrics_token`: what `/metrics` wants to be shown; None: nothing."""

    async def live(_request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def ready(_request: Request) -> Response:
        faults, rebuilding = await asyncio.gather(probe.faults(), probe.rebuilding())
        if faults:
            _not_ready.warn(**faults)
        told = {source: fault.partition(":")[0] for source, fault in faults.items()}
        if rebuilding:
            _rebuilding.warn(shows=rebuilding)
        body = {
            "ready": not told,
            "faults": told,
            "warnings": dict(probe.warnings),
            "rebuilding": len(rebuilding),
        }
        return JSONResponse(body, 503 if told else 200)

    async def metrics(request: Request) -> Response:
        if metrics_token is not None and not _shows(request, metrics_token):
            challenge = {"www-authenticate": 'Bearer realm="metrics"'}
            return PlainTextResponse("a token is needed\n", 401, challenge)
        body, content_type = await asyncio.to_thread(render_metrics)
        return Response(body, media_type=content_type)

    return [
        Route("/healthz", live, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


_not_ready = Seldom("not_ready")
_rebuilding = Seldom("shows_rebuilding")


def _shows(request: Request, token: str) -> bool:
    """Whether the request carries this bearer token, as Prometheus' `authorization` sends it."""
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and compare_digest(shown.strip().encode(), token.encode())
