"""A real Valkey cluster for the tests: three primaries on loopback, the first with a replica.

Direct children like those of servers.py; each node has a unix socket as well, for the tests' own
commands, so that these never depend on the client under test.
"""

import itertools
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
from redis.crc import key_slot

from live.domain.ids import ShowId
from tests.support.servers import READY_SECONDS, Valkey

PRIMARIES = 3
HASH_SLOTS = 16_384
NODE_TIMEOUT_MS = 1_000  # until a silent primary is given up; short, for the tests' sake


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_for(condition: Callable[[], object]) -> None:
    """Servers of other processes tell nobody when they agree: ask until they do."""
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the cluster does not come to it")
        time.sleep(0.02)


class Node(Valkey):
    """One server of a cluster."""

    def __init__(self, directory: Path, port: int, bus: int) -> None:
        directory.mkdir(parents=True)
        super().__init__(
            directory,
            *("--port", str(port), "--bind", "127.0.0.1", "--cluster-port", str(bus)),
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
            *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
            *("--cluster-require-full-coverage", "no"),
            *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
            *("--appendonly", "yes", "--appendfsync", "always"),
        )
        self.port, self.bus = port, bus
        self.id = ""

    def ask(self, *words: str | int | bytes) -> Any:
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            return client.execute_command(*words)

    def info(self, section: str) -> dict[str, Any]:
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            found: dict[str, Any] = client.info(section)
            return found

    def knows(self, state: str) -> bool:
        told = self.ask("CLUSTER", "INFO")
        return f"cluster_state:{state}" in (told.decode() if isinstance(told, bytes) else str(told))

    def primary_ports(self) -> set[int]:
        """The nodes that have slots, as this one sees it."""
        return {int(primary[1]) for _, _, primary, *_ in self.ask("CLUSTER", "SLOTS")}


class Cluster:
    def __init__(self, directory: Path, *, replica: bool = False) -> None:
        count = PRIMARIES + replica
        ports = free_ports(2 * count)
        pairs = zip(ports[:count], ports[count:], strict=True)
        self.nodes = [Node(directory / str(n), *pair) for n, pair in enumerate(pairs)]
        self.primaries = self.nodes[:PRIMARIES]
        self.replica = self.nodes[PRIMARIES] if replica else None

    @property
    def url(self) -> str:
        seeds = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{seeds}"

    def start(self) -> None:
        share = -(-HASH_SLOTS // PRIMARIES)
        for number, node in enumerate(self.nodes):
            node.start()
            node.id = str(node.ask("CLUSTER", "MYID").decode())
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if node is not self.replica:
                last = min((number + 1) * share, HASH_SLOTS) - 1
                node.ask("CLUSTER", "ADDSLOTSRANGE", number * share, last)
        first = self.nodes[0]
        for node in self.nodes[1:]:
            first.ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
        wait_for(lambda: all(node.knows("ok") for node in self.nodes))
        if self.replica is not None:
            self._replicate(self.replica, first)

    def _replicate(self, replica: Node, primary: Node) -> None:
        wait_for(lambda: primary.id.encode() in replica.ask("CLUSTER", "NODES"))
        replica.ask("CLUSTER", "REPLICATE", primary.id)
        wait_for(lambda: replica.info("replication").get("master_link_status") == "up")

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def owner(self, show: str) -> Node:
        """The node that has the slot of a show, as the other nodes see it."""
        slot = key_slot(show.encode())
        for first, last, primary, *_ in self._living().ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == primary[1])
        raise AssertionError(f"nobody has slot {slot}")

    def show_on(self, node: Node) -> ShowId:
        """A show that no other test uses, in a slot of this node."""
        names = (ShowId(f"s{uuid4().hex[:12]}") for _ in itertools.count())
        return next(name for name in names if self.owner(name) is node)

    def begin_move(self, show: ShowId, target: Node) -> None:
        """First half of moving a show's slot: from now on its keys may be on either node."""
        slot, source = key_slot(show.encode()), self.owner(show)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def finish_move(self, show: ShowId, target: Node) -> None:
        """Second half: all keys, then the slot itself."""
        slot, source = key_slot(show.encode()), self.owner(show)
        while names := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *names)
        for node in (target, source, *self.nodes):
            if node in self.primaries:
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def _living(self) -> Node:
        return next(node for node in self.nodes[::-1] if node.process and not node.process.poll())
