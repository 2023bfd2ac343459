"""What an audience process tells its parent: JSON lines of bounded length on standard output.

`{"progress": …}` a few times a second, then `{"told": […]}` in chunks, then one `{"summary": …}`.
"""

from collections.abc import Iterator, Sequence

import msgspec

from live.tools.demo.tally import Tally, Told

TOLD_PER_LINE = 200  # about 40 KB: far below what a reader must buffer for one line


class Progress(msgspec.Struct, frozen=True):
    """The live counts; absolute, so a lost line costs nothing."""

    viewers: int = 0
    connected: int = 0
    clicks: int = 0
    held: int = 0
    refused: int = 0
    declined: int = 0
    expired: int = 0
    waitlisted: int = 0
    granted: int = 0
    confirmed: int = 0
    opened: int = 0  # viewers who heard the offer open
    fanout_p50_ms: float | None = None
    fanout_p99_ms: float | None = None
    hold_p50_ms: float | None = None
    hold_p99_ms: float | None = None


class ReportLine(msgspec.Struct, frozen=True, omit_defaults=True):
    progress: Progress | None = None
    told: list[Told] | None = None
    summary: Tally | None = None


_encode = msgspec.json.Encoder().encode
read_line = msgspec.json.Decoder(ReportLine).decode


def progress_of(tally: Tally) -> Progress:
    return Progress(
        viewers=tally.viewers,
        connected=tally.connected,
        clicks=tally.clicks,
        held=tally.held,
        refused=tally.refused,
        declined=tally.declined,
        expired=tally.expired,
        waitlisted=tally.waitlisted,
        granted=tally.granted,
        confirmed=tally.confirmed,
        opened=tally.fanout.count,
        fanout_p50_ms=tally.fanout.percentile_ms(50),
        fanout_p99_ms=tally.fanout.percentile_ms(99),
        hold_p50_ms=tally.hold.percentile_ms(50),
        hold_p99_ms=tally.hold.percentile_ms(99),
    )


def progress_line(tally: Tally) -> bytes:
    return _encode(ReportLine(progress=progress_of(tally)))


def final_lines(tally: Tally, told: Sequence[Told]) -> Iterator[bytes]:
    """Everything the parent needs for the reckoning; the summary is always last."""
    for start in range(0, len(told), TOLD_PER_LINE):
        yield _encode(ReportLine(told=list(told[start : start + TOLD_PER_LINE])))
    yield _encode(ReportLine(summary=tally))


def add_progress(parts: Sequence[Progress]) -> Progress:
    """The whole audience; percentiles are the worst process' (exact ones come with the summary)."""
    total = {
        name: sum(getattr(part, name) for part in parts)
        for name in Progress.__struct_fields__
        if not name.endswith("_ms")
    }
    worst = {
        name: max(
            (value for part in parts if (value := getattr(part, name)) is not None), default=None
        )
        for name in Progress.__struct_fields__
        if name.endswith("_ms")
    }
    return msgspec.convert({**total, **worst}, Progress)
