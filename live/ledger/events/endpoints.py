"""Endpoints of a shop as it writes them, and their deliveries as it reads them.

Always: a change is one transaction with its row of the audit log, and is done once for each key of
its caller; a secret is told by the call that makes it and stands in no list and no log; who may see
some shows only sees the endpoints that hear of no others.
Called by: the HTTP API, `live webhooks`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from secrets import token_bytes
from typing import TypeVar
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import asyncpg

from live.base.errors import BadField, Conflict, NotFound
from live.domain.caller import ALL_SHOWS
from live.domain.ids import ShowId
from live.domain.outgoing.signatures import SECRET_BYTES, write_secret
from live.domain.outgoing.webhooks import ENDPOINTS_MAX, EndpointState, EndpointView, WebhookFormat
from live.ledger.db.idempotency import mark_done
from live.ledger.db.pool import Connection, Pool, in_transaction
from live.ledger.events import endpoint_sql as sql
from live.ledger.hosting import actions
from live.ledger.hosting.show_command import Actor

OVERLAP_HOURS = 24  # in which a secret that was replaced still signs, beside its successor
SECRETS_MAX = 4  # of one endpoint that sign at a time: each is a header's 50 characters
MADE_LOCK = 0x77656268  # "webh": endpoints are counted and made one after the other

_T = TypeVar("_T")
Shows = Sequence[str] | None
"""Of which the caller may know; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoint:
    url: str
    types: tuple[str, ...]
    shows: tuple[str, ...] = ()
    format: WebhookFormat = WebhookFormat.STANDARD
    contact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPatch:
    """None leaves a field as it is."""

    url: str | None = None
    types: tuple[str, ...] | None = None
    shows: tuple[str, ...] | None = None
    format: WebhookFormat | None = None
    contact: bool | None = None
    state: EndpointState | None = None


@dataclass(frozen=True, slots=True)
class WithSecret:
    """An endpoint, and the secret that was made for it just now."""

    endpoint: EndpointView
    secret: str


class EndpointRows:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, shows: Shows = None) -> list[EndpointView]:
        """In the order in which they were made; at most ENDPOINTS_MAX."""
        rows = await self._pool.fetch(f"{sql.VIEW} ORDER BY created_at, id")
        return [view for view in map(_view, rows) if _visible(view, shows)]

    async def get(self, webhook: str, shows: Shows = None) -> EndpointView:
        """Raises NotFound, also for one of which the caller may not know."""
        return await read_endpoint(self._pool, _uuid(webhook), shows)

    async def check_shows(self, shows: Sequence[str]) -> None:
        """Raises BadField for a show that there is not: its endpoint would never hear of it."""
        unknown = await self._pool.fetchval(sql.UNKNOWN_SHOWS, list(shows))
        if unknown is not None:
            raise BadField("shows", f"unknown show {unknown}: make it first")

    async def create(self, new: NewEndpoint, actor: Actor) -> WithSecret:
        """Raises Conflict where there are ENDPOINTS_MAX. A repeat with the same key tells the
        secret once more: the first answer may have been lost."""
        # By the key, so that a repeat finds what the first call made.
        webhook = uuid4() if actor.call is None else uuid5(
            NAMESPACE_OID, f"{actor.call.caller}\n{actor.call.key}\n{actor.call.request.hex()}"
        )  # fmt: skip

        async def work(connection: Connection) -> WithSecret:
            if not await mark_done(connection, actor.call):
                before = await _made(connection, webhook)
                # The same words mean less from a token for fewer shows, whoever's it is.
                if set(before.endpoint.shows) != set(new.shows):
                    raise Conflict("this key made another endpoint before")
                return before
            await connection.execute(sql.LOCK_ALL, MADE_LOCK)
            if await connection.fetchval(sql.COUNT) >= ENDPOINTS_MAX:
                raise Conflict(f"there are {ENDPOINTS_MAX} endpoints, and no more are possible")
            await connection.execute(
                sql.CREATE,
                webhook,
                new.url,
                list(new.types),
                list(new.shows),
                new.format.value,
                new.contact,
            )
            await _new_secret(connection, webhook)
            detail: dict[str, object] = {
                "webhook": str(webhook),
                "url": new.url,
                "types": list(new.types),
                "shows": list(new.shows),
                "contact": new.contact,
            }
            await _log(connection, actor, "webhook.create", detail)
            return await _made(connection, webhook)

        return await in_transaction(self._pool, work)

    async def patch(
        self, webhook: str, patch: EndpointPatch, actor: Actor, shows: Shows = None
    ) -> EndpointView:
        """Change what is named. `state` active, whatever it was, begins without a fault: all that
        waits is sent now. Raises NotFound."""
        changes = {
            name: value
            for name in EndpointPatch.__slots__
            if (value := getattr(patch, name)) is not None
        }

        async def work(connection: Connection, known: EndpointView, _fresh: bool) -> EndpointView:
            after = replace(known, **changes)
            again = patch.state is EndpointState.ACTIVE
            await connection.execute(
                sql.PATCH,
                UUID(known.webhook),
                after.url,
                list(after.types),
                list(after.shows),
                after.format.value,
                after.contact,
                after.state.value,
                again,
            )
            return await read_endpoint(connection, UUID(known.webhook), None)

        return await self._change(webhook, shows, "webhook.patch", dict(changes), actor, work)

    async def delete(self, webhook: str, actor: Actor, shows: Shows = None) -> None:
        """Nothing more is sent to it, and its secrets are gone. Raises NotFound."""

        async def work(connection: Connection, known: EndpointView, _fresh: bool) -> None:
            await connection.execute(sql.DELETE, UUID(known.webhook))

        await self._change(webhook, shows, "webhook.delete", {}, actor, work)

    async def rotate(self, webhook: str, actor: Actor, shows: Shows = None) -> WithSecret:
        """Make another secret; the one before signs for OVERLAP_HOURS more.

        Raises NotFound, and Conflict where SECRETS_MAX sign: each is kept for its whole time.
        """

        async def work(connection: Connection, known: EndpointView, fresh: bool) -> WithSecret:
            endpoint = UUID(known.webhook)
            if fresh:
                await connection.execute(sql.FORGET_SECRETS, endpoint)
                if await connection.fetchval(sql.COUNT_SECRETS, endpoint) >= SECRETS_MAX:
                    raise Conflict(
                        f"{SECRETS_MAX} secrets sign: the first of them ends within a day"
                    )
                await connection.execute(sql.END_SECRETS, endpoint, OVERLAP_HOURS)
                await _new_secret(connection, endpoint)
            return await _made(connection, UUID(known.webhook))

        return await self._change(webhook, shows, "webhook.rotate", {}, actor, work)

    async def _change(
        self,
        webhook: str,
        shows: Shows,
        action: str,
        detail: dict[str, object],
        actor: Actor,
        work: Callable[[Connection, EndpointView, bool], Awaitable[_T]],
    ) -> _T:
        return await change_endpoint(self._pool, webhook, shows, action, detail, actor, work)


async def change_endpoint(
    pool: Pool,
    webhook: str,
    shows: Shows,
    action: str,
    detail: dict[str, object],
    actor: Actor,
    work: Callable[[Connection, EndpointView, bool], Awaitable[_T]],
) -> _T:
    """Run a command on an endpoint, which stays locked, with its row of the audit log.

    `work` is told whether this call is done for the first time. Raises NotFound.
    """
    wanted = _uuid(webhook)

    async def run(connection: Connection) -> _T:
        fresh = await mark_done(connection, actor.call)
        await connection.execute(sql.LOCK, wanted)
        done = await work(connection, await read_endpoint(connection, wanted, shows), fresh)
        if fresh:
            await _log(connection, actor, action, {"webhook": webhook, **detail})
        return done

    return await in_transaction(pool, run)


async def read_endpoint(source: Connection | Pool, webhook: UUID, shows: Shows) -> EndpointView:
    """Raises NotFound, also for one of which the caller may not know."""
    row = await source.fetchrow(f"{sql.VIEW} WHERE id = $1", webhook)
    view = None if row is None else _view(row)
    if view is None or not _visible(view, shows):
        raise NotFound(f"unknown webhook {webhook}")
    return view


def _visible(view: EndpointView, shows: Shows) -> bool:
    return shows is None or (bool(view.shows) and set(view.shows) <= set(shows))


def _uuid(webhook: str) -> UUID:
    try:
        return UUID(webhook)
    except ValueError:
        raise NotFound(f"unknown webhook {webhook}") from None


async def _made(connection: Connection, webhook: UUID) -> WithSecret:
    endpoint = await read_endpoint(connection, webhook, None)
    return WithSecret(endpoint, await connection.fetchval(sql.SECRET, webhook))


async def _new_secret(connection: Connection, webhook: UUID) -> None:
    secret = write_secret(token_bytes(SECRET_BYTES))
    await connection.execute(sql.NEW_SECRET, webhook, secret)


async def _log(
    connection: Connection, actor: Actor, action: str, detail: dict[str, object]
) -> None:
    """Beside what is done to the catalogue: an endpoint belongs to the whole shop."""
    await actions.append(
        connection,
        show=ShowId(ALL_SHOWS),
        caller=actor.sub,
        role=actor.role,
        action=action,
        detail=detail,
        address=actor.address,
    )


def _view(row: asyncpg.Record) -> EndpointView:
    return EndpointView(
        webhook=str(row["id"]),
        url=row["url"],
        types=tuple(row["types"]),
        shows=tuple(row["shows"]),
        format=WebhookFormat(row["format"]),
        contact=row["contact"],
        state=EndpointState(row["state"]),
        reason=row["reason"],
        failing_since=row["failing_ms"],
        created_at=row["created_ms"],
    )
