"""Who may do what to whom: every role against every role, in the own show and in a foreign one.

The table is the rule itself - only downwards, only at home - and the calls are all those that act
on a person or on what they wrote.
"""

import itertools
from collections.abc import AsyncIterator

import orjson
import pytest

from live.base.errors import Banned, Denied
from live.domain.caller import RANKS, Caller, Role
from live.domain.channels import ChannelKind
from live.domain.ids import ShowId, buyer_of
from live.ledger.db.pool import Pool
from live.ledger.hosting.shows import ShowRows
from tests.support.api_kit import SECRET, Stage, open_stage
from tests.support.shows_kit import HOST, set_stage

STAFF = (Role.MODERATOR, Role.HOST, Role.SERVICE)
PAIRS = list(itertools.product(STAFF, Role))
DESKS = {Role.MODERATOR: "staff", Role.HOST: "desk", Role.SERVICE: "desk"}


@pytest.fixture
async def stage(pool: Pool, redis_url: str, show: ShowId) -> AsyncIterator[Stage]:
    """A show on air."""
    async with open_stage(pool, redis_url) as opened:
        await set_stage(pool, show)
        await opened.projector.project(await ShowRows(pool).start(show, HOST), fresh=True)
        yield opened


def person(sub: str, role: Role, show: ShowId) -> Caller:
    return Caller(
        sub=sub,
        buyer=buyer_of(sub, secret=SECRET),
        role=role,
        shows=frozenset({show}),
        expires_at=None,
    )


async def act(
    stage: Stage, by: Role, show: ShowId, action: str, shows: list[str], **more: str
) -> int:
    body = {"action": action, **more}
    path = f"/v1/shows/{show}/moderation"
    return (await stage.call("POST", path, body, role=by, shows=shows)).status_code


async def sit_down(stage: Stage, show: ShowId, sub: str, role: Role) -> None:
    """As if this person had a socket at the desk."""
    if role in DESKS:
        info = orjson.dumps({"user": sub, "client": f"c-{sub}"})
        await stage.log.store.put_presence(show, DESKS[role], {f"c-{sub}": info})


async def line_of(stage: Stage, caller: Caller, show: ShowId) -> str:
    said = orjson.dumps({"text": f"hello from {caller.sub}"})
    message = await stage.chat.accept(caller, show, ChannelKind.CHAT, said)
    assert message is not None
    return message.id


@pytest.mark.parametrize(("by", "target"), PAIRS)
async def test_restriction_reaches_only_those_below(
    stage: Stage, show: ShowId, by: Role, target: Role
) -> None:
    """Of whom nobody knows the role the command is taken, and does nothing to who stands higher."""
    below = RANKS[target] < RANKS[by]
    eve = person("eve", target, show)
    for action in ("mute", "shadow_ban", "ban"):
        assert await act(stage, by, show, action, [show], sub="eve") == 202
        voice = await _voice(stage, eve, show)
        assert voice == (
            "refused" if below and action != "shadow_ban" else "alone" if below else "heard"
        ), action
        if action == "ban" and below:
            with pytest.raises(Banned):
                await stage.chat.refuse_banned(eve, show)
        else:
            await stage.chat.refuse_banned(eve, show)
        lift = "unmute" if action == "mute" else "unban"
        assert await act(stage, by, show, lift, [show], sub="eve") == 202
    assert stage.banned == [("eve", show, RANKS[by])]


async def _voice(stage: Stage, caller: Caller, show: ShowId) -> str:
    """What becomes of a line of this person."""
    await stage.redis.delete(f"live:{{{show}}}:chat:pace:{caller.person}")
    said = orjson.dumps({"text": "hi"})
    try:
        message = await stage.chat.accept(caller, show, ChannelKind.CHAT, said)
    except Denied:
        return "refused"
    return "alone" if message is None else "heard"


@pytest.mark.parametrize(("by", "target"), PAIRS)
async def test_who_sits_at_the_desk_is_refused_by_name(
    stage: Stage, show: ShowId, by: Role, target: Role
) -> None:
    """403 where the person is known to stand as high; a log-out of the show is no other matter."""
    await sit_down(stage, show, "eve", target)
    # A service at a desk looks like a host there: presence knows two desks.
    known = Role.HOST if target is Role.SERVICE else target
    expected = 202 if RANKS[known] < RANKS[by] else 403

    for action in ("mute", "shadow_ban", "ban"):
        assert await act(stage, by, show, action, [show], sub="eve") == expected, action
    out = await stage.call("POST", "/v1/users/eve/logout", role=by, shows=[show])
    assert out.status_code == (403 if by is Role.MODERATOR or expected == 403 else 200)
    bans = await stage.pool.fetchval("SELECT count(*) FROM bans")
    assert bans == (3 if expected == 202 else 0)


@pytest.mark.parametrize(("by", "target"), PAIRS)
async def test_line_of_somebody_higher_is_not_deleted(
    stage: Stage, show: ShowId, by: Role, target: Role
) -> None:
    """A line is no person: equals may tidy up after one another; a pin is an honour for all."""
    line = await line_of(stage, person("eve", target, show), show)

    assert await act(stage, by, show, "pin", [show], message=line) == 202
    status = await act(stage, by, show, "delete", [show], message=line)

    assert status == (202 if RANKS[target] <= RANKS[by] else 403)


@pytest.mark.parametrize(("by", "first"), list(itertools.product(STAFF, STAFF)))
async def test_what_somebody_higher_decided_stands(
    stage: Stage, show: ShowId, by: Role, first: Role
) -> None:
    """Neither lifted nor replaced by a shorter one from below."""
    higher = RANKS[first] > RANKS[by]
    expected = 403 if higher else 202
    for action, lift in (("mute", "unmute"), ("ban", "unban")):
        assert await act(stage, first, show, action, [show], sub="eve") == 202
        assert await act(stage, by, show, action, [show], sub="eve") == expected
        assert await act(stage, by, show, lift, [show], sub="eve") == expected
    left = await stage.pool.fetch("SELECT DISTINCT rank FROM bans")
    assert [row["rank"] for row in left] == ([RANKS[first]] if higher else [])


@pytest.mark.parametrize("by", STAFF)
async def test_nobody_acts_on_himself(stage: Stage, show: ShowId, by: Role) -> None:
    """A slip of the hand must not lock its owner out."""
    assert await act(stage, by, show, "ban", [show], sub=f"{by.value}-1") == 403


@pytest.mark.parametrize("by", STAFF)
async def test_rights_end_at_the_shows_border(stage: Stage, show: ShowId, by: Role) -> None:
    """With a token of another show nothing is done here, and nothing is noted here."""
    line = await line_of(stage, person("eve", Role.VIEWER, show), show)
    rows = "SELECT count(*) FROM host_actions WHERE show = $1"
    before = await stage.pool.fetchval(rows, show)

    for action in ("delete", "pin", "unpin"):
        assert await act(stage, by, show, action, ["elsewhere"], message=line) == 403
    for action in ("mute", "unmute", "shadow_ban", "ban", "unban"):
        assert await act(stage, by, show, action, ["elsewhere"], sub="eve") == 403
    out = await stage.call("POST", "/v1/users/eve/logout", role=by, shows=["elsewhere"])

    assert out.status_code == (403 if by is Role.MODERATOR else 404)
    assert await stage.pool.fetchval(rows, show) == before
    assert await stage.pool.fetchval("SELECT count(*) FROM revocations") == 0
    assert (stage.disconnects, stage.banned) == ([], [])


async def test_old_ban_ends_at_the_door_too(stage: Stage, show: ShowId) -> None:
    """Its time is over although nobody has loaded the bans since."""
    eve = person("eve", Role.VIEWER, show)
    assert await act(stage, Role.HOST, show, "ban", [show], sub="eve") == 202
    with pytest.raises(Banned):
        await stage.chat.refuse_banned(eve, show)

    bans = f"live:{{{show}}}:chat:bans"
    await stage.redis.hset(bans, eve.person, f"ban:1000:{RANKS[Role.HOST]}")

    await stage.chat.refuse_banned(eve, show)
