"""What a server's settings mean for the caps of a visitor: from what was seen of it to findings, each with its cure.

Rules:
- Pure: what was seen goes in, findings come out. No server, no clock.
- What could not be looked at is said once, in `access`; nothing is concluded from it.
- A cure is a command, a setting or an address that can be copied. No finding holds a password.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from retarget.timelines import SKEW

Severity: TypeAlias = Literal["error", "warning", "note", "ok"]

SEVERITIES: dict[Severity, str] = {
    "error": "calls fail, or caps are broken, now",
    "warning": "sooner or later they will be",
    "note": "good to know",
    "ok": "as it should be",
}
"""How grave a finding is, the gravest first, and what that means."""

TOPICS: dict[str, str] = {
    "server": "the library is tested with Redis 7.0 and newer and with Valkey",
    "loading": "a server that still reads its data from disk refuses every call: the policy's on_store_error answers",
    "rights": "a call that may not be made fails, and the policy's on_store_error answers",
    "write": "what is not counted is not capped: a write as the library makes it has to come back",
    "access": "what could not be looked at may be wrong without being found here",
    "login": "who can reach the server can delete visitors, and their caps with them",
    "transport": "visitors' ids stand in the keys, and can be read on the way",
    "eviction": "a server that evicts deletes visitors without a word, and their caps with them; every visitor has a "
    "time to live, so volatile policies take them as well",
    "memory": "a full server refuses writes, or evicts: impressions are shown and not counted",
    "persistence": "what a restart loses was never counted: those visitors may be shown all of it again",
    "replication": "writes go to the primary alone, and those that had not reached the replica are lost in a failover",
    "cluster": "each visitor is on one node of a cluster, and another node sends the caller away",
    "layout": "a visitor that fits into a small hash takes a half to a third of the memory",
    "connections": "where no connection is left, calls fail within their time-out and on_store_error answers",
    "scripts": "while somebody's script runs nobody is served: until the limit calls time out, and it is unknown "
    "whether a write happened; after it they are refused",
    "latency": "a call that takes longer than the time-out is given up, and the policy's on_store_error answers",
    "clock": "the server's clock is not used, but callers whose clocks differ by more than 300 seconds disagree on "
    "every window; a server that drifts tells of hosts that do",
}
"""Everything that is looked at, and why it matters for a visitor's caps."""

LEAST_RIGHTS = "~rt:* resetchannels -@all +eval +evalsha +hgetall +hget +hmget +hset +hdel +hlen +ttl +expire +unlink"
"""The least rights of a user that serve, as `ACL SETUSER` takes them, for the prefix `rt:`."""

CLUSTER_RIGHTS = "+cluster|slots +asking"
"""What a user of a cluster needs besides."""

_CONFIG = ", and the same in its configuration file"
_KINDS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: how grave it is, what was found, why that matters for caps, and what to do ("" if nothing).

    `topic` is a key of `TOPICS`.
    """

    severity: Severity
    topic: str
    found: str
    why: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.severity} {self.topic}: {self.found}" + f"; {self.cure}" * bool(self.cure)


@dataclass(frozen=True, slots=True)
class Connection:
    """How the server was reached, and as whom. `user` is None where that is not known."""

    address: str
    local: bool
    tls: bool
    verified: bool
    password: bool
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a server: empty or None where it could not be looked at.

    `refused` says for each command that may not be run whether that is for the "command" or the "key", or "unknown".
    `write` is "" for a write that came back, else what was said. `ahead` is in seconds, as are the round trips
    and `connecting`, which is what one connection takes to open.
    `timeout` (seconds) and `connections` (the most) are those of a process that is to use the server.
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
    """`Redis 7.0.15`, `Valkey 9.1.2`; `a server` where it does not say."""
    info = seen.info
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}" if "redis_version" in info else "a server"


def diagnose(seen: Seen) -> Iterator[Finding]:
    """All findings, by topic in the order of `TOPICS`."""
    if seen.info.get("redis_mode") == "sentinel":
        cure = "give the address of the server that it watches: SENTINEL GET-MASTER-ADDR-BY-NAME NAME tells it"
        yield _finding("error", "server", "this is a Sentinel, which keeps no data", cure)
        return
    for look in (_server, _loading, _rights, _write, _access, _login, _transport, _eviction, _memory, _persistence):
        yield from look(seen)
    for look in (_replication, _cluster, _layout, _connections, _scripts, _latency, _clock):
        yield from look(seen)


def _finding(severity: Severity, topic: str, found: str, cure: str = "") -> Finding:
    return Finding(severity, topic, found, TOPICS[topic], cure)


def _set(*settings: str) -> str:
    """The cure that changes settings."""
    return "; ".join(f"CONFIG SET {setting}" for setting in settings) + _CONFIG


# ---- Does it serve at all? -------------------------------------------------------------------------------------------


def _server(seen: Seen) -> Iterator[Finding]:
    if "redis_version" not in seen.info:
        return
    version = tuple(int(part) for part in str(seen.info["redis_version"]).split(".")[:2] if part.isdigit())
    if "valkey_version" not in seen.info and version < (7, 0):
        yield _finding("error", "server", f"{server_name(seen)} is too old", "use Redis 7.0 or newer, or Valkey")
        return
    yield _finding("ok", "server", f"{server_name(seen)}, up for {_span(seen.info.get('uptime_in_seconds', 0))}")


def _loading(seen: Seen) -> Iterator[Finding]:
    if seen.info.get("loading"):
        left = seen.info.get("loading_eta_seconds")
        found = "it still reads its data from disk" + ("" if left is None else f", for about {_span(left)} more")
        yield _finding("error", "loading", found, "wait; or fail over to a replica that is ready")


def _rights(seen: Seen) -> Iterator[Finding]:
    who, refused = seen.connection.user or "USER", seen.refused
    by = {reason: [name.upper() for name in refused if refused[name] == reason] for reason in set(refused.values())}
    user = "this user" if seen.connection.user is None else f"the user {who}"
    more = f" {CLUSTER_RIGHTS}" if seen.info.get("cluster_enabled") else ""
    cure = f"ACL SETUSER {who} {least_rights(seen.prefix)}{more}"
    if "command" in by:
        yield _finding("error", "rights", f"{user} may not run {', '.join(by['command'])}", cure)
    if "key" in by:
        found = f"{user} may not touch keys that begin with {seen.prefix!r}: {', '.join(by['key'])}"
        yield _finding("error", "rights", found, cure)
    if "unknown" in by:
        found = f"the server does not know {', '.join(by['unknown'])}"
        yield _finding("error", "rights", found, "take out rename-command; or use another server")
    if not refused:
        yield _finding("ok", "rights", f"{user} may run every command that is needed")


_REFUSALS = {
    "ReadOnlyError": "give the address of the primary",
    "OutOfMemoryError": "raise maxmemory, or take out what else is kept there",
    "BusyLoadingError": "wait until it has read its data",
    "MISCONF": "free the disk: the server cannot save, so it refuses writes; its log says why",
    "NOREPLICAS": "bring the replicas back, or lower min-replicas-to-write",
    "BUSY": "find whose script it is: SLOWLOG GET",
    "MovedError": "use redis+cluster://HOST:PORT, or a redis.RedisCluster",
    "ClusterDownError": "bring all slots back: CLUSTER INFO",
    "MasterDownError": "give the address of the primary",
}


def _write(seen: Seen) -> Iterator[Finding]:
    if seen.write is None:
        return
    if not seen.write:
        yield _finding("ok", "write", "a write came back whole, and is deleted")
        return
    other = "use Redis 7.0 or newer, or Valkey: this server does not run scripts as they do"
    cure = next((cure for said, cure in _REFUSALS.items() if said in seen.write), other)
    yield _finding("error", "write", f"a write failed: {seen.write}", cure)


def _access(seen: Seen) -> Iterator[Finding]:
    if seen.not_seen:
        found = f"not looked at, for want of rights: {', '.join(seen.not_seen)}"
        wanted = " ".join("+" + command.lower().replace(" ", "|") for command in seen.not_seen)
        user = seen.connection.user or "USER"
        cure = f"run it as an administrator, or ACL SETUSER {user} {wanted}; of a managed server, ask the provider"
        yield _finding("note", "access", found, cure)


# ---- Who reaches it, and how? ----------------------------------------------------------------------------------------


def _login(seen: Seen) -> Iterator[Finding]:
    connection = seen.connection
    cure = f"ACL SETUSER ads on >PASSWORD {least_rights(seen.prefix)}, and log in as that user"
    if not connection.password:
        found = "no password" + " is asked of programs on this machine" * connection.local
        yield _finding("note" if connection.local else "warning", "login", found, cure)
    elif connection.user == "default":
        yield _finding("note", "login", "logged in as default, who is meant to do everything", cure)
    else:
        yield _finding("ok", "login", f"logged in as {connection.user or 'a user'}, with a password")


def _transport(seen: Seen) -> Iterator[Finding]:
    connection = seen.connection
    if connection.tls and connection.verified:
        yield _finding("ok", "transport", "TLS, and the server's certificate and name are verified")
    elif connection.tls:
        cure = "take ssl_cert_reqs and ssl_check_hostname out, and name the authority: ssl_ca_certs=FILE"
        yield _finding("warning", "transport", "TLS, but anybody can pass for the server", cure)
    elif connection.local:
        yield _finding("ok", "transport", "in clear, within this machine")
    else:
        yield _finding("note", "transport", "in clear over the network", "rediss:// in the place of redis://")


# ---- Does it keep what it acknowledged? ------------------------------------------------------------------------------


def _eviction(seen: Seen) -> Iterator[Finding]:
    policy = seen.info.get("maxmemory_policy", seen.settings.get("maxmemory-policy"))
    if policy is None:
        return
    evicted, cure = int(seen.info.get("evicted_keys", 0)), _set("maxmemory-policy noeviction")
    if policy == "noeviction":
        yield _finding("ok", "eviction", "maxmemory-policy noeviction")
    elif evicted:
        yield _finding("error", "eviction", f"maxmemory-policy {policy}: {evicted:,} keys are gone already", cure)
    elif seen.info.get("maxmemory"):
        yield _finding("warning", "eviction", f"maxmemory-policy {policy}: visitors go when memory is full", cure)
    else:
        found = f"maxmemory-policy {policy}, without effect as long as maxmemory is 0"
        yield _finding("note", "eviction", found, cure)


def _memory(seen: Seen) -> Iterator[Finding]:
    used, most = seen.info.get("used_memory"), seen.info.get("maxmemory")
    if used is None or most is None:
        return
    of = f"{_size(used)} of {_size(most)} used"
    if most:
        cure = _set(f"maxmemory {_setting(2 * most)}") + "; or take out what else is kept there"
        if used >= most:
            yield _finding("error", "memory", f"{of}: it is full", cure)
        elif used >= 0.9 * most:
            yield _finding("warning", "memory", f"{of}", cure)
        else:
            yield _finding("ok", "memory", of)
        return
    machine = seen.info.get("total_system_memory") or 0
    found = f"{_size(used)} used, without a limit" + f" on a machine of {_size(machine)}" * bool(machine)
    cure = _set(f"maxmemory {_setting(machine * 3 // 4) if machine else 'LIMIT'}", "maxmemory-policy noeviction")
    full = machine and used >= 0.8 * machine
    end = "" if full else ": at its end the system kills the server, instead of it refusing writes"
    yield _finding("warning" if full else "note", "memory", found + end, cure)


def _persistence(seen: Seen) -> Iterator[Finding]:
    info = seen.info
    if "aof_enabled" not in info:
        return
    appends, save = seen.settings.get("appendfsync"), seen.settings.get("save")
    cure = _set("appendonly yes", "appendfsync everysec")
    stops = seen.settings.get("stop-writes-on-bgsave-error") != "no"
    if info["aof_enabled"]:
        if info.get("aof_last_write_status", "ok") != "ok":
            cure = "free the disk; the server's log says why"
            yield _finding("error", "persistence", "the last write to the append-only file failed", cure)
        elif appends == "no":
            found = "appendonly yes, appendfsync no: a crash of the machine loses about 30 seconds"
            yield _finding("warning", "persistence", found, _set("appendfsync everysec"))
        else:
            loses = {"always": ": a restart loses nothing", "everysec": ": a crash loses about a second"}
            how = f", appendfsync {appends}{loses.get(appends, '')}" if appends else ""
            yield _finding("ok", "persistence", f"appendonly yes{how}")
    elif save == "":
        yield _finding("warning", "persistence", "nothing is kept on disk: a restart forgets every visitor", cure)
    else:
        changes = info.get("rdb_changes_since_last_save", 0)
        found = f"snapshots only ({save})" if save else "no append-only file, snapshots at best"
        found += f": a crash now would lose the last {changes:,} changes"
        yield _finding("warning", "persistence", found, cure)
    if save and stops and info.get("rdb_last_bgsave_status", "ok") != "ok":
        cure = "free the disk; the server's log says why"
        yield _finding("error", "persistence", "the last snapshot failed, so writes are refused", cure)


def _replication(seen: Seen) -> Iterator[Finding]:
    info = seen.info
    if "role" not in info:
        return
    if info["role"] != "master":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        found = f"this is a replica of {primary}, to which its link is {info.get('master_link_status', 'unknown')}"
        yield _finding("error", "replication", found, f"give the address of the primary: redis://{primary}")
        return
    replicas, wanted = int(info.get("connected_slaves", 0)), int(seen.settings.get("min-replicas-to-write", 0))
    count = f"{replicas} replica" + "s" * (replicas != 1)
    good = info.get("min_slaves_good_slaves")
    if good is not None and int(good) < wanted:
        found = f"{good} good replicas where min-replicas-to-write is {wanted}: writes are refused"
        yield _finding("error", "replication", found, "bring the replicas back, or lower min-replicas-to-write")
    elif not replicas:
        found = "a primary without a replica: nobody takes over when it goes"
        yield _finding("note", "replication", found, "a replica and Sentinel; or live with on_store_error meanwhile")
    elif not wanted:
        found = f"a primary with {count}: one that is cut off still takes writes, and loses them"
        cure = _set("min-replicas-to-write 1", "min-replicas-max-lag 10")
        yield _finding("note", "replication", found, cure)
    else:
        lag = seen.settings.get("min-replicas-max-lag", "10")
        found = f"a primary with {count}: cut off, it stops taking writes after {lag} seconds"
        yield _finding("ok", "replication", found)


def _cluster(seen: Seen) -> Iterator[Finding]:
    if seen.info.get("cluster_enabled"):
        cure = "use redis+cluster://HOST:PORT, or a redis.RedisCluster; and examine each node by itself"
        yield _finding("note", "cluster", "this is one node of a cluster", cure)


# ---- Does it keep up? ------------------------------------------------------------------------------------------------


def _layout(seen: Seen) -> Iterator[Finding]:
    settings = seen.settings
    names = ("hash-max-listpack-value", "hash-max-listpack-entries")
    given = [settings.get(name, settings.get(name.replace("listpack", "ziplist"))) for name in names]
    if None in given:
        return
    value, entries = (int(text) for text in given if text is not None)
    found = f"small hashes have up to {entries} fields of up to {value} bytes"
    low = [
        f"{name} {least}" for name, least, is_ in zip(names, (64, 128), (value, entries), strict=True) if is_ < least
    ]
    if low:
        yield _finding("warning", "layout", found, _set(*low))
    else:
        yield _finding("ok", "layout", found)


def _connections(seen: Seen) -> Iterator[Finding]:
    info = seen.info
    most, used = info.get("maxclients"), int(info.get("connected_clients", 0))
    if most is not None:
        found = f"{used:,} of {most:,} connections in use"
        room = _set(f"maxclients {max(10_000, 2 * most)}")
        refused = int(info.get("rejected_connections", 0))
        found += f", {refused:,} were refused" * bool(refused)
        if refused or most - used < seen.connections:
            found += f"; each process opens up to {seen.connections}"
            yield _finding("warning", "connections", found, room)
        else:
            yield _finding("ok", "connections", found)
    idle = seen.settings.get("timeout", "0")
    if idle != "0":
        found = f"connections are closed after {_span(int(idle))} without a call, and opened anew by the next"
        yield _finding("note", "connections", found, _set("timeout 0"))


def _scripts(seen: Seen) -> Iterator[Finding]:
    limit = seen.settings.get("busy-reply-threshold", seen.settings.get("lua-time-limit"))
    if limit is None:
        return
    if int(limit) <= 0:
        found = "busy-reply-threshold 0: while a script runs, calls are never refused, only given up"
        yield _finding("note", "scripts", found, _set("busy-reply-threshold 5000"))
    else:
        yield _finding(
            "ok", "scripts", f"busy-reply-threshold {limit}: longer scripts, of anybody, are told of as BUSY"
        )


def _latency(seen: Seen) -> Iterator[Finding]:
    if seen.round_trips:
        yield from _round_trips(seen)
    if seen.connecting is not None:
        found = f"a connection takes {_milliseconds(seen.connecting)} to open, within the time-out of a call"
        cure = f"a server nearer by, or a longer time-out: timeout={_rounded_up(2 * seen.connecting):g}"
        if seen.connecting >= seen.timeout / 2:
            yield _finding("error" if seen.connecting >= seen.timeout else "warning", "latency", found, cure)
        else:
            yield _finding("ok", "latency", found)


def _round_trips(seen: Seen) -> Iterator[Finding]:
    median, worst = statistics.median(seen.round_trips), max(seen.round_trips)
    found = (
        f"a round trip takes {_milliseconds(median)}, the longest of {len(seen.round_trips)} {_milliseconds(worst)}, "
        f"where the time-out is {_milliseconds(seen.timeout)}"
    )
    cure = f"a server nearer by, or a longer time-out: timeout={_rounded_up(2 * worst):g}"
    if median >= seen.timeout:
        yield _finding("error", "latency", found, cure)
    elif worst >= seen.timeout or median > seen.timeout / 2:
        yield _finding("warning", "latency", found, cure)
    else:
        yield _finding("ok", "latency", found)


def _clock(seen: Seen) -> Iterator[Finding]:
    if seen.ahead is None:
        return
    off = abs(seen.ahead)
    found = f"the server's clock is {_span(off)} {'ahead of' if seen.ahead > 0 else 'behind'} the one here"
    if off > SKEW:
        yield _finding("warning", "clock", found, "set the clocks of all hosts by NTP: timedatectl set-ntp true")
    else:
        yield _finding("ok", "clock", "the server's clock and the one here agree" if off < 1 else found)


# ---- Numbers as people say them --------------------------------------------------------------------------------------


def _size(count: float) -> str:
    """`512 MB`, `1.402 GB`: at most four digits, in the units of the server's own settings."""
    kind = 0
    while count >= 1024 and kind < len(_KINDS) - 1:
        count, kind = count / 1024, kind + 1
    return f"{count:.4g} {_KINDS[kind]}" if kind else f"{count:.0f} B"


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
    """To a tenth of a second."""
    return max(0.1, -(-seconds // 0.1) / 10)
