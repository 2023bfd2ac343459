"""Counts and percentiles of the audience: adding up processes loses nothing."""

import random

import pytest

from live.tools.children import LINE_BYTES_MAX
from live.tools.demo.report import (
    TOLD_PER_LINE,
    Progress,
    add_progress,
    final_lines,
    progress_line,
    read_line,
)
from live.tools.demo.tally import Histogram, KeyVerdict, Tally, Told, lost_orders, merge


def histogram(*samples: float) -> Histogram:
    made = Histogram()
    for sample in samples:
        made.add(sample)
    return made


def told(key: str, order: str, verdict: KeyVerdict = KeyVerdict.OK) -> Told:
    return Told(sub="s" * 255, key=key, qty=1, verdict=verdict, outcome="confirmed", order=order)


def test_percentile_is_the_nearest_rank() -> None:
    """p50 of an even count is the lower middle, p100 the largest."""
    samples = histogram(1, 2, 3, 4)

    assert samples.percentile_ms(50) == 2
    assert samples.percentile_ms(51) == pytest.approx(3, rel=1 / 64)
    assert samples.percentile_ms(100) == 4


def test_percentile_of_nothing_is_none() -> None:
    """Without a sample there is no figure, and none is invented."""
    assert Histogram().percentile_ms(99) is None


@pytest.mark.parametrize("percent", [0, 101])
def test_percentile_out_of_range_is_refused(percent: float) -> None:
    """0 and 101 are no percentiles."""
    with pytest.raises(ValueError, match="percentile"):
        histogram(1).percentile_ms(percent)


def test_histogram_keeps_samples_within_its_step() -> None:
    """Every sample comes back within 1/64, below, over six orders of magnitude."""
    for exponent in range(-2, 5):
        for mantissa in (1.0, 1.37, 9.99):
            sample = mantissa * 10.0**exponent
            kept = histogram(sample).percentile_ms(100)
            assert kept is not None
            assert sample * (1 - 1 / 64) - 0.001 <= kept <= sample + 0.001


def test_histogram_is_bounded() -> None:
    """A hundred thousand samples between 0 and 10 s take at most some hundred buckets."""
    rng = random.Random(7)
    samples = histogram(*(rng.random() * 10_000 for _ in range(100_000)))

    assert samples.count == 100_000
    assert len(samples.buckets) < 64 * 25


def test_negative_sample_counts_as_zero() -> None:
    """Two clocks of one machine may differ by a tick; a latency is never negative."""
    assert histogram(-0.4).percentile_ms(50) == 0


def test_merge_adds_every_field() -> None:
    """Counts, named counts and histograms of two processes add up."""
    one = Tally(viewers=2, clicks=3, outcomes={"held": 1}, fanout=histogram(1, 2))
    two = Tally(viewers=1, clicks=4, outcomes={"held": 2, "sold_out": 1}, fanout=histogram(9))

    total = merge([one, two])

    assert (total.viewers, total.clicks) == (3, 7)
    assert total.outcomes == {"held": 3, "sold_out": 1}
    assert total.fanout.count == 3
    assert total.fanout.percentile_ms(100) == pytest.approx(9, rel=1 / 64)
    assert (one.clicks, one.fanout.count) == (3, 2), "the parts stay as they were"


def test_summary_survives_the_pipe() -> None:
    """What a process writes is what the parent reads, split into bounded lines."""
    tally = Tally(viewers=1, failures={"closed 1006": 2}, hold=histogram(3.5))
    words = [told(str(number), f"o{number}") for number in range(2 * TOLD_PER_LINE + 1)]

    lines = list(final_lines(tally, words))
    read = [read_line(line) for line in lines]

    assert all(len(line) < LINE_BYTES_MAX for line in lines)
    assert [word for line in read for word in line.told or ()] == words
    assert read[-1].summary == tally


def test_progress_survives_the_pipe() -> None:
    """A progress line carries the counts and percentiles of the moment."""
    progress = read_line(progress_line(Tally(clicks=5, fanout=histogram(2)))).progress

    assert progress is not None
    assert (progress.clicks, progress.opened, progress.fanout_p99_ms) == (5, 1, 2)


def test_progress_of_processes_adds_up() -> None:
    """Counts add, percentiles show the worst process, and no sample at all stays none."""
    total = add_progress([Progress(clicks=1, hold_p99_ms=5), Progress(clicks=2)])

    assert total.clicks == 3
    assert total.hold_p99_ms == 5
    assert total.fanout_p99_ms is None


def test_order_that_the_ledger_lacks_is_lost() -> None:
    """An acknowledged order counts as lost where it is missing or is another hold's."""
    words = [told("k1", "o1"), told("k2", "o2"), told("k3", "o3")]
    refused = told("k4", "", KeyVerdict.REFUSED)

    lost = lost_orders([*words, refused], {"o1": "k1", "o2": "other"})

    assert [one.key for one in lost] == ["k2", "k3"]
