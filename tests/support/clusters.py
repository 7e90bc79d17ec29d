"""A cluster of six nodes, and a primary with a replica watched by three sentinels, set up with plain commands.

Rules:
- Each wait is bounded, with an error that says what was waited for; each process is killed at the end, also when the
  start fails.
- A node that is silent for a while counts as failed only where a test says so (`Cluster.watch_closely`): a busy machine
  stalls a node for a second, and a failover that no test asked for breaks the test.
- Roles change with each failover, so tests ask for a primary or a replica and never count on a node's number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from tests.support.nodes import Node, folders, quiet_port
from tests.support.servers import PATIENCE
from tests.support.waiting import until

SLOTS = 16_384
CALM, CLOSE = 20_000, 1_000
"""Milliseconds after which a silent node counts as failed: usually, and where a test wants a failover."""
SERVICE = "visitors"
"""The sentinels' name for the primary."""

_MEMBER = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": str(CLOSE),
    "cluster-replica-validity-factor": "0",
    "cluster-allow-replica-migration": "no",
    "appendonly": "yes",  # a primary that is back before it was replaced still has its data
    "repl-diskless-sync-delay": "0",
}
_SENTINEL = """\
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {service} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {service} {after}
sentinel failover-timeout {service} 1000
"""


@dataclass(frozen=True)
class Member:
    """What the cluster says about one of its nodes."""

    id: str
    port: int
    flags: tuple[str, ...]
    primary: str
    linked: bool
    slots: tuple[range, ...]

    @property
    def serves(self) -> bool:
        """Whether it is a primary with slots that does not count as failed."""
        return "master" in self.flags and "fail" not in self.flags and bool(self.slots)


class Cluster:
    """Six nodes: three primaries and their replicas; which is which changes with each failover."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.nodes: list[Node] = []
        for number in range(6):
            home = folder / str(number)
            home.mkdir()
            self.nodes.append(Node(name, home, _MEMBER))

    @property
    def url(self) -> str:
        """Its address: that of a running node."""
        return f"redis+cluster://127.0.0.1:{self.running[0].port}"

    @property
    def running(self) -> list[Node]:
        """The nodes whose processes exist."""
        return [node for node in self.nodes if node.running]

    def members(self, seen_by: Node | None = None) -> list[Member]:
        """All members, as one node sees them."""
        text = (seen_by or self.running[0]).ask("CLUSTER", "NODES").decode()
        return [_member(line) for line in text.splitlines()]

    def node_at(self, port: int) -> Node:
        """The node that listens there."""
        return next(node for node in self.nodes if node.port == port)

    def id_of(self, node: Node) -> str:
        """The cluster's name for a node."""
        return str(node.ask("CLUSTER", "MYID").decode())

    def primaries(self, seen_by: Node | None = None) -> list[Node]:
        """The nodes that serve slots now, as one node sees them."""
        return [self.node_at(member.port) for member in self.members(seen_by) if member.serves]

    def primary_of(self, key: bytes | int) -> Node:
        """The node that serves a key, or a slot."""
        slot = key if isinstance(key, int) else key_slot(key)
        for member in self.members():
            if member.serves and any(slot in served for served in member.slots):
                return self.node_at(member.port)
        raise LookupError(f"nobody serves slot {slot}")

    def replica_of(self, node: Node) -> Node:
        """A replica of a primary."""
        name = self.id_of(node)
        return next(self.node_at(member.port) for member in self.members() if member.primary == name)

    def start(self) -> None:
        """Start the nodes and make them a cluster."""
        for number, node in enumerate(self.nodes):
            node.start()
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)  # equal epochs would have to be resolved first
        first, *others = self.nodes
        for node in others:
            first.ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        for number, node in enumerate(self.nodes[:3]):
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1)
        until(lambda: all(len(self.members(node)) == len(self.nodes) for node in self.nodes), "all nodes know all")
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", self.id_of(primary))
        self.heal()

    def heal(self) -> None:
        """Start what was killed, resume what was stopped, and wait until every node reports a healthy cluster."""
        for node in self.nodes:
            if node.running:
                node.resume()
            else:
                node.start(ready=False)
        self.watch_closely()
        until(self.is_healthy, f"a healthy cluster of {self.name}")
        self._watch(CALM)

    def watch_closely(self) -> None:
        """From now on, until it is healed, a node that is silent for a second counts as failed."""
        self._watch(CLOSE)

    def _watch(self, milliseconds: int) -> None:
        for node in self.running:
            until(partial(node.ask, "CONFIG", "SET", "cluster-node-timeout", milliseconds), f"{node} is set")

    def flush(self) -> None:
        """Drop all data; scripts stay."""
        for node in self.primaries():
            node.ask("CLIENT", "KILL", "TYPE", "normal")  # what earlier tests sent while it was stopped is dropped
            node.ask("FLUSHALL")

    def is_healthy(self) -> bool:
        """Whether every node sees three primaries that serve all slots, each with a replica that follows it."""
        for node in self.nodes:
            if node.ask("CLUSTER", "INFO").split(b"\r\n")[0] != b"cluster_state:ok":
                return False
            members = self.members(node)
            if any(not member.linked or "fail" in member.flags or "fail?" in member.flags for member in members):
                return False
            serving = {member.id for member in members if member.serves}
            if len(serving) != 3 or {member.primary for member in members if not member.serves} != serving:
                return False
            replication = node.info("replication")
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return False
        return True

    # -- moving slots --------------------------------------------------------------------------------------------------

    def begin_move(self, slot: int, to: Node) -> Node:
        """Start moving a slot: keys no longer there are asked for at `to`. Returns the node that still serves it."""
        source = self.primary_of(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        return source

    def move_keys(self, slot: int, source: Node, to: Node) -> int:
        """Move the slot's keys; returns their number."""
        moved = 0
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", to.port, "", 0, int(PATIENCE * 1_000), "KEYS", *keys)
            moved += len(keys)
        return moved

    def end_move(self, slot: int, source: Node, to: Node) -> None:
        """Finish moving a slot: `to` serves it."""
        name = self.id_of(to)
        others = [node for node in self.primaries() if node not in (source, to)]
        for node in (to, source, *others):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", name)

    def move_slot(self, slot: int, to: Node) -> int:
        """Move a slot while it is served; returns the number of keys moved."""
        source = self.primary_of(slot)
        if source is to:
            return 0
        self.begin_move(slot, to)
        moved = self.move_keys(slot, source, to)
        self.end_move(slot, source, to)
        return moved


def _member(line: str) -> Member:
    name, address, flags, primary, _, _, _, link, *slots = line.split()
    served = [span.partition("-") for span in slots if not span.startswith("[")]
    return Member(
        name,
        int(address.partition("@")[0].rpartition(":")[2]),
        tuple(flags.split(",")),
        primary,
        link == "connected",
        tuple(range(int(first), int(last or first) + 1) for first, _, last in served),
    )


@contextmanager
def cluster(name: str) -> Iterator[Cluster]:
    """A healthy cluster of that kind of server; nothing is left of it at the end."""
    with folders() as folder:
        one = Cluster(name, folder)
        try:
            one.start()
            yield one
        finally:
            for node in one.nodes:
                node.kill()


class Sentinel(Node):
    """A server that watches others. It keeps its state in its configuration, which must be a file."""

    @property
    def command(self) -> list[str]:
        return [super().command[0], str(self.folder / "sentinel.conf"), "--sentinel"]


@dataclass(frozen=True)
class Watched:
    """A primary and its replica, and the sentinels that watch them."""

    nodes: Sequence[Node]
    sentinels: Sequence[Node]

    @property
    def url(self) -> str:
        """Its address: all sentinels, and the name of the service."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The sentinels' addresses, as redis.Sentinel wants them."""
        return [("127.0.0.1", node.port) for node in self.sentinels]

    def primary(self) -> Node:
        """The node that the sentinels name."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.port == int(port))

    def watch_closely(self) -> None:
        """From now on, until it is healed, a primary that is silent for half a second counts as failed."""
        self._watch(CLOSE // 2)

    def _watch(self, milliseconds: int) -> None:
        for sentinel in self.sentinels:
            sentinel.ask("SENTINEL", "SET", SERVICE, "down-after-milliseconds", milliseconds)

    def fail_over(self) -> Node:
        """Have the sentinels promote the replica; returns the former primary."""
        before = self.primary()
        self.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
        until(lambda: self.primary() is not before, "a failover")
        self._follow()
        return before

    def flush(self) -> None:
        """Drop all data; scripts stay."""
        self.primary().ask("FLUSHALL")

    def heal(self) -> None:
        """Start what was killed, resume what was stopped, and wait until the set-up is healthy."""
        for node in (*self.nodes, *self.sentinels):
            if node.running:
                node.resume()
            else:
                node.start(ready=False)
        self._watch(CLOSE // 2)
        self._follow()
        until(self.is_healthy, "a watched primary and replica")
        self._watch(CALM)

    def _follow(self) -> None:
        """Make the other node a replica: the sentinels would do so too, but ten seconds later."""
        primary = self.primary()
        for node in self.nodes:
            if node is not primary:
                until(partial(node.ask, "REPLICAOF", "127.0.0.1", primary.port), f"{node} follows")

    def is_healthy(self) -> bool:
        """Whether all sentinels name the same primary, know each other and the replica, and the replica follows."""
        primary = self.primary()
        for sentinel in self.sentinels:
            state = _pairs(sentinel.ask("SENTINEL", "MASTER", SERVICE))
            said = [state[name] for name in ("port", "flags", "num-slaves", "num-other-sentinels")]
            if said != [str(primary.port), "master", "1", "2"]:
                return False
            if [_pairs(words)["flags"] for words in sentinel.ask("SENTINEL", "REPLICAS", SERVICE)] != ["slave"]:
                return False
        return (
            all(node is primary or node.info("replication").get("master_link_status") == "up" for node in self.nodes)
            and primary.info("replication")["role"] == "master"
        )


def _pairs(words: Any) -> dict[str, str]:
    texts = [word.decode() for word in words]
    return dict(zip(texts[::2], texts[1::2], strict=True))


@contextmanager
def watched(name: str) -> Iterator[Watched]:
    """A primary, its replica and three sentinels of that kind of server; nothing is left of them at the end."""
    with folders() as folder, ExitStack() as stack:

        def home(which: str) -> Path:
            path = folder / which
            path.mkdir()
            return path

        options = {"repl-diskless-sync-delay": "0", "appendonly": "yes"}
        primary = Node(name, home("a"), options)
        replica = Node(name, home("b"), {**options, "replicaof": f"127.0.0.1 {primary.port}"})
        sentinels: list[Node] = []
        for number in range(3):
            place, port = home(f"s{number}"), quiet_port()
            given = {"port": port, "folder": place, "service": SERVICE, "primary": primary.port, "after": CALM}
            (place / "sentinel.conf").write_text(_SENTINEL.format(**given))
            sentinels.append(Sentinel(name, place, {}, port=port))
        for one in (primary, replica, *sentinels):
            stack.callback(one.kill)
        for one in (primary, replica, *sentinels):
            one.start()
        both = Watched((primary, replica), sentinels)
        until(both.is_healthy, "a watched primary and replica")
        yield both
