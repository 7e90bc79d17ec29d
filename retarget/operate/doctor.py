"""Is a server set up to keep the library's guarantees? `examine` looks at one and says what would break them.

Rules:
- It changes nothing. The one key it writes cannot be a visitor's, is deleted at once, and expires within a minute.
- Rights are tested by running each command: reading one's own rights would itself need a right.
- What may not be read becomes a diagnosis; a server that cannot be reached, or refuses the login, raises an error.
- The conclusions are in `diagnosis.py`.
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
from retarget.operate.diagnosis import GRADES, Connection, Diagnosis, Grade, Seen, diagnose, server_name
from retarget.stores.redis import CONNECTIONS, script, target_of_url
from retarget.timelines import Alternative, Enter, Write, keys, timeline

_TIMEOUT: Final = 5.0
_ROUND_TRIPS: Final = 100
_OPENINGS: Final = 3
_LONG_ENOUGH: Final = 2.0
"""Seconds after which no more round trips are measured."""

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
    """One examined server: its address, its name and version, and the diagnoses in the order of `diagnosis.TOPICS`."""

    address: str
    server: str
    diagnoses: tuple[Diagnosis, ...]

    @property
    def worst(self) -> Grade:
        """The worst grade among the diagnoses."""
        return next((grade for grade in GRADES if self.count(grade)), "ok")

    def count(self, grade: Grade) -> int:
        """How many diagnoses have this grade."""
        return sum(diagnosis.grade == grade for diagnosis in self.diagnoses)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON, with the number of errors, warnings and notes.

        The keys are those that `retarget check` writes too: `findings`, each with a `severity`.
        """
        counts = {f"{grade}s": self.count(grade) for grade in GRADES if grade != "ok"}
        findings = [_renamed(asdict(diagnosis)) for diagnosis in self.diagnoses]
        return {**counts, "address": self.address, "server": self.server, "findings": findings}


def _renamed(diagnosis: dict[str, Any]) -> dict[str, Any]:
    return {"severity": diagnosis.pop("grade"), **diagnosis}


def connect(url: str) -> redis.Redis:
    """A client with a timeout of 5 seconds and no retries. Raises ConfigError.

    The URL is one that a retargeter takes. A Sentinel's URL leads to the primary; a cluster's is refused, since each
    node is examined separately.
    """
    if url.startswith("memory:"):
        raise ConfigError("memory:// is not a server: there is nothing to examine")
    target = target_of_url(url, _TIMEOUT, is_async=False)
    if target.startup_nodes is not None:
        raise ConfigError("a cluster is examined node by node: give each node's own address, redis://HOST:PORT")
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
    """Examine the one server that `client` is connected to; of a cluster, one node.

    `prefix` and `timeout` (seconds) are those of the retargeters that will use it. Raises NotExecuted if the server
    cannot be reached, ConfigError if authentication fails or the client cannot be used.
    """
    if not isinstance(client, redis.Redis):
        raise ConfigError(
            f"client must be a redis.Redis, got {type(client).__name__}; of a cluster, give one for each node in turn"
        )
    if client.connection_pool.connection_kwargs.get("decode_responses"):
        raise ConfigError("this client decodes responses, which breaks packed timelines: set decode_responses=False")
    Visitors(prefix, None)  # raises for an invalid prefix
    examination = _Examination(client)
    info = examination.read("INFO")
    connection = _connection(client)
    settings: dict[str, str] = {}
    for name in _SETTINGS:
        settings |= examination.read("CONFIG GET", name) or {}
    before = clock()
    moment = examination.read("TIME")
    ahead = None if moment is None else moment[0] + moment[1] / 1e6 - (before + clock()) / 2
    whoami = examination.ask("ACL WHOAMI")  # may be refused: then the user is the one in the URL
    user = whoami.decode() if isinstance(whoami, bytes) else whoami if isinstance(whoami, str) else connection.user
    key = _own_key(examination, prefix)
    refused = _refusals(examination, key, cluster=bool(info and info.get("cluster_enabled")))
    seen = Seen(
        connection=replace(connection, user=user),
        info=info or {},
        settings=settings,
        refused=refused,
        write=None if refused else _try_to_write(examination, key, int(clock())),
        round_trips=_round_trips(examination, key, timer),
        connecting=examination.connecting(timer),
        ahead=ahead,
        not_seen=tuple(sorted(examination.not_seen)),
        prefix=prefix,
        timeout=timeout,
        connections=CONNECTIONS,
    )
    return Report(connection.address, server_name(seen), tuple(diagnose(seen)))


class _Examination:
    """Commands to the examined server. A refusal is returned like any reply; no reply raises NotExecuted."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.not_seen: set[str] = set()

    def ask(self, command: str, *words: Any) -> Any:  # noqa: ANN401 - as redis-py decodes it
        """The reply, including an error reply."""
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
            raise ConfigError(f"authentication failed: {error} Write redis://USER:PASSWORD@HOST:PORT/0") from error
        except Exception as error:
            raise NotExecuted(f"the server cannot be examined: {type(error).__name__}: {error}") from error

    def connecting(self, timer: Callable[[], float]) -> float:
        """Seconds that opening a connection takes: the median of a few."""
        pool: Any = self._client.connection_pool
        seconds = []
        for _ in range(_OPENINGS):
            connection = pool.connection_class(**pool.connection_kwargs)
            before = timer()
            try:
                connection.connect()
                seconds.append(timer() - before)
            except Exception as error:
                raise NotExecuted(f"the server cannot be examined: {type(error).__name__}: {error}") from error
            finally:
                connection.disconnect()
        return statistics.median(seconds)

    def read(self, command: str, *words: str) -> Any:  # noqa: ANN401 - as redis-py decodes it
        """The reply; None if it is refused, and the command is then in `not_seen`."""
        reply = self.ask(command, *words)
        if isinstance(reply, Exception):
            self.not_seen.add(command)
            return None
        return reply


def _own_key(examination: _Examination, prefix: str) -> bytes:
    """A key longer than any visitor's; on a cluster's node, in one of its own slots."""
    for _ in range(64):
        key = keys.key(prefix, f"doctor-{token_hex(8)}-".ljust(VISITOR_BYTES + 1, "-"))
        if not isinstance(examination.ask("HGETALL", key), MovedError):
            break
    return key


def _refusals(examination: _Examination, key: bytes, *, cluster: bool) -> dict[str, str]:
    """Each command of the library that is refused, with the cause: "command", "key" or "unknown"."""
    tried: list[tuple[Any, ...]] = [
        ("EVAL", "return 1", 1, key),
        ("EVALSHA", "0" * 40, 1, key),  # a script that does not exist
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
        if cause := _refusal(examination.ask(*command)):
            refused[command[0]] = cause
    if not refused.keys() & {"EXPIRE", "UNLINK"}:  # otherwise the key would stay
        reply, *_ = examination.ask_all(("HSET", key, _FIELD, b""), ("EXPIRE", key, _TTL), ("UNLINK", key))
        if cause := _refusal(reply):
            refused["HSET"] = cause
    return refused


def _refusal(reply: object) -> str:
    """Why the command was refused; "" if it was not, even if it failed for another reason."""
    if isinstance(reply, NoPermissionError):
        return "command" if " run " in str(reply) else "key"
    return "unknown" if isinstance(reply, ResponseError) and "unknown command" in str(reply).lower() else ""


def _try_to_write(examination: _Examination, key: bytes, now: int) -> str:
    """Count an impression as the library does, read it back, delete it: "" if all is well, otherwise the error."""
    entry = Enter(_FIELD, now, 1, 16, timeline.head(_TTL, shield=False))
    write = Write(key, now, b"", (Alternative((), (entry,), _TTL),))
    try:
        answer = examination.ask("EVAL", script.SCRIPT, 1, *script.arguments(write))
        state = examination.ask("HGETALL", key)
    finally:
        examination.ask("UNLINK", key)
    for reply in (answer, state):
        if isinstance(reply, Exception):
            return f"{type(reply).__name__}: {reply}".replace(key.decode(), "KEY")
    stored = {name: timeline.moments(raw) for name, raw in state.items()}
    if (answer, stored) == (1, {_FIELD: (now,)}):
        return ""
    return f"the script answered {answer!r} and stored {stored}"


def _round_trips(examination: _Examination, key: bytes, timer: Callable[[], float]) -> list[float]:
    """Seconds for each read of a missing key: a decision waits for one such read."""
    seconds: list[float] = []
    start = timer()
    while len(seconds) < _ROUND_TRIPS:
        before = timer()
        examination.ask("HGETALL", key)
        after = timer()
        seconds.append(after - before)
        if after - start > _LONG_ENOUGH:
            break
    return seconds


def _connection(client: redis.Redis) -> Connection:
    """How the client reaches its server."""
    pool = client.connection_pool
    options = pool.connection_kwargs
    by_sentinel = getattr(pool, "master_address", None)
    where = (options.get("host", "localhost"), options.get("port", 6379)) if by_sentinel is None else by_sentinel
    path, host = options.get("path"), str(where[0])
    tls = issubclass(pool.connection_class, redis.SSLConnection)
    unverified = options.get("ssl_cert_reqs", "required") in (None, "none", ssl.CERT_NONE)
    checks_name = options.get("ssl_check_hostname", True)
    password = options.get("password") or options.get("credential_provider")
    return Connection(
        address=path or f"{host}:{where[1]}",
        local=bool(path) or _is_loopback(host),
        tls=tls,
        verified=tls and not unverified and bool(checks_name),
        password=bool(password),
        user=options.get("username") or (None if options.get("credential_provider") else "default"),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
