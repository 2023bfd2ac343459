"""One viewer in twenty stops reading: phones in tunnels, tabs in the background.

    locust -f loadtests/scenarios/slow_reader.py --host ws://127.0.0.1:8000 \\
        --headless -u 400 -r 100 -t 60s

Imitates: a stalled connection that stays open while the chat runs hot and the host sells. What to
look at: `publication latency` of the others must not rise; a stalled one is sooner or later closed
with 3008 (`slow reader: closed 3008`, only once its buffers are full), comes back and recovers.
"""

import gevent
from locust import between, constant, task

from loadtests import users
from loadtests.person import Person

STALL_SECONDS = 20.0
SMALL_BUFFER = 4_096  # bytes; the kernel doubles it and would hide more otherwise


class Host(users.Host):
    pass


class Stalled(Person):
    """Reads nothing for a while, then looks what has become of the connection."""

    weight = 1
    wait_time = constant(1)
    receive_bytes = SMALL_BUFFER
    latency_name = "publication latency, stalled"  # their own; the others' must not rise

    @task
    def stall(self) -> None:
        client = self.line()
        client.stop_reading()
        gevent.sleep(STALL_SECONDS)
        client.read_on()
        client.closed.wait(timeout=2.0)
        if client.closed.is_set():
            code = client.end.code if client.end is not None else 0
            self.fire(f"slow reader: closed {code}", STALL_SECONDS * 1000)
        else:
            self.fire("slow reader: kept up", STALL_SECONDS * 1000)


class Viewer(users.Viewer):
    weight = 12


class Chatter(users.Chatter):
    """A hot chat is what fills a stalled connection's buffers."""

    weight = 7
    wait_time = between(2.1, 3)  # one line in 2 s is what the chat takes from one person


__all__ = ["Chatter", "Host", "Stalled", "Viewer"]
