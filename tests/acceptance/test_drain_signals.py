"""A drain goes on to its end whoever else says that it should begin.

Method: a whole service; what systemd does by default is done by hand - a signal for every process
of the group - and then the supervisor signals its children once more, as it always does.
"""

import asyncio
import os
import signal

import psutil
import pytest

from live.domain.caller import Role
from tests.acceptance.conftest import Service, begin, last_word
from tests.support.servers import scratch_directory
from tests.support.wire import join

VIEWERS = 20

pytestmark = pytest.mark.timeout(120)


def ours(supervisor: int) -> list[psutil.Process]:
    """The gateways and settlers of a supervisor; its engines have an order of their own."""
    children = psutil.Process(supervisor).children()
    return [one for one in children if {"run-gateway", "run-settler"} & set(one.cmdline())]


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.05])
@pytest.mark.parametrize("first", ["supervisor", "children"])
async def test_every_viewer_is_told_where_to_go(pause: float, first: str) -> None:
    """3001 to each of them, and the service ends in order."""
    service = Service(scratch_directory())
    await asyncio.to_thread(service.start)
    assert service.process is not None
    supervisor = service.process.pid
    await begin(service, "signals")
    wires = [
        await join(service.socket_url, service.token(Role.VIEWER, f"v{number}"), "signals")
        for number in range(VIEWERS)
    ]
    children = [one.pid for one in ours(supervisor)]
    assert len(children) == 2
    for pid in [supervisor, *children] if first == "supervisor" else [*children, supervisor]:
        os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(pause)

    codes = await asyncio.gather(*(last_word(wire) for wire in wires))

    assert codes == [3001] * VIEWERS
    assert await asyncio.to_thread(service.process.wait, 60) == 0
