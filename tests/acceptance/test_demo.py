"""`live demo`: the product's first impression, run as its user runs it."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.servers import scratch_directory

AUDIENCE = "live.tools.demo.audience"

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """One data directory for all runs of this file: the second starts on what the first left."""
    yield scratch_directory()


def _command(data: Path, *options: str) -> tuple[list[str], dict[str, str]]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LIVE_")}
    command = [sys.executable, "-m", "live", "demo", "--data", str(data), *options]
    return command, kept


def _run(data: Path, *options: str) -> dict[str, object]:
    command, environment = _command(data, "--once", "--json", *options)
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    assert b"/console#token=" in done.stderr, "who watches one sale wants the pages, too"
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 1, "standard output holds the one JSON line and nothing else"
    found: dict[str, object] = json.loads(lines[0])
    return found


def _check(verdict: dict[str, object], viewers: int) -> None:
    assert verdict["ok"] is True
    assert verdict["oversold"] == 0
    assert verdict["lost"] == 0
    assert verdict["viewers"] == viewers
    for name in ("clicks", "held", "orders", "refused", "declined", "expired"):
        assert verdict[name], f"a sale without any {name} proves little: {verdict}"


def _offers(verdict: dict[str, object]) -> set[str]:
    return {offer["offer"] for offer in verdict["offers"]}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def first(data: Path) -> dict[str, object]:
    """What a demo on this data said, whichever test comes first."""
    return _run(data, "--viewers", "200", "--seconds", "8", "--port", "0")


def test_demo_sells_out_and_the_audit_holds(first: dict[str, object]) -> None:
    """200 viewers, one offer: sold, refused, declined, expired; nothing oversold, nothing lost."""
    _check(first, 200)


def test_second_demo_starts_on_the_same_data(data: Path, first: dict[str, object]) -> None:
    """A new run rebuilds Redis from the ledger, and the first run's orders are still audited."""
    verdict = _run(data, "--viewers", "60", "--seconds", "8", "--port", "0")

    _check(verdict, 60)
    assert _offers(first) < _offers(verdict)


def test_demo_tells_its_addresses_before_and_after_the_sale(data: Path) -> None:
    """Viewer page and console are named once the show is on air, and again below the audit."""
    options = ("--viewers", "20", "--seconds", "6", "--port", "0", "--json")
    command, environment = _command(data, *options)
    with _piped(command, environment) as demo:
        assert demo.stdout is not None and demo.stderr is not None
        before = _addresses(demo.stderr)
        page = httpx.get(before["viewer page"], trust_env=False, timeout=60)
        steps = list(itertools.takewhile(lambda line: "every promise" not in line, demo.stderr))
        after = _addresses(demo.stderr)
        verdict = json.loads(demo.stdout.readline())
        base, _, token = after["host console"].partition("/console#token=")
        headers = {"Authorization": f"Bearer {token}"}
        products = httpx.get(f"{base}/v1/products", headers=headers, trust_env=False, timeout=60)

    assert page.status_code == 200
    assert any(line.startswith("the audience comes in") for line in steps), "told before the sale"
    assert before["viewer page"] == after["viewer page"]
    assert verdict["ok"] is True
    assert products.status_code == 200


@contextlib.contextmanager
def _piped(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The demo with its lines to read; killed in the end, or when it says nothing for too long."""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        watchdog = threading.Timer(90, demo.kill)
        watchdog.start()
        try:
            yield demo
            demo.send_signal(signal.SIGINT)
            demo.wait(40)
        finally:
            watchdog.cancel()
            demo.kill()


def _addresses(said: Iterable[str]) -> dict[str, str]:
    """Read until both addresses were told."""
    found: dict[str, str] = {}
    for line in said:
        name, _, url = line.strip().rpartition("  ")
        if name.strip() in ("viewer page", "host console"):
            found[name.strip()] = url
        if len(found) == 2:
            return found
    raise AssertionError("the addresses were never told")


def _wait_for_sale(process: subprocess.Popen[bytes]) -> None:
    """Until the show is on air, at the port that the demo took."""
    demo = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the demo ended by itself"
        for each in demo.net_connections("tcp"):
            if each.status != psutil.CONN_LISTEN:
                continue
            url = f"http://127.0.0.1:{each.laddr.port}/shows.json"
            try:
                if "demo" in httpx.get(url, trust_env=False, timeout=60).text:
                    return
            except httpx.HTTPError:
                pass
        time.sleep(0.05)
    raise AssertionError("the show never came on air")


def _wait_for_audience(process: subprocess.Popen[bytes]) -> None:
    """Until the sale has its crowd; the show alone tells nothing, a former run left one on air."""
    demo = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the demo ended by itself"
        for child in demo.children():
            # A child may be gone by the time it is asked.
            with contextlib.suppress(psutil.NoSuchProcess):
                if AUDIENCE in child.cmdline():
                    return
        time.sleep(0.05)
    raise AssertionError("the audience never came")


def test_killed_demo_leaves_no_process_behind(data: Path) -> None:
    """kill -9 in mid-sale: engines, gateway, settler, sandbox and audience end by themselves."""
    command, environment = _command(data, "--viewers", "100", "--port", "0")
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for_audience(process)
    family = psutil.Process(process.pid).children(recursive=True)
    roles = {word for one in family for word in one.cmdline()}
    assert {"run-gateway", "run-settler", "run-sandbox", AUDIENCE} <= roles
    assert len(family) >= 6, "and the two engines"

    process.send_signal(signal.SIGKILL)
    process.wait(10)

    _, alive = psutil.wait_procs(family, timeout=30)
    assert [f"{one.pid} {one.name()}" for one in alive] == []


def test_interrupted_demo_stops_in_order(data: Path) -> None:
    """Ctrl-C: exit within seconds, nothing left."""
    command, environment = _command(data, "--viewers", "20", "--port", "0")
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_for_sale(process)
    family = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGINT)
    process.wait(40)

    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
