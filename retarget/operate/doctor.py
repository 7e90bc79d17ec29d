"""Is a server set up for what is promised? `examine` looks at one and says what would break the promises.

Rules:
- It looks, and changes nothing. The one key that it writes has a name that no visitor's can have, is deleted at once,
  and would go by itself within a minute.
- Rights are tried, not asked about: what a user may be told of his own rights is itself a right.
- What may not be looked at is a finding; a server that cannot be reached, or lets nobody in, is an error.
- What follows from what was seen stands in `diagnosis.py`.
"""

from __future__ import annotations

import ipaddress
import ssl
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from secrets import token_hex
from typing import Any, Final

import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MovedError,
    NoPermissionError,
    ResponseError,
)

from retarget.calls import VISITOR_BYTES, Visitors
from retarget.errors import ConfigError, NotExecuted
from retarget.operate.diagnosis import SEVERITIES, Connection, Finding, Seen, Severity, diagnose, server_name
from retarget.stores.redis import CONNECTIONS, script, target_of_url
from retarget.timelines import Alternative, Enter, Write, keys, timeline

_PATIENCE: Final = 5.0
_ROUND_TRIPS: Final = 100
_OPENINGS: Final = 3
_LONG_ENOUGH: Final = 2.0
"""Seconds after which a slow server is not measured any longer."""

_TTL: Final = 60
_FIELD: Final = b"i"
_SETTINGS: Final = (
    "appendfsync",
    "busy-reply-threshold",
    "hash-max-*",
    "lua-time-limit",
    "maxmemory-policy",
    "min-replicas-*",
    "save",
    "stop-writes-on-bgsave-error",
    "timeout",
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found at one server: its address and kind, and the findings in the order of `diagnosis.TOPICS`."""

    address: str
    server: str
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Severity:
        """The gravest severity among the findings."""
        return next((s for s in SEVERITIES if any(finding.severity == s for finding in self.findings)), "ok")

    def count(self, severity: Severity) -> int:
        """How many findings are as grave as that."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON, with the number of errors, warnings and notes."""
        counts = {f"{severity}s": self.count(severity) for severity in SEVERITIES if severity != "ok"}
        return {**counts, **asdict(self)}


def connect(url: str) -> redis.Redis:
    """A client that waits up to 5 seconds for a slow server, and repeats nothing. Raises ConfigError.

    The URL is as a retargeter takes it; of a Sentinel's it is the primary, of a cluster's only a node's own will do.
    """
    if url.startswith("memory:"):
        raise ConfigError("memory:// is no server: there is nothing to examine")
    target = target_of_url(url, _PATIENCE, is_async=False)
    if target.startup_nodes is not None:
        raise ConfigError("of a cluster, examine each node by itself: redis://HOST:PORT, its own address")
    pool = target.sentinel_pool or redis.ConnectionPool(connection_class=target.connection_class, **target.options)
    return redis.Redis.from_pool(pool)


def examine(
    client: redis.Redis,
    *,
    prefix: str = "rt:",
    timeout: float = 0.1,
    clock: Callable[[], float] = time.time,
    timer: Callable[[], float] = time.perf_counter,
) -> Report:
    """Look at the server that `client` talks to: one server, which of a cluster is one node.

    `prefix` and `timeout` (seconds) are those of the retargeters that are to use it. Raises NotExecuted where the
    server cannot be reached, ConfigError where it lets nobody in or the client cannot serve.
    """
    if not isinstance(client, redis.Redis):
        raise ConfigError(
            f"a {type(client).__name__} cannot be examined: give a redis.Redis, of a cluster that of each node in turn"
        )
    if client.connection_pool.connection_kwargs.get("decode_responses"):
        raise ConfigError("this client decodes responses, which breaks packed timelines: decode_responses=False")
    Visitors(prefix, None)  # refuses what is no prefix
    server = _Server(client)
    info = server.look("INFO")
    connection = _connection(client)
    settings: dict[str, str] = {}
    for name in _SETTINGS:
        settings |= server.look("CONFIG GET", name) or {}
    before = clock()
    moment = server.look("TIME")
    ahead = None if moment is None else moment[0] + moment[1] / 1e6 - (before + clock()) / 2
    whoami = server.ask("ACL WHOAMI")  # of no consequence where it is refused
    user = whoami.decode() if isinstance(whoami, bytes) else whoami if isinstance(whoami, str) else connection.user
    key = _own_key(server, prefix)
    refused = _refusals(server, key, cluster=bool(info and info.get("cluster_enabled")))
    seen = Seen(
        connection=replace(connection, user=user),
        info=info or {},
        settings=settings,
        refused=refused,
        write=None if refused else _try_to_write(server, key, int(clock())),
        round_trips=_round_trips(server, key, timer),
        connecting=server.connecting(timer),
        ahead=ahead,
        not_seen=tuple(sorted(server.not_seen)),
        prefix=prefix,
        timeout=timeout,
        connections=CONNECTIONS,
    )
    return Report(connection.address, server_name(seen), tuple(diagnose(seen)))


class _Server:
    """The server, asked. What it refuses is an answer; where it does not answer, our error is raised."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.not_seen: set[str] = set()

    def ask(self, command: str, *words: Any) -> Any:  # noqa: ANN401 - as redis-py reads it
        """The reply, be it an error that the server told."""
        return self.ask_all((command, *words))[0]

    def ask_all(self, *commands: tuple[Any, ...]) -> list[Any]:
        """The replies to commands that are sent together."""
        try:
            together: Any
            with self._client.pipeline(transaction=False) as together:
                for command in commands:
                    together.execute_command(*command)
                return list(together.execute(raise_on_error=False))
        except BusyLoadingError as error:
            return [error] * len(commands)
        except AuthenticationError as error:
            raise ConfigError(
                f"the server lets nobody in like this: {error} Write redis://USER:PASSWORD@HOST:PORT/0"
            ) from error
        except Exception as error:
            raise NotExecuted(f"the server cannot be examined: {type(error).__name__}: {error}") from error

    def connecting(self, timer: Callable[[], float]) -> float:
        """How long it takes to open a connection: the median of a few."""
        pool: Any = self._client.connection_pool
        taken = []
        for _ in range(_OPENINGS):
            connection = pool.connection_class(**pool.connection_kwargs)
            before = timer()
            try:
                connection.connect()
                taken.append(timer() - before)
            except Exception as error:
                raise NotExecuted(f"the server cannot be examined: {type(error).__name__}: {error}") from error
            finally:
                connection.disconnect()
        return statistics.median(taken)

    def look(self, command: str, *words: str) -> Any:  # noqa: ANN401 - as redis-py reads it
        """The reply; None, and remembered as not seen, where it is refused."""
        reply = self.ask(command, *words)
        if isinstance(reply, Exception):
            self.not_seen.add(command)
            return None
        return reply


def _own_key(server: _Server, prefix: str) -> bytes:
    """A key that no visitor can have, being longer than any; of a cluster's slots one that this server has."""
    for _ in range(64):
        key = keys.key(prefix, f"doctor-{token_hex(8)}-".ljust(VISITOR_BYTES + 1, "-"))
        if not isinstance(server.ask("HGETALL", key), MovedError):
            break
    return key


def _refusals(server: _Server, key: bytes, *, cluster: bool) -> dict[str, str]:
    """For each command of the library that may not be run, why: "command", "key" or "unknown"."""
    tried: list[tuple[Any, ...]] = [
        ("EVAL", "return 1", 1, key),
        ("EVALSHA", "0" * 40, 1, key),  # a script that nobody has
        ("HGETALL", key),
        ("HGET", key, _FIELD),
        ("HMGET", key, _FIELD),
        ("HDEL", key, _FIELD),
        ("HLEN", key),
        ("TTL", key),
        ("EXPIRE", key, _TTL),
        ("UNLINK", key),
    ]
    if cluster:
        tried += [("CLUSTER SLOTS",), ("ASKING",)]
    refused = {}
    for command in tried:
        if why := _refusal(server.ask(*command)):
            refused[command[0]] = why
    if not refused.keys() & {"EXPIRE", "UNLINK"}:  # else what is set here would stay
        reply, *_ = server.ask_all(("HSET", key, _FIELD, b""), ("EXPIRE", key, _TTL), ("UNLINK", key))
        if why := _refusal(reply):
            refused["HSET"] = why
    return refused


def _refusal(reply: object) -> str:
    """Why a command may not be run; "" where it may, whatever else became of it."""
    if isinstance(reply, NoPermissionError):
        return "command" if " run " in str(reply) else "key"
    return "unknown" if isinstance(reply, ResponseError) and "unknown command" in str(reply).lower() else ""


def _try_to_write(server: _Server, key: bytes, now: int) -> str:
    """Count an impression as the library does, read it, and forget it: "" where all is well, else what was said."""
    entry = Enter(_FIELD, now, 1, 16, timeline.head(_TTL, shield=False))
    write = Write(key, now, b"", (Alternative((), (entry,), _TTL),))
    try:
        answer = server.ask("EVAL", script.SCRIPT, 1, *script.arguments(write))
        state = server.ask("HGETALL", key)
    finally:
        server.ask("UNLINK", key)
    for reply in (answer, state):
        if isinstance(reply, Exception):
            return f"{type(reply).__name__}: {reply}".replace(key.decode(), "KEY")
    came = {name: timeline.moments(raw) for name, raw in state.items()}
    return (
        "" if (answer, came) == (1, {_FIELD: (now,)}) else f"the script answered {answer!r}, and then there was {came}"
    )


def _round_trips(server: _Server, key: bytes, timer: Callable[[], float]) -> list[float]:
    """How long reads take that find nothing: a decision waits for one such."""
    taken: list[float] = []
    begun = timer()
    while len(taken) < _ROUND_TRIPS:
        before = timer()
        server.ask("HGETALL", key)
        after = timer()
        taken.append(after - before)
        if after - begun > _LONG_ENOUGH:
            break
    return taken


def _connection(client: redis.Redis) -> Connection:
    """How the client has reached its server."""
    pool = client.connection_pool
    options = pool.connection_kwargs
    by_sentinel = getattr(pool, "master_address", None)
    where = (options.get("host", "localhost"), options.get("port", 6379)) if by_sentinel is None else by_sentinel
    path, host = options.get("path"), str(where[0])
    tls = issubclass(pool.connection_class, redis.SSLConnection)
    loose = options.get("ssl_cert_reqs", "required") in (None, "none", ssl.CERT_NONE)
    named = options.get("ssl_check_hostname", True)
    password = options.get("password") or options.get("credential_provider")
    return Connection(
        address=path or f"{host}:{where[1]}",
        local=bool(path) or _is_loopback(host),
        tls=tls,
        verified=tls and not loose and bool(named),
        password=bool(password),
        user=options.get("username") or (None if options.get("credential_provider") else "default"),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
