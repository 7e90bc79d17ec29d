"""diagnosis.py: from observations of a server to diagnoses, each with its cure."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from retarget.operate.diagnosis import GRADES, TOPICS, Connection, Seen, diagnose

DOCS = Path(__file__).resolve().parents[3] / "docs"
SEEN = Seen(
    connection=Connection("ads.example:6379", local=False, tls=True, verified=True, password=True, user="ads"),
    info={"redis_version": "7.4.1", "role": "master"},
    settings={},
    refused={},
    write="",
    round_trips=(),
    connecting=None,
    ahead=None,
    not_seen=(),
    prefix="rt:",
    timeout=0.1,
    connections=64,
)


def with_info(**info: object) -> Seen:
    """The same server with more in INFO."""
    return replace(SEEN, info={**SEEN.info, **info})


def reached(**how: object) -> Seen:
    """The same server, reached in another way."""
    return replace(SEEN, connection=replace(SEEN.connection, **how))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (with_info(redis_version="6.2.14"), "error server: Redis 6.2.14 is too old; use Redis 7.0 or newer, or Valkey"),
        (with_info(redis_version="6.2.14", valkey_version="9.1.2"), "ok server: Valkey 9.1.2, up for 0 s"),
        (with_info(redis_mode="sentinel"), "error server: this is a Sentinel, which stores no data; "),
        (with_info(maxmemory_policy="allkeys-lfu", evicted_keys=7000), "allkeys-lfu: 7,000 keys already evicted; CON"),
        (with_info(used_memory=95, maxmemory=100), "warning memory: 95 B of 100 B used; CONFIG SET maxmemory 1mb"),
        (with_info(used_memory=3 << 30, maxmemory=0), "note memory: 3 GB used, without a limit: when memory runs out"),
        (with_info(used_memory=9, maxmemory=0, total_system_memory=10), "warning memory: 9 B used, without a limit"),
        (with_info(aof_enabled=1, aof_last_write_status="err"), "error persistence: the last write to the append-only"),
        (with_info(aof_enabled=1), "ok persistence: appendonly yes"),
        (
            with_info(aof_enabled=0, rdb_changes_since_last_save=1234),
            "snapshots at best: a crash now would lose the last 1,234",
        ),
        (
            replace(with_info(aof_enabled=1, rdb_last_bgsave_status="err"), settings={"save": "60 1"}),
            "error persistence: the last snapshot failed, so writes are refused",
        ),
        (with_info(connected_slaves=1), "note replication: a primary with 1 replica: if cut off, it still accepts"),
        (
            replace(with_info(connected_slaves=2, min_slaves_good_slaves=2), settings={"min-replicas-to-write": "1"}),
            "ok replication: a primary with 2 replicas: if cut off, it stops accepting writes after 10 seconds",
        ),
        (with_info(maxclients=9000, rejected_connections=12), "0 of 9,000 connections in use, 12 refused so far; each"),
        (
            with_info(maxclients=9000, connected_clients=8990),
            "warning connections: 8,990 of 9,000 connections in use; ",
        ),
        (
            replace(SEEN, settings={"hash-max-ziplist-value": "64", "hash-max-ziplist-entries": "64"}),
            "warning layout: listpacks hold up to 64 fields of up to 64 bytes; CONFIG SET hash-max-listpack-entries",
        ),
        (replace(SEEN, settings={"lua-time-limit": "5000"}), "ok scripts: busy-reply-threshold 5000"),
        (
            replace(SEEN, round_trips=[0.001] * 99 + [0.2]),
            "is 100 ms; use a server nearer by, or a longer timeout: timeout=0.4",
        ),
        (
            replace(SEEN, connecting=0.07),
            "warning latency: a connection takes 70 ms to open, which counts towards a call",
        ),
        (replace(SEEN, ahead=-20), "ok clock: the server's clock is 20 s behind the local one"),
        (
            replace(SEEN, write="ReadOnlyError: no"),
            "error write: a write failed: ReadOnlyError: no; give the address of",
        ),
        (replace(SEEN, write="MISCONF no"), "error write: a write failed: MISCONF no; free the disk"),
        (
            reached(verified=False),
            "warning transport: TLS, but anyone can impersonate the server; remove ssl_",
        ),
        (reached(tls=False), "note transport: unencrypted over the network; use rediss:// instead of redis://"),
        (SEEN, "ok transport: TLS, and the server's certificate and name are verified"),
        (reached(password=False), "warning login: no password; ACL SETUSER ads on >PASSWORD ~rt:* resetchannels -@all"),
        (reached(user=None), "ok login: logged in as a user, with a password"),
    ],
)
def test_observations_lead_to_diagnoses(seen: Seen, said: str) -> None:
    """Servers that tests cannot set up, from what they would report."""
    found = [diagnosis for diagnosis in diagnose(seen) if said in str(diagnosis)]
    assert len(found) == 1, [str(diagnosis) for diagnosis in diagnose(seen)]
    assert found[0].why == TOPICS[found[0].topic]


def test_all_but_ok_have_a_cure() -> None:
    """Every diagnosis but an ok one has a cure."""
    for seen in (SEEN, with_info(maxmemory_policy="allkeys-lru", maxmemory=1, used_memory=2), reached(tls=False)):
        assert all(bool(diagnosis.cure) == (diagnosis.grade != "ok") for diagnosis in diagnose(seen))


def test_the_page_lists_topics_and_grades() -> None:
    """check-a-server.md has tables of the topics with their reasons, and of the grades, as in the code."""
    page = (DOCS / "how-to" / "check-a-server.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE)
    assert [row for row in rows if row[0] in GRADES] == list(GRADES.items())
    assert [row for row in rows if row[0] in TOPICS] == list(TOPICS.items())
