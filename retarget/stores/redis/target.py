"""How to reach a server, a cluster, or whatever a Sentinel says is the primary: from a URL, or from a client given.

Rules:
- What the library opens itself has no retries of its own, no long waits and plain answers, and says nothing on
  connecting but its name and password: each word would be a round trip.
- Of a client given the addresses and the settings of its connections are used, not its pool, its retries or its
  time-outs: an interrupt inside a pool loses one of its connections, or leaves one there with a reply unread. Only
  asyncio, which is not interrupted, borrows from the pool of a `redis.asyncio.Redis`.
- Nothing is sent here.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - else the first connection imports it, and a process forked meanwhile waits for ever
import ssl
import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from retarget.errors import ConfigError, RetargetWarning
from retarget.stores.redis.slots import Address

CONNECTIONS = 64
"""The most connections to one server that the sync store opens, unless the URL says `max_connections`."""

_POOLS = (redis.ConnectionPool, redis.BlockingConnectionPool, redis.sentinel.SentinelConnectionPool)
_PORT = 6379
_SENTINEL_PORT = 26379
_FORMS = "write redis://localhost:6379/0, redis+cluster://host:6379, redis+sentinel://host:26379/service or memory://"
_OF_POOLS = ("max_connections", "timeout", "connection_class", "host", "port", "cache", "redis_connect_func")
"""Options that are not a connection's, or that we set ourselves."""
_OF_NOTICES = ("maint_", "oss_", "orig_", "himport_", "event_")
"""How the names of options begin that only serve redis-py's notices; they need RESP3."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and how. `start` are the servers of a cluster to begin with, None for a single server."""

    kind: Any
    options: dict[str, Any]
    name: str
    start: list[Address] | None = None
    most: int = CONNECTIONS
    pool: Any = field(default=None, repr=False)
    """The Sentinel's pool, which must outlive its connections."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """For all connections: redis-py makes one for each, which reads the system's certificates: 50 ms and more."""

    @property
    def sentinels(self) -> list[Any]:
        """The clients of the Sentinels, to be closed with the store."""
        return [] if self.pool is None else list(self.pool.sentinel_manager.sentinels)

    def connection(self, address: Address | None = None) -> Any:  # noqa: ANN401 - redis-py's, sync or async
        """A connection that is not open yet, to that server of the cluster, or to the only one."""
        where = {} if address is None else {"host": address[0], "port": address[1]}
        connection = self.kind(**self.options, **where)
        if self.tls is not None and isinstance(connection, redis.asyncio.connection.SSLConnection):
            connection.ssl_context.context = self.tls
        elif self.tls is not None:
            connection._wrap_socket_with_ssl = partial(self.tls.wrap_socket, server_hostname=connection.host)
        return connection


def target_of_url(url: str, timeout: float, *, awaited: bool) -> Target:
    """What the URL stands for. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        scheme, _, form = parts.scheme.partition("+")
        if form == "sentinel":
            target = _of_sentinel(parts, scheme, timeout, awaited=awaited)
        elif form in ("", "cluster"):
            auth, hosts = _hosts(parts, _PORT) if form else ("", None)
            if scheme != "unix":
                _check_database(parts.path.strip("/"), only="0" if form else None)
            plain = urlunsplit((scheme, f"{auth}{_netloc(hosts[0])}", "", parts.query, "")) if hosts else url
            target = _of_server(plain, timeout, hosts, awaited=awaited)
        else:
            raise ValueError(f"+{form} is not known")  # noqa: TRY301 - one message for all that can be wrong
        target.connection(target.start[0] if target.start else None)
    except (ValueError, TypeError, AttributeError, OSError, RedisError) as error:
        raise ConfigError(f"the store's URL cannot be used: {error}; {_FORMS}") from error
    return target


def target_of_cluster(client: redis.RedisCluster | redis.asyncio.RedisCluster, timeout: float) -> Target:
    """What a cluster client given stands for. Raises ConfigError."""
    if isinstance(client, redis.asyncio.RedisCluster):
        nodes: list[Any] = list(client.nodes_manager.startup_nodes.values())
        kind: Any = nodes[0].connection_class
        options = nodes[0].connection_kwargs
    else:
        pool = client.get_redis_connection(client.get_default_node()).connection_pool  # type: ignore[no-untyped-call]
        nodes, kind, options = (
            list(client.nodes_manager.nodes_cache.values()),
            pool.connection_class,
            pool.connection_kwargs,
        )
    check_decoding(options)
    start = [(str(node.host), int(node.port)) for node in nodes]
    options = {**_plain(options), **_serving(timeout)}
    return Target(kind, options, "cluster", start, tls=_tls(kind, options))


def target_of_client(client: redis.Redis, timeout: float) -> Target:
    """What a client given stands for. Warns of a pool that does more than redis-py's. Raises ConfigError."""
    pool = client.connection_pool
    given = pool.connection_kwargs
    check_decoding(given)
    if type(pool) not in _POOLS:
        message = f"this client's pool, a {type(pool).__name__}, is not used: connections are opened with its settings"
        warnings.warn(message, RetargetWarning, stacklevel=6)
    where: dict[str, Any] = {name: given[name] for name in ("host", "port", "redis_connect_func") if name in given}
    options = {**_plain(given), **where, **_serving(timeout)}
    kind, most = pool.connection_class, min(pool.max_connections, CONNECTIONS)
    name = str(getattr(pool, "service_name", None) or server_name(given))
    return Target(kind, options, name, None, most, tls=_tls(kind, options))


def server_name(options: dict[str, Any]) -> str:
    """What to call the server that a client's options lead to."""
    return str(options.get("path") or f"{options.get('host', 'redis')}:{options.get('port', _PORT)}")


def _of_server(url: str, timeout: float, start: list[Address] | None, *, awaited: bool) -> Target:
    module = redis.asyncio.connection if awaited else redis.connection
    parsed: dict[str, Any] = dict(module.parse_url(url))
    check_decoding(parsed)
    options = {**_plain(parsed), **_serving(timeout)}
    kind = parsed.get("connection_class", module.Connection)
    if start is None and "path" not in options:
        options |= {"host": parsed.get("host", "localhost"), "port": parsed.get("port", _PORT)}
    return Target(kind, options, server_name(options), start, _most(parsed), tls=_tls(kind, options))


def _of_sentinel(parts: SplitResult, scheme: str, timeout: float, *, awaited: bool) -> Target:
    module: Any = redis.asyncio.sentinel if awaited else redis.sentinel
    auth, hosts = _hosts(parts, _SENTINEL_PORT)
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("the Sentinel's name for the service is missing")
    _check_database(db)
    plain = urlunsplit((scheme, f"{auth}{_netloc(hosts[0])}", f"/{db}", parts.query, ""))
    target = _of_server(plain, timeout, hosts, awaited=awaited)
    theirs = {name.removeprefix("sentinel_"): o for name, o in target.options.items() if name.startswith("sentinel_")}
    ours = {name: option for name, option in target.options.items() if not name.startswith("sentinel_")}
    ssl = {"ssl": True} if scheme == "rediss" else {}
    each = timeout / (len(hosts) + 1)  # all of them may be silent, and the primary wants time too
    manager = module.Sentinel(hosts, sentinel_kwargs={**_serving(each), **theirs, **ssl})
    pool = manager.master_for(service, **ours, **ssl).connection_pool
    return Target(pool.connection_class, pool.connection_kwargs, f"{service} (Sentinel)", None, target.most, pool)


def _tls(kind: Any, options: dict[str, Any]) -> ssl.SSLContext | None:  # noqa: ANN401 - a class of redis-py's
    """The context that the options ask for. With OCSP, redis-py checks more than a context does: it makes its own."""
    if kind not in (redis.connection.SSLConnection, redis.asyncio.connection.SSLConnection) or any(
        "ocsp" in name for name in options
    ):
        return None
    asked = {name: option for name, option in options.items() if name.startswith("ssl_")}
    return redis.asyncio.connection.SSLConnection(**asked).ssl_context.get()


def _hosts(parts: SplitResult, port: int) -> tuple[str, list[Address]]:
    """The name and password, as they stand in front of the hosts, and the hosts."""
    auth, at, hosts = parts.netloc.rpartition("@")
    found = [urlsplit(f"//{host}") for host in hosts.split(",") if host]
    return auth + at, [(host.hostname or "localhost", host.port or port) for host in found] or [("localhost", port)]


def _check_database(db: str, only: str | None = None) -> None:
    """redis-py takes what is no number for no database at all."""
    if db and not (db.isascii() and db.isdecimal()):
        raise ValueError(f"the database is a number, not {db!r:.60}")
    if db and only is not None and db != only:
        raise ValueError(f"a cluster has one database, {only}")


def _netloc(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _most(options: dict[str, Any]) -> int:
    most = options.get("max_connections", CONNECTIONS)
    if not isinstance(most, int) or most < 1:
        raise ValueError(f"max_connections={most!r}: at least 1")
    return most


def _serving(timeout: float) -> dict[str, Any]:
    """What a connection needs to serve well."""
    return {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 0,
        "driver_info": None,
    }


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: option for name, option in options.items() if name not in _OF_POOLS and not name.startswith(_OF_NOTICES)
    }


def check_decoding(options: dict[str, Any]) -> None:
    """Refuse a client whose answers are texts. Raises ConfigError."""
    if options.get("decode_responses") not in (None, False, "False", "false", "0", "no"):
        raise ConfigError(
            "this client decodes responses, which breaks packed timelines: decode_responses=False; or give the URL"
        )
