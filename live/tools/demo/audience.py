"""One process of the simulated audience: real WebSocket clients, hundreds to thousands of them.

    python -m live.tools.demo.audience --url ws://127.0.0.1:8000/connection/websocket --show demo \\
        --offer flash-1 --tokens-from stdin < tokens

`tokens` has a line `SUB TOKEN` per viewer; an empty line ends them. With `--controlled` standard
input stays open: the line `stop` asks for the summary, and its end, as when the parent dies, ends
the process at once. Without, the process leaves `--seconds` after the start. Output: report.py.
"""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import click

from live.domain.ids import ShowId, is_id
from live.run.process import follow_parent
from live.tools.children import say, told_lines
from live.tools.demo.crowd import CrowdShares, plan_viewer
from live.tools.demo.report import final_lines, progress_line
from live.tools.demo.stage import Stage
from live.tools.demo.viewer import DemoViewer

if sys.platform != "win32":
    import resource

PROGRESS_SECONDS = 0.25
VIEWERS_MAX = 10_000  # per process; the machine's ports to one address end at about 28,000
HANDSHAKES_MAX = 64  # under way at once: a crowd walks in, it does not arrive as one packet
FILES_SPARE = 64  # descriptors beside the viewers' sockets


@dataclass(frozen=True, slots=True, kw_only=True)
class AudienceOptions:
    url: str
    show: ShowId
    offer: str
    seed: int
    first_index: int  # of this process' viewers in the whole audience
    per_buyer_limit: int
    sale_seconds: float
    seconds: float
    controlled: bool


async def perform(
    options: AudienceOptions, viewers: list[tuple[str, str]], orders: AsyncIterator[bytes]
) -> Stage:
    """Play all viewers until told to stop (or the time is up); returns what they were told."""
    stage = Stage(
        url=options.url,
        show=options.show,
        offer=options.offer,
        per_buyer_limit=options.per_buyer_limit,
        sale_seconds=options.sale_seconds,
        gate=asyncio.Semaphore(HANDSHAKES_MAX),
    )
    crowd = CrowdShares()
    cast = []
    for index, (sub, token) in enumerate(viewers, start=options.first_index):
        plan = plan_viewer(
            crowd, seed=options.seed, index=index, per_buyer_limit=options.per_buyer_limit
        )
        cast.append(DemoViewer(stage, plan, sub, token, seed=index))
    gc.freeze()  # a full collection over all sockets would be measured as the server's latency
    helpers = [
        asyncio.create_task(_tell_progress(stage)),
        asyncio.create_task(_await_stop(options, stage, orders)),
    ]
    try:
        await asyncio.gather(*(viewer.run() for viewer in cast))
        await stage.stop.wait()  # viewers who were thrown out for good do not end the evening
    finally:
        for helper in helpers:
            helper.cancel()
    return stage


async def _await_stop(options: AudienceOptions, stage: Stage, orders: AsyncIterator[bytes]) -> None:
    if not options.controlled:
        await asyncio.sleep(options.seconds)
    else:
        async for line in orders:
            if line == b"stop":
                break
        else:
            os._exit(1)  # the parent is gone: nobody reads a summary
    stage.stop.set()


async def _tell_progress(stage: Stage) -> None:
    while True:
        say(progress_line(stage.tally))
        await asyncio.sleep(PROGRESS_SECONDS)


def raise_file_limit(sockets: int) -> None:
    """Let this process have so many sockets. Raises OSError where the hard limit is lower."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + FILES_SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise OSError(f"{wanted} open files are needed, the limit is {hard} (ulimit -n)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _file_lines(text: bytes) -> AsyncIterator[bytes]:
    for line in text.splitlines():
        yield line


async def _main(options: AudienceOptions, lines: AsyncIterator[bytes]) -> None:
    viewers: list[tuple[str, str]] = []
    async for line in lines:
        if not line:
            break
        if len(viewers) == VIEWERS_MAX:
            raise click.ClickException(f"one process plays at most {VIEWERS_MAX} viewers")
        sub, token = line.decode().split(" ")
        viewers.append((sub, token))
    raise_file_limit(len(viewers))
    stage = await perform(options, viewers, lines)
    for chunk in final_lines(stage.tally, stage.told):
        say(chunk)


@click.command(help=__doc__)
@click.option("--url", required=True, help="ws:// or wss:// address of the WebSocket")
@click.option("--show", default="demo", show_default=True)
@click.option("--offer", required=True, help="the offer to wait for")
@click.option("--tokens-from", required=True, help="stdin, or a file of 'SUB TOKEN' lines")
@click.option("--seed", default=1, show_default=True)
@click.option("--first-index", default=0, show_default=True)
@click.option("--limit", "per_buyer_limit", default=2, show_default=True, help="units per buyer")
@click.option("--sale-seconds", default=30.0, show_default=True)
@click.option(
    "--seconds", default=60.0, show_default=True, help="leave after that (not --controlled)"
)
@click.option("--controlled", is_flag=True, help="leave when standard input says so, or ends")
def main(*, tokens_from: str, show: str, **rest: object) -> None:
    follow_parent()
    if not is_id(show):
        raise click.UsageError(f"{show!r} is no show id")
    options = AudienceOptions(show=ShowId(show), **rest)  # type: ignore[arg-type]  # click has typed them
    given = tokens_from != "stdin"
    lines = _file_lines(Path(tokens_from).read_bytes()) if given else told_lines()
    asyncio.run(_main(options, lines))


if __name__ == "__main__":
    main()
