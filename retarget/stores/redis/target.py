"""How to reach a server, a cluster, or the primary that Sentinel names: from a URL, or from the given client.

Rules:
- Connections that the library opens have no retries, no long waits and binary replies, and send nothing on connecting
  but user and password: each command there would be a round trip.
- Of a given client, the addresses and the settings of its connections are used, not its pool, retries or timeouts: an
  interrupt inside a pool loses a connection, or returns one with a reply unread. Only asyncio, which is not
  interrupted, borrows from the pool of a `redis.asyncio.Redis`.
- Nothing is sent here.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - imported lazily otherwise: a process forked during that import would deadlock
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
_FORMS = "use redis://localhost:6379/0, redis+cluster://host:6379, redis+sentinel://host:26379/service or memory://"
_POOL_OPTIONS = ("max_connections", "timeout", "connection_class", "host", "port", "cache", "redis_connect_func")
"""Options that are not a connection's, or that we set ourselves."""
_NOTICE_PREFIXES = ("maint_", "oss_", "orig_", "himport_", "event_")
"""Prefixes of the options for redis-py's maintenance notices, which need RESP3."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and how. `startup_nodes` are the addresses of a cluster, None for a single server."""

    connection_class: Any
    options: dict[str, Any]
    name: str
    startup_nodes: list[Address] | None = None
    max_connections: int = CONNECTIONS
    sentinel_pool: Any = field(default=None, repr=False)
    """The Sentinel's pool, which must outlive its connections."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """Shared by all connections: redis-py makes one for each and reads the system's certificates, 50 ms or more."""

    @property
    def sentinels(self) -> list[Any]:
        """The clients of the Sentinels, to be closed with the store."""
        return [] if self.sentinel_pool is None else list(self.sentinel_pool.sentinel_manager.sentinels)

    def connection(self, address: Address | None = None) -> Any:  # noqa: ANN401 - redis-py's, sync or async
        """A connection, not open yet, to that server of the cluster, or to the single server."""
        where = {} if address is None else {"host": address[0], "port": address[1]}
        connection = self.connection_class(**self.options, **where)
        if self.tls is not None and isinstance(connection, redis.asyncio.connection.SSLConnection):
            connection.ssl_context.context = self.tls
        elif self.tls is not None:
            connection._wrap_socket_with_ssl = partial(self.tls.wrap_socket, server_hostname=connection.host)
        return connection


def target_of_url(url: str, timeout: float, *, is_async: bool) -> Target:
    """The target of a URL. `timeout` is in seconds. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        scheme, _, form = parts.scheme.partition("+")
        if form == "sentinel":
            target = _of_sentinel(parts, scheme, timeout, is_async=is_async)
        elif form in ("", "cluster"):
            auth, hosts = _hosts(parts, _PORT) if form else ("", None)
            if scheme != "unix":
                _check_database(parts.path.strip("/"), only="0" if form else None)
            plain = urlunsplit((scheme, f"{auth}{_netloc(hosts[0])}", "", parts.query, "")) if hosts else url
            target = _of_server(plain, timeout, hosts, is_async=is_async)
        else:
            raise ValueError(f"+{form} is not supported")  # noqa: TRY301 - one message for everything that can be wrong
        target.connection(target.startup_nodes[0] if target.startup_nodes else None)
    except (ValueError, TypeError, AttributeError, OSError, RedisError) as error:
        raise ConfigError(f"the store's URL cannot be used: {error}; {_FORMS}") from error
    return target


def target_of_cluster(client: redis.RedisCluster | redis.asyncio.RedisCluster, timeout: float) -> Target:
    """The target of a cluster client. `timeout` is in seconds. Raises ConfigError."""
    if isinstance(client, redis.asyncio.RedisCluster):
        nodes: list[Any] = list(client.nodes_manager.startup_nodes.values())
        connection_class: Any = nodes[0].connection_class
        options = nodes[0].connection_kwargs
    else:
        pool = client.get_redis_connection(client.get_default_node()).connection_pool  # type: ignore[no-untyped-call]
        nodes = list(client.nodes_manager.nodes_cache.values())
        connection_class, options = pool.connection_class, pool.connection_kwargs
    check_decoding(options)
    startup_nodes = [(str(node.host), int(node.port)) for node in nodes]
    options = {**_connection_options(options), **_our_options(timeout)}
    return Target(connection_class, options, "cluster", startup_nodes, tls=_tls(connection_class, options))


def target_of_client(client: redis.Redis, timeout: float) -> Target:
    """The target of a client. `timeout` is in seconds. Warns of a pool of another class. Raises ConfigError."""
    pool = client.connection_pool
    given = pool.connection_kwargs
    check_decoding(given)
    if type(pool) not in _POOLS:
        message = f"this client's pool, a {type(pool).__name__}, is not used: connections are opened with its settings"
        warnings.warn(message, RetargetWarning, stacklevel=6)
    where: dict[str, Any] = {name: given[name] for name in ("host", "port", "redis_connect_func") if name in given}
    options = {**_connection_options(given), **where, **_our_options(timeout)}
    connection_class, limit = pool.connection_class, min(pool.max_connections, CONNECTIONS)
    name = str(getattr(pool, "service_name", None) or server_name(given))
    return Target(connection_class, options, name, None, limit, tls=_tls(connection_class, options))


def server_name(options: dict[str, Any]) -> str:
    """The name of the server for health and errors: its socket's path, or host and port."""
    return str(options.get("path") or f"{options.get('host', 'redis')}:{options.get('port', _PORT)}")


def check_decoding(options: dict[str, Any]) -> None:
    """Refuse a client whose replies are text. Raises ConfigError."""
    if options.get("decode_responses") not in (None, False, "False", "false", "0", "no"):
        raise ConfigError(
            "this client decodes responses, which breaks packed timelines: set decode_responses=False; or pass a URL"
        )


def _of_server(url: str, timeout: float, startup_nodes: list[Address] | None, *, is_async: bool) -> Target:
    module = redis.asyncio.connection if is_async else redis.connection
    parsed: dict[str, Any] = dict(module.parse_url(url))
    check_decoding(parsed)
    options = {**_connection_options(parsed), **_our_options(timeout)}
    connection_class = parsed.get("connection_class", module.Connection)
    if startup_nodes is None and "path" not in options:
        options |= {"host": parsed.get("host", "localhost"), "port": parsed.get("port", _PORT)}
    name, tls = server_name(options), _tls(connection_class, options)
    return Target(connection_class, options, name, startup_nodes, _max_connections(parsed), tls=tls)


def _of_sentinel(parts: SplitResult, scheme: str, timeout: float, *, is_async: bool) -> Target:
    module: Any = redis.asyncio.sentinel if is_async else redis.sentinel
    auth, hosts = _hosts(parts, _SENTINEL_PORT)
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("the service name is missing")
    _check_database(db)
    plain = urlunsplit((scheme, f"{auth}{_netloc(hosts[0])}", f"/{db}", parts.query, ""))
    target = _of_server(plain, timeout, hosts, is_async=is_async)
    prefix = "sentinel_"
    of_sentinels = {name.removeprefix(prefix): o for name, o in target.options.items() if name.startswith(prefix)}
    of_primary = {name: option for name, option in target.options.items() if not name.startswith(prefix)}
    ssl = {"ssl": True} if scheme == "rediss" else {}
    each = timeout / (len(hosts) + 1)  # every Sentinel may be silent, and the primary needs time too
    manager = module.Sentinel(hosts, sentinel_kwargs={**_our_options(each), **of_sentinels, **ssl})
    pool = manager.master_for(service, **of_primary, **ssl).connection_pool
    name, limit = f"{service} (Sentinel)", target.max_connections
    return Target(pool.connection_class, pool.connection_kwargs, name, None, limit, pool)


def _tls(connection_class: Any, options: dict[str, Any]) -> ssl.SSLContext | None:  # noqa: ANN401 - redis-py's
    """The context for the options; None with OCSP, where redis-py's connections check more than a context does."""
    if connection_class not in (redis.connection.SSLConnection, redis.asyncio.connection.SSLConnection) or any(
        "ocsp" in name for name in options
    ):
        return None
    ssl_options = {name: option for name, option in options.items() if name.startswith("ssl_")}
    return redis.asyncio.connection.SSLConnection(**ssl_options).ssl_context.get()


def _hosts(parts: SplitResult, port: int) -> tuple[str, list[Address]]:
    """User and password as they precede the hosts in the URL, and the hosts."""
    auth, at, hosts = parts.netloc.rpartition("@")
    found = [urlsplit(f"//{host}") for host in hosts.split(",") if host]
    return auth + at, [(host.hostname or "localhost", host.port or port) for host in found] or [("localhost", port)]


def _check_database(db: str, only: str | None = None) -> None:
    """redis-py ignores a database that is not a number."""
    if db and not (db.isascii() and db.isdecimal()):
        raise ValueError(f"the database must be a number, got {db!r:.60}")
    if db and only is not None and db != only:
        raise ValueError(f"a cluster has only database {only}, got {db}")


def _netloc(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _max_connections(options: dict[str, Any]) -> int:
    limit = options.get("max_connections", CONNECTIONS)
    if not isinstance(limit, int) or limit < 1:
        raise ValueError(f"max_connections must be at least 1, got {limit!r}")
    return limit


def _our_options(timeout: float) -> dict[str, Any]:
    """What the library sets on every connection that it opens."""
    return {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 0,
        "driver_info": None,
    }


def _connection_options(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: option
        for name, option in options.items()
        if name not in _POOL_OPTIONS and not name.startswith(_NOTICE_PREFIXES)
    }
