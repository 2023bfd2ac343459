"""Everybody comes back at once: what a deploy or a lost uplink does to a server.

    locust -f loadtests/scenarios/reconnect_storm.py --host ws://127.0.0.1:8000 \\
        --headless -u 1000 -r 200 -t 90s

Imitates: all connections break in the same instant (a load balancer restarts), and every SDK makes
its first try within the next 0.5-1 s, asking for what it missed. The host sells meanwhile. What to
look at: `reconnect` p99 below the SDKs' 5 s (a slower answer makes the storm feed itself),
`recovery` instead of `recovery: snapshot instead`, and no failed request beside broken calls.
"""

import time

import gevent
from locust import constant, task

from loadtests import users
from loadtests.person import Person

STORM_SECONDS = 15.0  # from one storm to the next, by the wall clock: users need no messenger


class Host(users.Host):
    sale_seconds = STORM_SECONDS


class Comeback(Person):
    """A viewer whose line breaks when everybody's does."""

    weight = 9
    wait_time = constant(0)

    @task
    def live_through_it(self) -> None:
        now = time.time()
        gevent.sleep(STORM_SECONDS - now % STORM_SECONDS)
        self.client.cut()
        self.line()


class Buyer(users.Buyer):
    """Buys right through the storms; their keys keep their answers."""

    weight = 1


__all__ = ["Buyer", "Comeback", "Host"]
