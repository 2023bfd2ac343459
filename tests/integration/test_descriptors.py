"""Connections stay below what a process' descriptors allow, and it tells before none are left.

Method: processes of their own under real limits.
"""

import json
import subprocess
import sys

PROGRAM = """
import json, resource, socket, sys
soft, hard = map(int, sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from live.fanout import metrics
from live.transport import descriptors
from live.connection.admission import DEFAULT
from live.base.telemetry import set_up_logs
set_up_logs(role="test")
raised = descriptors.raise_limit()
fitted = descriptors.fit(DEFAULT)
descriptors.look()
opened = []
try:
    while len(opened) < int(sys.argv[3]):
        opened.append(socket.socket())
except OSError:
    pass
for _ in range(3):
    descriptors.look()
print(json.dumps({
    "raised": raised, "sockets": fitted.connections_max, "http": fitted.http_max,
    "address": fitted.per_address_max, "open": metrics.DESCRIPTORS._value.get(),
}))
"""


def run(soft: int, hard: int, opened: int) -> tuple[dict[str, float], list[str]]:
    """What the process found, and the events that it logged."""
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(opened)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    return json.loads(done.stdout), events


def test_soft_limit_is_raised_as_far_as_the_hard_one() -> None:
    """Shells give 1,024 and allow more; nobody has to know `ulimit`."""
    found, _events = run(256, 1_024, 0)

    assert found["raised"] == 1_024


def test_bounds_fit_what_there_is() -> None:
    """All that may connect leave some over, and no address takes either kind alone."""
    found, events = run(512, 512, 0)

    assert found["sockets"] + found["http"] < 512
    assert found["address"] <= found["http"] / 2
    assert events == ["descriptors_few"]


def test_scarce_descriptors_are_told_once() -> None:
    """Not once for each that is missing; and also where none is left to count them with."""
    found, events = run(512, 512, 480)
    assert found["open"] >= 480
    assert events.count("descriptors_scarce") == 1

    _found, events = run(512, 512, 10_000)
    assert events.count("descriptors_scarce") == 1


def test_plenty_is_not_worth_a_word() -> None:
    found, events = run(512, 512, 10)

    assert 10 <= found["open"] < 400
    assert "descriptors_scarce" not in events
