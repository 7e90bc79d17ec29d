"""What a server's settings mean for a visitor's caps: from observations to diagnoses, each with its cure.

Rules:
- Pure: observations go in, diagnoses come out. No server, no clock.
- What could not be read is reported once, under `access`; nothing is concluded from it.
- A cure is a command, a setting or an address that can be copied. No diagnosis contains a password.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from retarget.timelines import SKEW

Grade: TypeAlias = Literal["error", "warning", "note", "ok"]

GRADES: dict[Grade, str] = {
    "error": "calls fail or caps are broken, now",
    "warning": "calls will fail or caps will be broken, sooner or later",
    "note": "good to know",
    "ok": "as it should be",
}
"""The grades of a diagnosis, worst first, and what each means."""

TOPICS: dict[str, str] = {
    "server": "the library is tested with Redis 7.0 and newer and with Valkey",
    "loading": "a server that is still loading its data refuses every call, so the policy's on_store_error applies",
    "rights": "a command that is not permitted fails, and the policy's on_store_error applies",
    "write": "what is not counted is not capped: a write like the library's own must read back correctly",
    "access": "what could not be read may be wrong without being reported here",
    "login": "anyone who can reach the server can delete visitors, and their caps with them",
    "transport": "visitor ids are part of the keys, and can be read in transit",
    "eviction": "a server that evicts deletes visitors silently, and their caps with them; every visitor has a TTL, so "
    "volatile policies evict them too",
    "memory": "a full server refuses writes, or evicts: impressions are shown but not counted",
    "persistence": "impressions lost in a restart no longer count: those visitors may be shown everything again",
    "replication": "writes go to the primary only, and those not yet on a replica are lost in a failover",
    "cluster": "each visitor is on one node of a cluster, and the other nodes redirect the caller",
    "layout": "a visitor that fits into a listpack takes a half to a third of the memory",
    "connections": "without a free connection, calls fail within their timeout and on_store_error applies",
    "scripts": "while anyone's script runs, no other call is served: until the limit, calls time out and a write may "
    "or may not have happened; after it, they are refused",
    "latency": "a call that exceeds the timeout is abandoned, and the policy's on_store_error applies",
    "clock": "the server's clock is not used, but callers whose clocks differ by more than 300 seconds disagree on "
    "every window; a server whose clock drifts hints at callers whose clocks drift too",
}
"""Everything that is examined, and why it matters for a visitor's caps."""

LEAST_RIGHTS = "~rt:* resetchannels -@all +eval +evalsha +hgetall +hget +hmget +hset +hdel +hlen +ttl +expire +unlink"
"""The minimum rights of a user, as `ACL SETUSER` takes them, for the prefix `rt:`."""

CLUSTER_RIGHTS = "+cluster|slots +asking"
"""What a user of a cluster needs in addition."""

_CONFIG = ", and the same in its configuration file"
_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result on one topic: its grade, what was found, why that matters for caps, and what to do ("" if nothing).

    `topic` is a key of `TOPICS`.
    """

    grade: Grade
    topic: str
    found: str
    why: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.grade} {self.topic}: {self.found}" + f"; {self.cure}" * bool(self.cure)


@dataclass(frozen=True, slots=True)
class Connection:
    """How the server was reached, and as which user. `user` is None if unknown."""

    address: str
    local: bool
    tls: bool
    verified: bool
    password: bool
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was observed of a server; empty or None where it could not be read.

    `refused` maps each refused command to the cause: "command", "key" or "unknown". `write` is "" if a write read back
    correctly, else the error. `ahead` (of the local clock), `round_trips` and `connecting` (opening one connection) are
    seconds. `timeout` (seconds) and `connections` (at most) are those of a process that will use the server.
    """

    connection: Connection
    info: Mapping[str, Any]
    settings: Mapping[str, str]
    refused: Mapping[str, str]
    write: str | None
    round_trips: Sequence[float]
    connecting: float | None
    ahead: float | None
    not_seen: Sequence[str]
    prefix: str
    timeout: float
    connections: int


def least_rights(prefix: str) -> str:
    """`LEAST_RIGHTS` for another prefix."""
    return LEAST_RIGHTS.replace("~rt:*", f"~{prefix}*")


def server_name(seen: Seen) -> str:
    """`Redis 7.0.15`, `Valkey 9.1.2`; `a server` if its version is unknown."""
    info = seen.info
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}" if "redis_version" in info else "a server"


def diagnose(seen: Seen) -> Iterator[Diagnosis]:
    """All diagnoses, by topic in the order of `TOPICS`."""
    if seen.info.get("redis_mode") == "sentinel":
        cure = "give the address of the server it monitors: SENTINEL GET-MASTER-ADDR-BY-NAME NAME"
        yield _diagnosis("error", "server", "this is a Sentinel, which stores no data", cure)
        return
    for check in (_server, _loading, _rights, _write, _access, _login, _transport, _eviction, _memory, _persistence):
        yield from check(seen)
    for check in (_replication, _cluster, _layout, _connections, _scripts, _latency, _clock):
        yield from check(seen)


def _diagnosis(grade: Grade, topic: str, found: str, cure: str = "") -> Diagnosis:
    return Diagnosis(grade, topic, found, TOPICS[topic], cure)


def _set(*settings: str) -> str:
    """The cure that changes these settings."""
    return "; ".join(f"CONFIG SET {setting}" for setting in settings) + _CONFIG


# ---- Does it serve at all? -------------------------------------------------------------------------------------------


def _server(seen: Seen) -> Iterator[Diagnosis]:
    if "redis_version" not in seen.info:
        return
    version = tuple(int(part) for part in str(seen.info["redis_version"]).split(".")[:2] if part.isdigit())
    if "valkey_version" not in seen.info and version < (7, 0):
        yield _diagnosis("error", "server", f"{server_name(seen)} is too old", "use Redis 7.0 or newer, or Valkey")
        return
    yield _diagnosis("ok", "server", f"{server_name(seen)}, up for {_span(seen.info.get('uptime_in_seconds', 0))}")


def _loading(seen: Seen) -> Iterator[Diagnosis]:
    if seen.info.get("loading"):
        left = seen.info.get("loading_eta_seconds")
        found = "it is still loading its data from disk" + ("" if left is None else f", for about {_span(left)} more")
        yield _diagnosis("error", "loading", found, "wait, or fail over to a replica that is ready")


def _rights(seen: Seen) -> Iterator[Diagnosis]:
    who, refused = seen.connection.user or "USER", seen.refused
    by = {cause: [name.upper() for name in refused if refused[name] == cause] for cause in set(refused.values())}
    user = "this user" if seen.connection.user is None else f"the user {who}"
    more = f" {CLUSTER_RIGHTS}" if seen.info.get("cluster_enabled") else ""
    cure = f"ACL SETUSER {who} {least_rights(seen.prefix)}{more}"
    if "command" in by:
        yield _diagnosis("error", "rights", f"{user} may not run {', '.join(by['command'])}", cure)
    if "key" in by:
        found = f"{user} may not access keys that begin with {seen.prefix!r}: {', '.join(by['key'])}"
        yield _diagnosis("error", "rights", found, cure)
    if "unknown" in by:
        found = f"the server does not know {', '.join(by['unknown'])}"
        yield _diagnosis("error", "rights", found, "remove rename-command, or use another server")
    if not refused:
        yield _diagnosis("ok", "rights", f"{user} may run every command needed")


_REFUSALS = {
    "ReadOnlyError": "give the address of the primary",
    "OutOfMemoryError": "raise maxmemory, or remove other data from the server",
    "BusyLoadingError": "wait until it has loaded its data",
    "MISCONF": "free the disk: the server cannot save, so it refuses writes; its log says why",
    "NOREPLICAS": "bring the replicas back, or lower min-replicas-to-write",
    "BUSY": "find out whose script is running: SLOWLOG GET",
    "MovedError": "use redis+cluster://HOST:PORT, or a redis.RedisCluster",
    "ClusterDownError": "bring all slots back online: CLUSTER INFO",
    "MasterDownError": "give the address of the primary",
}


def _write(seen: Seen) -> Iterator[Diagnosis]:
    if seen.write is None:
        return
    if not seen.write:
        yield _diagnosis("ok", "write", "a write read back correctly, and was deleted")
        return
    other = "use Redis 7.0 or newer, or Valkey: this server does not run scripts as they do"
    cure = next((cure for error, cure in _REFUSALS.items() if error in seen.write), other)
    yield _diagnosis("error", "write", f"a write failed: {seen.write}", cure)


def _access(seen: Seen) -> Iterator[Diagnosis]:
    if seen.not_seen:
        found = f"not examined, for lack of rights: {', '.join(seen.not_seen)}"
        wanted = " ".join("+" + command.lower().replace(" ", "|") for command in seen.not_seen)
        user = seen.connection.user or "USER"
        cure = f"run this as an administrator, or ACL SETUSER {user} {wanted}; for a managed server, ask the provider"
        yield _diagnosis("note", "access", found, cure)


# ---- Who can reach it, and how? --------------------------------------------------------------------------------------


def _login(seen: Seen) -> Iterator[Diagnosis]:
    connection = seen.connection
    cure = f"ACL SETUSER ads on >PASSWORD {least_rights(seen.prefix)}, and log in as that user"
    if not connection.password:
        found = "no password" + " is required of programs on this machine" * connection.local
        yield _diagnosis("note" if connection.local else "warning", "login", found, cure)
    elif connection.user == "default":
        yield _diagnosis("note", "login", "logged in as default, which has all rights unless restricted", cure)
    else:
        yield _diagnosis("ok", "login", f"logged in as {connection.user or 'a user'}, with a password")


def _transport(seen: Seen) -> Iterator[Diagnosis]:
    connection = seen.connection
    if connection.tls and connection.verified:
        yield _diagnosis("ok", "transport", "TLS, and the server's certificate and name are verified")
    elif connection.tls:
        cure = "remove ssl_cert_reqs and ssl_check_hostname, and name the authority: ssl_ca_certs=FILE"
        yield _diagnosis("warning", "transport", "TLS, but anyone can impersonate the server", cure)
    elif connection.local:
        yield _diagnosis("ok", "transport", "unencrypted, within this machine")
    else:
        yield _diagnosis("note", "transport", "unencrypted over the network", "use rediss:// instead of redis://")


# ---- Does it keep what it acknowledged? ------------------------------------------------------------------------------


def _eviction(seen: Seen) -> Iterator[Diagnosis]:
    policy = seen.info.get("maxmemory_policy", seen.settings.get("maxmemory-policy"))
    if policy is None:
        return
    evicted, cure = int(seen.info.get("evicted_keys", 0)), _set("maxmemory-policy noeviction")
    if policy == "noeviction":
        yield _diagnosis("ok", "eviction", "maxmemory-policy noeviction")
    elif evicted:
        yield _diagnosis("error", "eviction", f"maxmemory-policy {policy}: {evicted:,} keys already evicted", cure)
    elif seen.info.get("maxmemory"):
        found = f"maxmemory-policy {policy}: visitors are evicted when memory is full"
        yield _diagnosis("warning", "eviction", found, cure)
    else:
        found = f"maxmemory-policy {policy}, which has no effect while maxmemory is 0"
        yield _diagnosis("note", "eviction", found, cure)


def _memory(seen: Seen) -> Iterator[Diagnosis]:
    used, most = seen.info.get("used_memory"), seen.info.get("maxmemory")
    if used is None or most is None:
        return
    of = f"{_size(used)} of {_size(most)} used"
    if most:
        cure = _set(f"maxmemory {_setting(2 * most)}") + "; or remove other data from the server"
        if used >= most:
            yield _diagnosis("error", "memory", f"{of}: the server is full", cure)
        elif used >= 0.9 * most:
            yield _diagnosis("warning", "memory", of, cure)
        else:
            yield _diagnosis("ok", "memory", of)
        return
    machine = seen.info.get("total_system_memory") or 0
    found = f"{_size(used)} used, without a limit" + f" on a machine of {_size(machine)}" * bool(machine)
    cure = _set(f"maxmemory {_setting(machine * 3 // 4) if machine else 'LIMIT'}", "maxmemory-policy noeviction")
    full = machine and used >= 0.8 * machine
    end = "" if full else ": when memory runs out, the system kills the server rather than letting it refuse writes"
    yield _diagnosis("warning" if full else "note", "memory", found + end, cure)


def _persistence(seen: Seen) -> Iterator[Diagnosis]:
    info = seen.info
    if "aof_enabled" not in info:
        return
    appends, save = seen.settings.get("appendfsync"), seen.settings.get("save")
    cure = _set("appendonly yes", "appendfsync everysec")
    stops = seen.settings.get("stop-writes-on-bgsave-error") != "no"
    if info["aof_enabled"]:
        if info.get("aof_last_write_status", "ok") != "ok":
            cure = "free the disk; the server's log says why"
            yield _diagnosis("error", "persistence", "the last write to the append-only file failed", cure)
        elif appends == "no":
            found = "appendonly yes, appendfsync no: a crash of the machine loses about 30 seconds of writes"
            yield _diagnosis("warning", "persistence", found, _set("appendfsync everysec"))
        else:
            loses = {"always": ": a restart loses nothing", "everysec": ": a crash loses about a second of writes"}
            how = f", appendfsync {appends}{loses.get(appends, '')}" if appends else ""
            yield _diagnosis("ok", "persistence", f"appendonly yes{how}")
    elif save == "":
        yield _diagnosis("warning", "persistence", "nothing is saved to disk: a restart loses every visitor", cure)
    else:
        changes = info.get("rdb_changes_since_last_save", 0)
        found = f"snapshots only ({save})" if save else "no append-only file, snapshots at best"
        found += f": a crash now would lose the last {changes:,} changes"
        yield _diagnosis("warning", "persistence", found, cure)
    if save and stops and info.get("rdb_last_bgsave_status", "ok") != "ok":
        cure = "free the disk; the server's log says why"
        yield _diagnosis("error", "persistence", "the last snapshot failed, so writes are refused", cure)


def _replication(seen: Seen) -> Iterator[Diagnosis]:
    info = seen.info
    if "role" not in info:
        return
    if info["role"] != "master":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        link = info.get("master_link_status", "unknown")
        found = f"this is a replica of {primary}, and its link to the primary is {link}"
        yield _diagnosis("error", "replication", found, f"give the address of the primary: redis://{primary}")
        return
    replicas, wanted = int(info.get("connected_slaves", 0)), int(seen.settings.get("min-replicas-to-write", 0))
    count = f"{replicas} replica" + "s" * (replicas != 1)
    good = info.get("min_slaves_good_slaves")
    if good is not None and int(good) < wanted:
        found = f"{good} good replicas, but min-replicas-to-write is {wanted}: writes are refused"
        yield _diagnosis("error", "replication", found, "bring the replicas back, or lower min-replicas-to-write")
    elif not replicas:
        found = "a primary without a replica: nothing takes over if it fails"
        yield _diagnosis("note", "replication", found, "add a replica and Sentinel, or accept on_store_error meanwhile")
    elif not wanted:
        found = f"a primary with {count}: if cut off, it still accepts writes, and loses them"
        cure = _set("min-replicas-to-write 1", "min-replicas-max-lag 10")
        yield _diagnosis("note", "replication", found, cure)
    else:
        lag = seen.settings.get("min-replicas-max-lag", "10")
        found = f"a primary with {count}: if cut off, it stops accepting writes after {lag} seconds"
        yield _diagnosis("ok", "replication", found)


def _cluster(seen: Seen) -> Iterator[Diagnosis]:
    if seen.info.get("cluster_enabled"):
        cure = "use redis+cluster://HOST:PORT, or a redis.RedisCluster; and examine each node separately"
        yield _diagnosis("note", "cluster", "this is one node of a cluster", cure)


# ---- Does it keep up? ------------------------------------------------------------------------------------------------


def _layout(seen: Seen) -> Iterator[Diagnosis]:
    settings = seen.settings
    names = ("hash-max-listpack-value", "hash-max-listpack-entries")
    given = [settings.get(name, settings.get(name.replace("listpack", "ziplist"))) for name in names]
    if None in given:
        return
    value, entries = (int(text) for text in given if text is not None)
    found = f"listpacks hold up to {entries} fields of up to {value} bytes"
    low = [
        f"{name} {least}" for name, least, now in zip(names, (64, 128), (value, entries), strict=True) if now < least
    ]
    if low:
        yield _diagnosis("warning", "layout", found, _set(*low))
    else:
        yield _diagnosis("ok", "layout", found)


def _connections(seen: Seen) -> Iterator[Diagnosis]:
    info = seen.info
    most, used = info.get("maxclients"), int(info.get("connected_clients", 0))
    if most is not None:
        found = f"{used:,} of {most:,} connections in use"
        room = _set(f"maxclients {max(10_000, 2 * most)}")
        refused = int(info.get("rejected_connections", 0))
        found += f", {refused:,} refused so far" * bool(refused)
        if refused or most - used < seen.connections:
            found += f"; each process opens up to {seen.connections}"
            yield _diagnosis("warning", "connections", found, room)
        else:
            yield _diagnosis("ok", "connections", found)
    idle = seen.settings.get("timeout", "0")
    if idle != "0":
        found = f"idle connections are closed after {_span(int(idle))}, and reopened by the next call"
        yield _diagnosis("note", "connections", found, _set("timeout 0"))


def _scripts(seen: Seen) -> Iterator[Diagnosis]:
    limit = seen.settings.get("busy-reply-threshold", seen.settings.get("lua-time-limit"))
    if limit is None:
        return
    if int(limit) <= 0:
        found = "busy-reply-threshold 0: while a script runs, calls are never refused, they only time out"
        yield _diagnosis("note", "scripts", found, _set("busy-reply-threshold 5000"))
    else:
        found = f"busy-reply-threshold {limit}: while a longer script runs, calls are refused with BUSY"
        yield _diagnosis("ok", "scripts", found)


def _latency(seen: Seen) -> Iterator[Diagnosis]:
    if seen.round_trips:
        yield from _round_trips(seen)
    if seen.connecting is not None:
        found = f"a connection takes {_milliseconds(seen.connecting)} to open, which counts towards a call's timeout"
        cure = _nearer(seen.connecting)
        if seen.connecting >= seen.timeout / 2:
            yield _diagnosis("error" if seen.connecting >= seen.timeout else "warning", "latency", found, cure)
        else:
            yield _diagnosis("ok", "latency", found)


def _round_trips(seen: Seen) -> Iterator[Diagnosis]:
    median, worst = statistics.median(seen.round_trips), max(seen.round_trips)
    found = (
        f"a round trip takes {_milliseconds(median)}, the slowest of {len(seen.round_trips)} {_milliseconds(worst)}; "
        f"the timeout is {_milliseconds(seen.timeout)}"
    )
    cure = _nearer(worst)
    if median >= seen.timeout:
        yield _diagnosis("error", "latency", found, cure)
    elif worst >= seen.timeout or median > seen.timeout / 2:
        yield _diagnosis("warning", "latency", found, cure)
    else:
        yield _diagnosis("ok", "latency", found)


def _nearer(seconds: float) -> str:
    """The cure for what took so long."""
    return f"use a server nearer by, or a longer timeout: timeout={_rounded_up(2 * seconds):g}"


def _clock(seen: Seen) -> Iterator[Diagnosis]:
    if seen.ahead is None:
        return
    off = abs(seen.ahead)
    found = f"the server's clock is {_span(off)} {'ahead of' if seen.ahead > 0 else 'behind'} the local one"
    if off > SKEW:
        yield _diagnosis("warning", "clock", found, "synchronise all clocks by NTP: timedatectl set-ntp true")
    else:
        yield _diagnosis("ok", "clock", "the server's clock agrees with the local one" if off < 1 else found)


# ---- Numbers as people write them ------------------------------------------------------------------------------------


def _size(count: float) -> str:
    """`512 MB`, `1.402 GB`: at most four digits, in the units of the server's own settings."""
    unit = 0
    while count >= 1024 and unit < len(_SIZE_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.4g} {_SIZE_UNITS[unit]}" if unit else f"{count:.0f} B"


def _setting(count: int) -> str:
    """A size as `CONFIG SET` takes it."""
    return f"{max(1, count // 2**20)}mb"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def _rounded_up(seconds: float) -> float:
    """Rounded up to a tenth of a second."""
    return max(0.1, -(-seconds // 0.1) / 10)
