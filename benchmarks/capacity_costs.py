"""The constants of time and saving of `retarget plan`, and the error of its times.

Rules:
- Server times are CPU time of the server's main thread (INFO cpu): they include reading sockets and parsing, but
  neither this process nor the network.
- The minimum of five rounds counts, since other work on the machine only adds.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count, cycle
from random import Random
from typing import Any

import redis

from benchmarks.capacity_memory import HEAD_CODE, KEY, PATIENCE, TTL, client, command, drawn, load, server, settled
from retarget import Policy, Retargeter
from retarget.engine import Plan
from retarget.operate import Workload, estimate_capacity
from retarget.operate.redis_memory import Field, Shape
from retarget.stores import MemoryStore
from retarget.stores.redis import script
from retarget.timelines import Alternative, Answer, Enter, Guard, Write, timeline

_LANES = 32


class _Lanes:
    """Connections that each send a command before any reply is read, as many ad servers at once would."""

    def __init__(self, port: int, stack: ExitStack) -> None:
        self._lanes = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(_LANES)]
        for lane in self._lanes:
            lane.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lane.settimeout(PATIENCE)

    def send(self, commands: Iterator[bytes], many: int) -> None:
        """Send this many commands. An error reply raises RuntimeError."""
        for _ in range(many // _LANES):
            for lane in self._lanes:
                lane.sendall(next(commands))
            for lane in self._lanes:
                if lane.recv(1 << 16)[:1] == b"-":
                    raise RuntimeError("the server refused a command")


def _entries(names: Sequence[bytes], now: int) -> tuple[Enter, ...]:
    return tuple(Enter(name, now, 1, 16, HEAD_CODE) for name in names)


def server_times(calls: int, say: Callable[[str], None]) -> dict[str, float]:
    """CPU microseconds of the server per call, by what the call does."""
    now = 1_794_312_000
    name = [b"i%03d" % number for number in range(100)]
    visitors = 2_000
    found: dict[str, float] = {}
    with server() as port, client(port) as connected, ExitStack() as stack:
        lanes = _Lanes(port, stack)
        connected.script_load(script.SCRIPT)

        def key(number: int) -> bytes:
            return KEY + b"%08d" % number

        def fill(timelines: int) -> None:
            connected.flushall()
            load(port, visitors, [Shape(13, tuple(Field(4, 10) for _ in range(timelines)))])
            # the entries of `load` are old: with a recent one, no write is the first of its day
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
            found[label] = min(times)  # other work only adds
            say(f"{label:35} {found[label]:6.1f} us")

        def writing(*, guards: int = 0, entries: int = 1, new: bool = False) -> Callable[[int], bytes]:
            asked = tuple(Guard(name[n % 5], 15, now - 9, wanted=False) for n in range(guards))

            def make(number: int) -> bytes:
                fields = [b"n%02d" % (number // visitors)] if new else name[:entries]
                write = Write(key(number % visitors), now, b"", (Alternative(asked, _entries(fields, now), TTL),))
                return command("EVALSHA", script.SHA, 1, *script.arguments(write))

            return make

        for timelines in (1, 20, 100):
            measured(f"read, {timelines} timelines", timelines, lambda n: command("HGETALL", key(n % visitors)))
        measured("write, 1 entry", 20, writing())
        measured("write, 5 entries", 20, writing(entries=5))
        measured("write, 10 guards on 5 timelines", 20, writing(guards=10))
        measured("write, a new timeline of 20", 20, writing(new=True))
        measured("write, a new timeline of 100", 100, writing(new=True))
    return found


POLICY = """
[annoyance]
threshold = ["15 per 7 days"]

[caps]
advertiser = ["10 per 7 days"]
"""
CAMPAIGN = """
[campaign.campaign-{n}]
labels = {{ advertiser = "advertiser-{a}" }}
caps = ["3 per day", "9 per 7 days"]
audience = ["visit shop-{a} within 7 days"]
exclude = ["purchase within 7 days"]
"""


def time_errors(visitors: int, calls: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The error of the estimated server times for calls of the library on visitors drawn at random.

    The policy has six rules for each campaign, none of which the constants were measured with.
    """
    text = POLICY + "".join(CAMPAIGN.format(n=n, a=n % 2) for n in range(10))
    policy, spy = Policy.from_text(text), _Spy()
    now = 1_794_312_000
    ads = Retargeter(policy, spy, clock=lambda: now)
    for turn in range(8):
        ads.record("v0000000", "impression", f"campaign-{turn % 4}", at=now - 3_600 * (30 - turn))
    for shop in range(2):
        ads.record("v0000000", "visit", f"shop-{shop}", at=now - 3_600)
    key = b"rt:2~v0000000"
    state = spy.read(key)
    ads.claim("v0000000", [f"campaign-{n}" for n in range(10)])
    claim = spy.last
    ads.record("v0000000", "impression", "campaign-1")
    record = spy.last
    work = Workload(visitors, impressions=8, campaigns=4, visits=3, spread="even", id_bytes=8, qps=1)
    capacity = estimate_capacity(work, plan=Plan(policy))
    expected = {
        "decide": capacity.server_us_decide,
        "claim": capacity.server_us_claim,
        "record": capacity.server_us_record,
    }
    random, rows = Random(3), []
    with server() as port, client(port) as connected, ExitStack() as stack:
        lanes = _Lanes(port, stack)
        connected.script_load(script.SCRIPT)

        def anyone() -> bytes:
            return b"rt:2~v%07d" % random.randrange(visitors)

        def written(write: Write) -> bytes:
            _, *rest = script.arguments(write)
            return command("EVALSHA", script.SHA, 1, anyone(), *rest)

        makers: dict[str, Callable[[], bytes]] = {
            "decide": lambda: command("HGETALL", anyone()),
            "claim": lambda: written(claim),
            "record": lambda: written(record),
        }
        fields = [word for pair in state.items() for word in pair]
        for start in range(0, visitors, 1_000):
            with connected.pipeline(transaction=False) as pipe:
                for number in range(start, min(visitors, start + 1_000)):
                    pipe.execute_command("HSET", b"rt:2~v%07d" % number, *fields)
                    pipe.expire(b"rt:2~v%07d" % number, TTL)
                pipe.execute()
        for name, make in makers.items():
            times = []
            for _ in range(5):
                before = _cpu(connected)
                lanes.send((make() for _ in count()), calls)
                times.append((_cpu(connected) - before) * 1e6 / (calls // _LANES * _LANES))
            row = {"call": name, "visitors": visitors, "timelines": len(state), "measured": min(times)}
            row |= {"computed": expected[name], "error": expected[name] / min(times) - 1}
            say(f"{name:10} {row['measured']:8.1f} us {row['computed']:8.1f} us {row['error']:+8.0%}")
            rows.append(row)
    return rows


class _Spy(MemoryStore):
    """Remembers the last write."""

    last: Write

    def write(self, write: Write) -> Answer:
        self.last = write
        return super().write(write)


def _cpu(connected: redis.Redis) -> float:
    info = connected.info("cpu")
    return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])


def client_times(calls: int, say: Callable[[str], None]) -> dict[str, float]:
    """CPU microseconds of the ad server's process per call, one call at a time."""
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
            found[label] = min(times)  # other work only adds
            say(f"client: {label:27} {found[label]:6.1f} us")
    return found


def saving(visitors: int, say: Callable[[str], None]) -> dict[str, float]:
    """How fast a server saves, what writes copy meanwhile, and resident memory divided by `used_memory`."""
    layout = drawn(Workload(visitors=1, impressions=8, campaigns=4, id_bytes=8), 2_000)
    random = Random(2)
    found: dict[str, float] = {}
    with server() as port, client(port) as connected:
        load(port, visitors, layout)
        used = settled(connected)
        info = connected.info("memory")
        found["rss of used, fresh"] = info["used_memory_rss"] / used
        before = time.perf_counter()
        connected.save()
        found["saved bytes per second"] = used / (time.perf_counter() - before)
        writes = 5_000
        connected.config_set("rdb-key-save-delay", -max(1, visitors // 50_000))  # so that saving outlasts the writes
        connected.bgsave()
        time.sleep(0.3)
        own = b"\x9c\x00" + b"\x6a\xf3\x12\x34" * 9
        with connected.pipeline(transaction=False) as pipe:
            for number in random.sample(range(visitors), writes):
                key = KEY + b"%08d" % number
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
        for turn in range(1, 4):  # visitors are deleted, others of other sizes are added
            gone = random.sample(range(visitors), visitors // 3)
            for start in range(0, len(gone), 1_000):
                connected.unlink(*(KEY + b"%08d" % number for number in gone[start : start + 1_000]))
            others = drawn(Workload(visitors=1, impressions=12, campaigns=4 + turn, id_bytes=8), 2_000)
            load(port, visitors // 3, others, start=2 * turn * visitors)
        settled(connected)
        info = connected.info("memory")
        found["rss of used, changed"] = info["used_memory_rss"] / info["used_memory"]
        found["allocator fragmentation, changed"] = float(info["allocator_frag_ratio"])
    for label, figure in found.items():
        say(f"{label:35} {figure:,.2f}")
    return found


def costs(server: dict[str, float], client: dict[str, float], disk: dict[str, float]) -> dict[str, float]:
    """The constants of `retarget.operate.Costs` from the measurements, most of them differences of two times."""
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
