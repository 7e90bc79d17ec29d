"""Visitors on a real server, compared with the bytes that `retarget.operate.redis_memory` computes for them.

Rules:
- The server is Debian's redis-server, started here on loopback: the wheel's Valkey has no jemalloc.
- Visitors are loaded as bytes, with HSET and EXPIRE; a test shows that the library's own writes leave the same bytes.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from random import Random
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks import servers
from retarget.operate import Layout, Workload
from retarget.operate.redis_memory import DICT_ENTRY, OBJECT, Field, Shape, tables
from retarget.operate.workload import shapes
from retarget.timelines import timeline

TTL = 7 * 86_400
PATIENCE = 20.0
KEY = b"rt:2~"
HEAD_CODE = timeline.head(TTL, shield=True)

# -- a server ----------------------------------------------------------------------------------------------------------


@contextmanager
def server(*options: str) -> Iterator[int]:
    """Run Debian's redis-server and yield its port."""
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not installed, and the wheel's Valkey cannot replace it: it has no jemalloc")
    with servers.server(*options) as url:
        yield int(url.rpartition(":")[2].partition("/")[0])


def client(port: int) -> redis.Redis:
    """A plain client that waits for a large reply."""
    return redis.Redis(port=port, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=120)


def command(*words: bytes | str | int) -> bytes:
    """A command as sent on the wire (RESP)."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


# -- memory ------------------------------------------------------------------------------------------------------------


def layouts() -> dict[str, list[Shape]]:
    """The visitors to load: all the same shape, or shapes in turn."""

    def alike(key: int, *fields: tuple[int, int, int]) -> list[Shape]:
        return [Shape(key, tuple(Field(name, value) for times, name, value in fields for _ in range(times)))]

    uneven = Workload(visitors=1, impressions=20, campaigns=4)
    return {
        "8 impressions over 4 campaigns": alike(13, (4, 3, 10)),
        "1 impression": alike(13, (1, 3, 6)),
        "20 campaigns, once each": alike(13, (20, 4, 6)),
        "100 timelines": alike(13, (100, 14, 6)),
        "ids of 36 bytes": alike(41, (4, 37, 10)),
        "event ids remembered": alike(13, (4, 3, 10), (2, 2, 64), (1, 2, 36)),
        "16 of one campaign: beyond 64 bytes": alike(13, (1, 3, 66), (3, 3, 10)),
        "a mean of 20 over 4 campaigns, uneven": drawn(uneven, 2_000),
    }


def drawn(workload: Workload, many: int) -> list[Shape]:
    """A number of visitors, drawn from a workload's distribution."""
    likely = shapes(workload)
    return Random(1).choices([shape for _, shape in likely], [share for share, _ in likely], k=many)


def load(port: int, visitors: int, layout: Sequence[Shape], start: int = 0) -> None:
    """Load visitors of these shapes in turn, as the bytes that the library would write."""
    values: dict[Shape, bytes] = {}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(120)
        turns = enumerate(islice(cycle(layout), visitors), start)
        while batch := list(islice(turns, 500)):
            sent = []
            for number, shape in batch:
                if shape not in values:
                    values[shape] = _fields(shape)
                key = b"%b%0*d" % (KEY, shape.key - len(KEY), number)
                words = 2 + 2 * len(shape.fields)
                sent.append(b"*%d\r\n$4\r\nHSET\r\n$%d\r\n%b\r\n%b" % (words, len(key), key, values[shape]))
                sent.append(b"*3\r\n$6\r\nEXPIRE\r\n$%d\r\n%b\r\n$%d\r\n%d\r\n" % (len(key), key, len(str(TTL)), TTL))
            connection.sendall(b"".join(sent))
            awaited, got = 2 * len(batch), 0
            while got < awaited:
                received = connection.recv(1 << 16)
                if not received or b"-" in received:
                    raise RuntimeError(f"the server replied {received[:200]!r}")
                got += received.count(b"\n")


def _fields(shape: Shape) -> bytes:
    words: list[bytes] = []
    for number, (name, value) in enumerate(shape.fields):
        words += (b"i%0*d" % (name - 1, number), HEAD_CODE.to_bytes(2) + b"\x6a\xf3\x12\x34" * value)
        words[-1] = words[-1][:value]
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def settled(connected: redis.Redis) -> int:
    """`used_memory` once it no longer changes: a server rehashes and shrinks buffers gradually."""
    seen: list[int] = []
    while len(seen) < 600 and (len(seen) < 3 or len({*seen[-3:]}) > 1):
        seen.append(int(connected.info("memory")["used_memory"]))
        time.sleep(0.11)
    return seen[-1]


def moved(connected: redis.Redis, visitors: int) -> None:
    """Wait until the server has rehashed its tables, which `used_memory` shows only when the old ones are freed.

    It rehashes for a millisecond per tick, so `hz` is raised meanwhile.
    """
    hz = str(connected.config_get("hz")["hz"])
    connected.config_set("hz", 500)
    until = time.monotonic() + 15 * PATIENCE
    while _table_bytes(connected, visitors) > tables(visitors).now:
        if time.monotonic() > until:
            raise RuntimeError("the server did not finish rehashing")
        time.sleep(0.05)
    connected.config_set("hz", hz)


def _table_bytes(connected: redis.Redis, visitors: int) -> int:
    """Bytes of the slots of the tables of keys and of TTLs, including tables being replaced."""
    info = connected.memory_stats()["db.0"]
    entries = visitors * (DICT_ENTRY + OBJECT) + visitors * DICT_ENTRY  # as MEMORY STATS counts them
    return int(info["overhead.hashtable.main"]) + int(info["overhead.hashtable.expires"]) - entries


def computed(visitors: int, layout: Sequence[Shape], server: Layout) -> int:
    """Bytes that the model computes for visitors of these shapes in turn."""
    whole, part = divmod(visitors, len(layout))
    sizes = [server.visitor(shape) for shape in layout]
    return whole * sum(sizes) + sum(sizes[:part]) + tables(visitors).now


def weighed(port: int, visitors: int, layout: Sequence[Shape], *, cluster: bool = False) -> dict[str, Any]:
    """Load visitors into the emptied server: bytes measured and computed, and the error of the computed figure."""
    with client(port) as connected:
        connected.flushall()
        load(port, 1, layout)  # connections and each command's latency histogram are then counted already
        moved(connected, 1)
        connected.flushall()
        before = settled(connected)
        load(port, visitors, layout)
        moved(connected, visitors)
        used = settled(connected) - before
        info = connected.info("memory")
        model = computed(visitors, layout, Layout(cluster=cluster))
        row = {
            "visitors": visitors,
            "measured": used / visitors,
            "computed": model / visitors,
            "error": model / used - 1,
            "rss": (info["used_memory_rss"]) / info["used_memory"],
        }
        connected.flushall()
        return row


def errors(visitors: int, say: Callable[[str], None], *, first: bool = False) -> list[dict[str, Any]]:
    """The model's error for each layout and for the first on a cluster's node; with `first`, for the first alone."""
    rows = []

    def weigh(port: int, name: str, layout: Sequence[Shape], *, cluster: bool = False) -> None:
        row = {"layout": name} | weighed(port, visitors, layout, cluster=cluster)
        say(f"{name:45} {row['measured']:9.1f} {row['computed']:9.1f} {row['error']:+8.2%}")
        rows.append(row)

    for name, layout in layouts().items():
        with server() as port:
            weigh(port, name, layout)
        if first:
            return rows
    name, layout = next(iter(layouts().items()))
    with node() as port:
        weigh(port, f"{name}, cluster", layout, cluster=True)
    return rows


@contextmanager
def node() -> Iterator[int]:
    """Run a cluster of one node and yield its port."""
    with server("--cluster-enabled", "yes") as port:
        with client(port) as connected:
            connected.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
            until = time.monotonic() + PATIENCE
            while b"cluster_state:ok" not in connected.execute_command("CLUSTER", "INFO"):
                if time.monotonic() > until:
                    raise RuntimeError("the cluster's node did not get ready")
                time.sleep(0.05)
        yield port
