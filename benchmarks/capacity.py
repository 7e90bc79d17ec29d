"""Measure what `retarget plan` computes with, and how far its answers are from real servers.

    python -m benchmarks.capacity [--visitors 1e6] [--first] [--json FILE]   the error of the memory model
    python -m benchmarks.capacity --measure [--json FILE]                    the constants of time and of saving

Rules:
- The server is Debian's redis-server, our own, on loopback; without it there is nothing to measure with (jemalloc).
- Visitors are loaded as bytes, by HSET and EXPIRE; a test shows that the library's own writes leave the same bytes.
- Server times are processor times of its main thread (INFO cpu), so reading sockets and parsing is in them, and
  neither this process nor the network is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, cycle, islice
from pathlib import Path
from random import Random
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from retarget import Policy, Retargeter, timeline, wire
from retarget.capacity import Workload, parse_number, shapes
from retarget.changes import Alternative, Entry, Guard, Write
from retarget.footprint import DICT_ENTRY, OBJECT, Field, Layout, Shape, tables

TTL = 7 * 86_400
_PATIENCE = 20.0
_LANES = 32
_KEY = b"rt:1:"
_HEAD = timeline.head(TTL, shield=True)

# -- a server ----------------------------------------------------------------------------------------------------------


@contextmanager
def server(*options: str) -> Iterator[int]:
    """Run Debian's redis-server; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is not installed: the wheel's Valkey has no jemalloc, so it cannot stand in")
    with tempfile.TemporaryDirectory(prefix="capacity-") as folder:
        words = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(
            [program, *words, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        watchdog = threading.Timer(_PATIENCE, process.kill)
        watchdog.start()
        try:
            if not any("eady to accept connections" in line for line in process.stdout or ()):
                raise RuntimeError("redis-server did not start")
            watchdog.cancel()
            with client(port) as connected:
                connected.config_set("loglevel", "warning")  # nobody reads its output from here on
            yield port
        finally:
            watchdog.cancel()
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def client(port: int) -> redis.Redis:
    """A plain client with time for a large answer."""
    return redis.Redis(port=port, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=120)


def command(*words: bytes | str | int) -> bytes:
    """A command as it goes over the wire."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


# -- memory ------------------------------------------------------------------------------------------------------------


def layouts() -> dict[str, list[Shape]]:
    """Visitors to be weighed: all alike, or taken in turn."""

    def alike(key: int, *fields: tuple[int, int, int]) -> list[Shape]:
        return [Shape(key, tuple(Field(name, value) for times, name, value in fields for _ in range(times)))]

    uneven = Workload(visitors=1, impressions=20, campaigns=4)
    return {
        "8 impressions over 4 campaigns": alike(13, (4, 3, 10)),
        "1 impression": alike(13, (1, 3, 6)),
        "20 campaigns, once each": alike(13, (20, 4, 6)),
        "100 timelines": alike(13, (100, 14, 6)),
        "ids of 36 bytes": alike(41, (4, 37, 10)),
        "event ids remembered": alike(13, (4, 3, 10), (2, 2, 64)),
        "16 of one campaign: beyond 64 bytes": alike(13, (1, 3, 66), (3, 3, 10)),
        "a mean of 20 over 4 campaigns, uneven": drawn(uneven, 2_000),
    }


def drawn(workload: Workload, many: int) -> list[Shape]:
    """So many visitors, drawn from what a workload says of them."""
    likely = shapes(workload)
    return Random(1).choices([shape for _, shape in likely], [share for share, _ in likely], k=many)


def load(port: int, visitors: int, layout: Sequence[Shape], start: int = 0) -> None:
    """Visitors of these shapes, in turn, as the bytes that the library would write."""
    values: dict[Shape, bytes] = {}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(120)
        turns = enumerate(islice(cycle(layout), visitors), start)
        while batch := list(islice(turns, 500)):
            sent = []
            for number, shape in batch:
                if shape not in values:
                    values[shape] = _fields(shape)
                key = b"%b%0*d" % (_KEY, shape.key - len(_KEY), number)
                words = 2 + 2 * len(shape.fields)
                sent.append(b"*%d\r\n$4\r\nHSET\r\n$%d\r\n%b\r\n%b" % (words, len(key), key, values[shape]))
                sent.append(b"*3\r\n$6\r\nEXPIRE\r\n$%d\r\n%b\r\n$%d\r\n%d\r\n" % (len(key), key, len(str(TTL)), TTL))
            connection.sendall(b"".join(sent))
            awaited, got = 2 * len(batch), 0
            while got < awaited:
                received = connection.recv(1 << 16)
                if not received or b"-" in received:
                    raise RuntimeError(f"the server said {received[:200]!r}")
                got += received.count(b"\n")


def _fields(shape: Shape) -> bytes:
    words: list[bytes] = []
    for number, (name, value) in enumerate(shape.fields):
        words += (b"i%0*d" % (name - 1, number), _HEAD.to_bytes(2) + b"\x6a\xf3\x12\x34" * value)
        words[-1] = words[-1][:value]
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def settled(connected: redis.Redis) -> int:
    """`used_memory` once the server has nothing left to tidy: it moves to a larger table bit by bit, and shrinks the
    buffers of connections.
    """
    seen: list[int] = []
    while len(seen) < 600 and (len(seen) < 3 or len({*seen[-3:]}) > 1):
        seen.append(int(connected.info("memory")["used_memory"]))
        time.sleep(0.11)
    return seen[-1]


def moved(connected: redis.Redis, visitors: int) -> None:
    """Wait until the server has moved to its larger tables: `used_memory` does not tell, until it lets the old ones go.

    It moves a millisecond's worth at every turn of its clock, so that is turned faster meanwhile.
    """
    hz = connected.config_get("hz")["hz"]
    connected.config_set("hz", 500)
    until = time.monotonic() + 15 * _PATIENCE
    while _table_bytes(connected, visitors) > tables(visitors).now:
        if time.monotonic() > until:
            raise RuntimeError("the server does not get done with moving to larger tables")
        time.sleep(0.05)
    connected.config_set("hz", hz)


def _table_bytes(connected: redis.Redis, visitors: int) -> int:
    """The slots of the tables of keys and of times to live, those that are on the way out too."""
    told = connected.memory_stats()["db.0"]
    entries = visitors * (DICT_ENTRY + OBJECT) + visitors * DICT_ENTRY  # as MEMORY STATS counts them
    return int(told["overhead.hashtable.main"]) + int(told["overhead.hashtable.expires"]) - entries


def computed(visitors: int, layout: Sequence[Shape], server: Layout) -> int:
    """Bytes that the model gives for so many visitors of these shapes in turn."""
    whole, part = divmod(visitors, len(layout))
    sizes = [server.visitor(shape) for shape in layout]
    return whole * sum(sizes) + sum(sizes[:part]) + tables(visitors).now


def weighed(port: int, visitors: int, layout: Sequence[Shape], *, cluster: bool = False) -> dict[str, Any]:
    """Load visitors into an empty server: bytes measured and computed, and the error of what is computed."""
    with client(port) as connected:
        load(port, 1, layout)  # what connections take is there already
        connected.flushall()
        before = settled(connected)
        load(port, visitors, layout)
        moved(connected, visitors)
        used = settled(connected) - before
        told = connected.info("memory")
        model = computed(visitors, layout, Layout(cluster=cluster))
        row = {
            "visitors": visitors,
            "measured": used / visitors,
            "computed": model / visitors,
            "error": model / used - 1,
            "rss": (told["used_memory_rss"]) / told["used_memory"],
        }
        connected.flushall()
        return row


def errors(visitors: int, say: Callable[[str], None], *, first: bool = False) -> list[dict[str, Any]]:
    """How far the model is off, for each layout, and for the first on a cluster's node; or for the first alone."""
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
    """A cluster of one node; its port."""
    with server("--cluster-enabled", "yes") as port:
        with client(port) as connected:
            connected.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
            until = time.monotonic() + _PATIENCE
            while b"cluster_state:ok" not in connected.execute_command("CLUSTER", "INFO"):
                if time.monotonic() > until:
                    raise RuntimeError("the cluster's node does not get ready")
                time.sleep(0.05)
        yield port


# -- constants ---------------------------------------------------------------------------------------------------------


class _Lanes:
    """Connections that send one command each and then hear all replies, as many ad servers together would."""

    def __init__(self, port: int, stack: ExitStack) -> None:
        self._lanes = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(_LANES)]
        for lane in self._lanes:
            lane.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lane.settimeout(_PATIENCE)

    def send(self, commands: Iterator[bytes], many: int) -> None:
        """So many commands; an answer that is an error ends it."""
        for _ in range(many // _LANES):
            for lane in self._lanes:
                lane.sendall(next(commands))
            for lane in self._lanes:
                if lane.recv(1 << 16)[:1] == b"-":
                    raise RuntimeError("the server refused a command")


def _entries(names: Sequence[bytes], now: int) -> tuple[Entry, ...]:
    return tuple(Entry(name, now, 1, 16, _HEAD) for name in names)


def server_times(calls: int, say: Callable[[str], None]) -> dict[str, float]:
    """Processor microseconds of the server for each call, by what the call does."""
    now = 1_794_312_000
    name = [b"i%03d" % number for number in range(100)]
    visitors = 2_000
    found: dict[str, float] = {}
    with server() as port, client(port) as connected, ExitStack() as stack:
        lanes = _Lanes(port, stack)
        connected.script_load(wire.SCRIPT)

        def key(number: int) -> bytes:
            return _KEY + b"%08d" % number

        def fill(timelines: int) -> None:
            connected.flushall()
            load(port, visitors, [Shape(13, tuple(Field(4, 10) for _ in range(timelines)))])
            # on the wire the moments are those of `_fields`; a first entry brings each to today
            raw = timeline.head(TTL, shield=True).to_bytes(2) + (now - 60).to_bytes(4) * 2
            with connected.pipeline(transaction=False) as pipe:
                for number in range(visitors):
                    pipe.hset(key(number), mapping=dict.fromkeys(name[:timelines], raw))
                pipe.execute()

        def measured(label: str, timelines: int, make: Callable[[int], bytes]) -> None:
            times = []
            for _ in range(5):
                fill(timelines)
                commands = (make(number) for number in count())
                lanes.send(commands, 4 * _LANES)
                before = _cpu(connected)
                lanes.send(commands, calls)
                times.append((_cpu(connected) - before) * 1e6 / (calls // _LANES * _LANES))
            found[label] = min(times)  # what else runs here only adds
            say(f"{label:35} {found[label]:6.1f} us")

        def writing(*, guards: int = 0, entries: int = 1, new: bool = False) -> Callable[[int], bytes]:
            asked = tuple(
                Guard(name[n % 5], 15, now - 9, wanted=False, more=False, anchored=False) for n in range(guards)
            )

            def make(number: int) -> bytes:
                fields = [b"n%02d" % (number // visitors)] if new else name[:entries]
                write = Write(key(number % visitors), now, b"", (Alternative(asked, _entries(fields, now), TTL),))
                return command("EVALSHA", wire.SHA, 1, *wire.arguments(write))

            return make

        for timelines in (1, 20, 100):
            measured(f"read, {timelines} timelines", timelines, lambda n: command("HGETALL", key(n % visitors)))
        measured("write, 1 entry", 20, writing())
        measured("write, 5 entries", 20, writing(entries=5))
        measured("write, 10 guards on 5 timelines", 20, writing(guards=10))
        measured("write, a new timeline of 20", 20, writing(new=True))
        measured("write, a new timeline of 100", 100, writing(new=True))
    return found


def _cpu(connected: redis.Redis) -> float:
    told = connected.info("cpu")
    return float(told["used_cpu_user_main_thread"]) + float(told["used_cpu_sys_main_thread"])


def client_times(calls: int, say: Callable[[str], None]) -> dict[str, float]:
    """Processor microseconds of the ad server's process for each call, one call after the other."""
    campaigns = [f"c{number}" for number in range(50)]
    rules = {"caps": ["3 per day", "10 per 7 days"], "exclude": ["purchase within 30 days"]}
    policy = Policy.model_validate(
        {"annoyance": {"threshold": ["1000 per 7 days"]}, "campaign": dict.fromkeys(campaigns, rules)}
    )
    found: dict[str, float] = {}
    with server() as port, Retargeter(policy, f"redis://127.0.0.1:{port}/0", timeout=1) as ads:
        visitors = [f"v{number:07d}" for number in range(1_000)]
        ads.record_many((visitor, "impression", campaign) for visitor in visitors for campaign in campaigns[:4])
        jobs: dict[str, Callable[[str], object]] = {
            "decide, 10 candidates": lambda visitor: ads.decide(visitor, campaigns[:10]).eligible,
            "decide, 50 candidates": lambda visitor: ads.decide(visitor, campaigns).eligible,
            "claim, 10 candidates": lambda visitor: ads.claim(visitor, campaigns[:10]),
            "record": lambda visitor: ads.record(visitor, "impression", "c1"),
        }
        for label, job in jobs.items():
            times = []
            for _ in range(5):
                turns = cycle(visitors)
                before = time.process_time()
                for _ in range(calls // 5):
                    job(next(turns))
                times.append((time.process_time() - before) * 1e6 / (calls // 5))
            found[label] = min(times)  # what else runs here only adds
            say(f"client: {label:27} {found[label]:6.1f} us")
    return found


def saving(visitors: int, say: Callable[[str], None]) -> dict[str, float]:
    """How fast a server saves, what writes meanwhile copy, and how much more than `used_memory` it has."""
    layout = drawn(Workload(visitors=1, impressions=8, campaigns=4, id_bytes=8), 2_000)
    random = Random(2)
    found: dict[str, float] = {}
    with server() as port, client(port) as connected:
        load(port, visitors, layout)
        used = settled(connected)
        told = connected.info("memory")
        found["rss of used, fresh"] = told["used_memory_rss"] / used
        before = time.perf_counter()
        connected.save()
        found["saved bytes per second"] = used / (time.perf_counter() - before)
        writes = 5_000
        connected.config_set(
            "rdb-key-save-delay", -max(1, visitors // 50_000)
        )  # so that it lasts longer than the writes
        connected.bgsave()
        time.sleep(0.3)
        own = b"\x9c\x00" + b"\x6a\xf3\x12\x34" * 9
        with connected.pipeline(transaction=False) as pipe:
            for number in random.sample(range(visitors), writes):
                key = _KEY + b"%08d" % number
                pipe.hset(key, b"inew", own)
                pipe.expire(key, TTL + 60)
            pipe.execute()
        connected.config_set("rdb-key-save-delay", 0)
        process = connected.info("persistence")
        for _ in range(600):
            process = connected.info("persistence")
            if not process["rdb_bgsave_in_progress"]:
                break
            found["copied pages per write"] = process["current_cow_size"] / 4_096 / writes
            time.sleep(0.1)
        found["copied pages per write"] = process["rdb_last_cow_size"] / 4_096 / writes
        for turn in range(1, 4):  # visitors go, others come, of other sizes
            gone = random.sample(range(visitors), visitors // 3)
            for start in range(0, len(gone), 1_000):
                connected.unlink(*(_KEY + b"%08d" % number for number in gone[start : start + 1_000]))
            others = drawn(Workload(visitors=1, impressions=12, campaigns=4 + turn, id_bytes=8), 2_000)
            load(port, visitors // 3, others, start=2 * turn * visitors)
        settled(connected)
        told = connected.info("memory")
        found["rss of used, changed"] = told["used_memory_rss"] / told["used_memory"]
        found["allocator fragmentation, changed"] = float(told["allocator_frag_ratio"])
    for label, figure in found.items():
        say(f"{label:35} {figure:,.2f}")
    return found


def costs(server: dict[str, float], client: dict[str, float], disk: dict[str, float]) -> dict[str, float]:
    """The constants of `retarget.capacity.Costs` from what was measured, each a difference of two times."""
    timeline_us = (server["write, a new timeline of 100"] - server["write, a new timeline of 20"]) / 80
    entry_us = (server["write, 5 entries"] - server["write, 1 entry"]) / 4
    read_us = (server["read, 100 timelines"] - server["read, 1 timelines"]) / 99
    candidate_us = (client["decide, 50 candidates"] - client["decide, 10 candidates"]) / 40
    found = {
        "read_us": server["read, 1 timelines"] - read_us,
        "read_timeline_us": read_us,
        "write_us": server["write, a new timeline of 20"] - entry_us - 20 * timeline_us,
        "write_entry_us": entry_us,
        "write_guard_us": (server["write, 10 guards on 5 timelines"] - server["write, 1 entry"]) / 10,
        "write_timeline_us": timeline_us,
        "decide_client_us": client["decide, 10 candidates"] - 10 * candidate_us,
        "candidate_client_us": candidate_us,
        "claim_client_us": client["claim, 10 candidates"],
        "record_client_us": client["record"],
        "save_rate": disk["saved bytes per second"],
        "write_pages": disk["copied pages per write"],
        "fragmentation": disk["rss of used, changed"],
    }
    return {name: float(f"{figure:.3g}") for name, figure in found.items()}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description="what a plan computes with")
    parser.add_argument("--visitors", default="1e6", help="how many are loaded")
    parser.add_argument("--first", action="store_true", help="only the first layout: for more visitors")
    parser.add_argument("--measure", action="store_true", help="the constants instead of the error")
    parser.add_argument("--calls", type=int, default=40_000, help="calls for each time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    options = parser.parse_args(arguments)
    visitors = int(parse_number(options.visitors))
    if options.measure:
        found: dict[str, Any] = {
            "server": server_times(options.calls, _say),
            "client": client_times(options.calls // 4, _say),
            "saving": saving(visitors, _say),
        }
        found["costs"] = costs(found["server"], found["client"], found["saving"])
    else:
        _say(f"{visitors:,} visitors: bytes for each, measured and computed, and the error of what is computed")
        found = {"memory": errors(visitors, _say, first=options.first)}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
