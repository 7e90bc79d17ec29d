"""doctor.py: real servers are examined; what would break caps is reported, and the cures work."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import closing

import pytest
import redis
from redis.sentinel import SentinelConnectionPool

from retarget import ConfigError, NotExecuted, Policy, Retargeter
from retarget.calls import VISITOR_BYTES
from retarget.operate.diagnosis import (
    CLUSTER_RIGHTS,
    LEAST_RIGHTS,
    least_rights,
)
from retarget.operate.doctor import Report, connect, examine
from tests.support import servers
from tests.support.fixtures import REAL
from tests.support.servers import Server

WELL = ("--maxmemory", "512mb", "--appendonly", "yes")
COMMANDS = [word.removeprefix("+") for word in LEAST_RIGHTS.split() if word.startswith("+")]
FOUND = re.compile(r"CONFIG SET (\S+) ([^;,]+)")


def on(report: Report, topic: str) -> list[tuple[str, str]]:
    """A report's grades and findings on a topic."""
    return [(diagnosis.grade, diagnosis.found) for diagnosis in report.diagnoses if diagnosis.topic == topic]


def on_url(url: str, prefix: str = "rt:") -> Report:
    """A report on the server at this URL, with a timeout for a busy machine."""
    with connect(url) as client:
        return examine(client, prefix=prefix, timeout=servers.PATIENCE)


@pytest.mark.parametrize("name", REAL)
def test_a_server_that_is_set_up_well_gets_only_notes(name: str) -> None:
    """With the recommended settings and a user of its own: no error, no warning, and no key is left."""
    with servers.run(name, *WELL) as server, server.client() as admin:
        admin.execute_command(
            "ACL SETUSER", "ads", "on", f">{servers.PASSWORD}", *LEAST_RIGHTS.split(), "+info", "+config|get"
        )
        report = on_url(server.admin_url.replace("//", f"//ads:{servers.PASSWORD}@"))
        assert admin.dbsize() == 0
    graves = {diagnosis.topic: diagnosis.grade for diagnosis in report.diagnoses}
    assert [topic for topic, grade in graves.items() if grade != "ok"] == ["access", "replication"]
    assert on(report, "access") == [("note", "not examined, for lack of rights: TIME")]
    assert on(report, "login") == [("ok", "logged in as ads, with a password")]
    assert report.server.lower().startswith(name)
    assert report.address == f"127.0.0.1:{server.port}"
    assert report.worst == "note"
    assert servers.PASSWORD not in json.dumps(report.to_dict())


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    ("options", "topic", "grade", "found"),
    [
        (("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"), "eviction", "warning", "allkeys-lru: visitors"),
        (("--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"), "eviction", "warning", "volatile-ttl: visi"),
        (("--maxmemory-policy", "volatile-lru"), "eviction", "note", "volatile-lru, which has no effect"),
        ((), "memory", "note", "without a limit on a machine of"),
        ((), "persistence", "warning", "nothing is saved to disk"),
        (
            ("--save", "3600 1"),
            "persistence",
            "warning",
            "snapshots only (3600 1): a crash now would lose the last 0 ch",
        ),
        (("--appendonly", "yes", "--appendfsync", "no"), "persistence", "warning", "about 30 seconds"),
        (("--hash-max-listpack-value", "16"), "layout", "warning", "512 fields of up to 16 bytes"),
        (("--hash-max-listpack-entries", "20"), "layout", "warning", "20 fields of up to 64 bytes"),
        (("--maxclients", "40"), "connections", "warning", "1 of 40 connections in use; each process opens up to 64"),
        (("--timeout", "300"), "connections", "note", "idle connections are closed after 5 min"),
        (("--busy-reply-threshold", "0"), "scripts", "note", "busy-reply-threshold 0"),
        (("--min-replicas-to-write", "1"), "replication", "error", "0 good replicas, but min-replicas-to-write is 1"),
        (("--min-replicas-to-write", "1"), "write", "error", "NOREPLICAS"),
        (("--cluster-enabled", "yes"), "cluster", "note", "one node of a cluster"),
        (("--cluster-enabled", "yes"), "write", "error", "ClusterDownError"),
    ],
)
def test_a_bad_setting_is_found_and_its_cure_helps(
    name: str, options: tuple[str, ...], topic: str, grade: str, found: str
) -> None:
    """Badly configured servers: the problem is reported, and applying the settings of the cure solves it."""
    if "--cluster-enabled" in options:
        options += ("--cluster-port", str(servers.free_port()))
    with servers.run(name, *options) as server, connect(server.admin_url) as client:
        said = [diagnosis for diagnosis in examine(client).diagnoses if diagnosis.topic == topic]
        assert [diagnosis.grade for diagnosis in said if found in diagnosis.found] == [grade]
        cure = next(diagnosis.cure for diagnosis in said if found in diagnosis.found)
        assert cure
        settings = FOUND.findall(cure)
        for setting, value in settings:
            client.config_set(setting, value)
        if settings:
            assert [diagnosis.grade for diagnosis in examine(client).diagnoses if diagnosis.topic == topic] == ["ok"]
        client.config_set("appendonly", "no")  # a server that is just writing its first file does not end


def test_a_cluster_node_is_examined_with_a_key_in_its_slots() -> None:
    """A node redirects for keys of other nodes: names are tried until one is its own."""
    keys: list[bytes] = []

    def answer(command: list[bytes]) -> bytes:
        keys.extend(command[1:] if command[0] == b"HGETALL" else [])
        return b"-MOVED 1 127.0.0.1:7001\r\n" if len(set(keys)) < 6 else b"-READONLY no\r\n"

    with servers.fake(answer) as fake:
        report = on_url(fake.url)
    assert len(set(keys)) == 6
    assert all(key.startswith(b"rt:2~") and len(key) > 5 + VISITOR_BYTES for key in keys)
    assert on(report, "write")[0][1].startswith("a write failed: ReadOnlyError")


def test_a_node_without_slots_redirects() -> None:
    """If 64 names all belong to other nodes, the write fails and the cure names the cluster's URL."""
    with servers.fake(lambda _: b"-MOVED 1 127.0.0.1:7001\r\n") as fake:
        report = on_url(fake.url)
    (diagnosis,) = (diagnosis for diagnosis in report.diagnoses if diagnosis.topic == "write")
    assert diagnosis.found.startswith("a write failed: MovedError")
    assert diagnosis.cure.startswith("use redis+cluster://HOST:PORT")


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(("policy", "topic"), [("noeviction", "memory"), ("allkeys-random", "eviction")])
def test_a_full_server_is_found(name: str, policy: str, topic: str) -> None:
    """With memory at its limit, writes are refused or keys were evicted."""
    with servers.run(name, "--maxmemory", "8mb", "--maxmemory-policy", policy) as server, server.client() as admin:
        for n in range(200):
            try:
                admin.set(f"other:{n}", b"x" * 100_000)
            except redis.OutOfMemoryError:
                break
        if policy == "noeviction":
            admin.config_set("maxmemory", "2mb")
        report = on_url(server.admin_url)
    assert [grade for grade, _ in on(report, topic)] == ["error"]
    refused = [found for grade, found in on(report, "write") if grade == "error"]
    assert [found.startswith("a write failed: OutOfMemoryError") for found in refused] == [True] * (topic == "memory")


@pytest.mark.parametrize("name", REAL)
def test_a_replica_is_found_with_the_address_of_its_primary(name: str) -> None:
    """A replica refuses writes; the cure is its primary's address."""
    with servers.run(name) as primary, servers.run(name) as replica, replica.client(socket_timeout=30) as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        report = on_url(replica.admin_url)
        admin.execute_command("REPLICAOF", "NO", "ONE")
    (diagnosis,) = (diagnosis for diagnosis in report.diagnoses if diagnosis.topic == "replication")
    assert (diagnosis.grade, diagnosis.cure.split()[-1]) == ("error", f"redis://127.0.0.1:{primary.port}")
    assert ("error", "a write failed") in [(grave, said[:14]) for grave, said in on(report, "write")]


# -- rights ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_each_right_that_is_missing_is_named(server: Server, command: str) -> None:
    """Without one of the least rights, that command is named, the cure grants it, and no key is left."""
    with server.user("limited", *LEAST_RIGHTS.split(), f"-{command}") as url, server.client() as admin:
        report = on_url(url)
        assert on(report, "rights") == [("error", f"the user limited may not run {command.upper()}")]
        assert on(report, "write") == []
        assert admin.dbsize() == 0
        cure = next(diagnosis.cure for diagnosis in report.diagnoses if diagnosis.topic == "rights")
        assert cure == f"ACL SETUSER limited {LEAST_RIGHTS}"


@pytest.mark.parametrize("name", REAL)
def test_a_cluster_takes_more_rights(name: str) -> None:
    """On a cluster, the map of slots and visitors in migration need two more."""
    with servers.run(name, "--cluster-enabled", "yes", "--cluster-port", str(servers.free_port())) as server:
        with server.user("limited", *LEAST_RIGHTS.split(), "+info") as url:
            (diagnosis,) = (diagnosis for diagnosis in on_url(url).diagnoses if diagnosis.topic == "rights")
            assert diagnosis.found == "the user limited may not run CLUSTER SLOTS, ASKING"
            assert diagnosis.cure == f"ACL SETUSER limited {LEAST_RIGHTS} {CLUSTER_RIGHTS}"
        with server.user("limited", *LEAST_RIGHTS.split(), "+info", *CLUSTER_RIGHTS.split()) as url:
            assert on(on_url(url), "rights") == [("ok", "the user limited may run every command needed")]


def test_keys_out_of_reach_are_reported_with_the_prefix(server: Server) -> None:
    """A user of other keys may run every command, but not on ours; the cure names the prefix."""
    with server.user("limited", *LEAST_RIGHTS.split()) as url:
        assert on(on_url(url), "rights") == [("ok", "the user limited may run every command needed")]
        (diagnosis,) = (diagnosis for diagnosis in on_url(url, prefix="ads:").diagnoses if diagnosis.topic == "rights")
    assert diagnosis.grade == "error"
    assert diagnosis.found.startswith(
        "the user limited may not access keys that begin with 'ads:': EVAL, EVALSHA, HGETALL"
    )
    assert least_rights("ads:") in diagnosis.cure
    assert "~ads:* " in diagnosis.cure


def test_what_may_not_be_read_is_a_note(server: Server) -> None:
    """Without INFO, CONFIG and TIME, as on a managed service: one note with the cure, and the remaining topics."""
    with server.user("limited", *LEAST_RIGHTS.split()) as url:
        report = on_url(url)
    assert {diagnosis.topic for diagnosis in report.diagnoses} == {
        *("rights", "write", "access", "login", "transport", "latency")
    }
    (diagnosis,) = (diagnosis for diagnosis in report.diagnoses if diagnosis.topic == "access")
    assert (diagnosis.grade, report.worst, report.server) == ("note", "note", "a server")
    assert "CONFIG GET, INFO, TIME" in diagnosis.found
    assert "+config|get +info +time" in diagnosis.cure


def test_a_user_with_whoami_is_named(server: Server) -> None:
    """With the right to ACL WHOAMI, the user's name is known."""
    with server.user("limited", "~other:*", "-@all", "+acl|whoami") as url:
        (diagnosis,) = (diagnosis for diagnosis in on_url(url).diagnoses if diagnosis.topic == "rights")
    assert diagnosis.found.startswith("the user limited may not run EVAL, ")
    assert diagnosis.cure.startswith("ACL SETUSER limited ~rt:* ")


@pytest.mark.parametrize("name", REAL)
def test_a_removed_command_is_reported(name: str) -> None:
    """By `rename-command`, as some providers do."""
    with servers.run(name, "--rename-command", "EVALSHA", "") as server:
        assert on(on_url(server.admin_url), "rights") == [("error", "the server does not know EVALSHA")]


def test_nothing_is_changed(server: Server) -> None:
    """Data, settings and scripts stay as they were."""

    def all_there_is(client: redis.Redis) -> object:
        keys = sorted(client.keys("*"))
        return [(key, client.dump(key), client.ttl(key) > 0) for key in keys], client.config_get("*")

    with server.client() as client, Retargeter(Policy.from_text("[campaign.a]\ncaps=['1 per day']"), client) as ads:
        ads.claim("visitor-1", ["a"])
        client.set("rt:2~", "somebody else's")
        before = all_there_is(client)
        assert on(examine(client), "write") == [("ok", "a write read back correctly, and was deleted")]
        assert all_there_is(client) == before


# -- how it is reached -------------------------------------------------------------------------------------------------


def test_a_unix_socket_is_examined(server: Server) -> None:
    """`unix://` is an address like any other, and local."""
    report = on_url(server.unix_url)
    assert report.address == server.socket
    assert on(report, "transport") == [("ok", "unencrypted, within this machine")]
    assert on(report, "write")[0][0] == "ok"


def test_localhost_is_this_machine(server: Server) -> None:
    """By name as by number."""
    with redis.Redis(host="localhost", port=server.port, protocol=2) as client:
        report = examine(client, timeout=servers.PATIENCE)
    assert report.address == f"localhost:{server.port}"
    assert on(report, "transport") == [("ok", "unencrypted, within this machine")]


def test_a_primary_found_by_sentinel_is_reported_by_its_own_address(server: Server) -> None:
    """The primary that the Sentinel names is examined, and reported by its own address."""

    class Sentinel:
        def discover_master(self, service: str) -> tuple[str, int]:
            return {"shop": ("127.0.0.1", server.port)}[service]

    pool = SentinelConnectionPool("shop", Sentinel(), protocol=2, socket_timeout=1)  # type: ignore[no-untyped-call]
    with closing(pool), redis.Redis(connection_pool=pool) as client:
        report = examine(client)
    assert report.address == f"127.0.0.1:{server.port}"
    assert on(report, "write")[0][0] == "ok"


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_give_the_same_report(server: Server, protocol: int) -> None:
    """A client of RESP2 and one of RESP3."""
    with server.client(protocol=protocol) as client:
        report = examine(client)
    assert {grade for grade, _ in [*on(report, "write"), *on(report, "rights"), *on(report, "clock")]} == {"ok"}
    assert on(report, "layout") == [("ok", "listpacks hold up to 512 fields of up to 64 bytes")]


def test_failed_authentication_is_a_config_error() -> None:
    """No password, or a wrong one: ConfigError, without the given password."""
    with servers.run("valkey") as server, server.client() as admin:
        admin.config_set("requirepass", servers.PASSWORD)
        for url in (server.admin_url, server.admin_url.replace("//", "//:battery-staple@")):
            with pytest.raises(ConfigError, match="redis://USER:PASSWORD@HOST:PORT/0") as raised:
                on_url(url)
            assert "staple" not in str(raised.value)
        report = on_url(server.admin_url.replace("//", f"//:{servers.PASSWORD}@"))
    assert on(report, "login") == [("note", "logged in as default, which has all rights unless restricted")]


def test_a_server_that_is_not_there_is_not_executed() -> None:
    """No listener, no reply, or another protocol: NotExecuted."""
    with pytest.raises(NotExecuted, match="refused"):
        on_url(f"redis://127.0.0.1:{servers.free_port()}")
    for reply in (None, b"*1\r\n:5\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        with servers.fake(lambda command, reply=reply: reply) as fake, pytest.raises(NotExecuted, match="examined"):  # type: ignore[misc]
            on_url(fake.url)


def test_a_server_that_takes_no_more_connections_is_not_executed(server: Server) -> None:
    """The first connection opens, the next does not: NotExecuted with the reason."""

    class Scarce(redis.Connection):
        opened = 0

        def _connect(self) -> object:
            type(self).opened += 1
            if self.opened > 1:
                raise redis.ConnectionError("max number of clients reached")
            return super()._connect()  # type: ignore[no-untyped-call]

    pool = redis.ConnectionPool(connection_class=Scarce, host="127.0.0.1", port=server.port, protocol=2)
    with closing(pool), redis.Redis(connection_pool=pool) as client, pytest.raises(NotExecuted, match="max number"):
        examine(client, timeout=servers.PATIENCE)


def test_a_loading_server_is_reported_as_loading() -> None:
    """INFO is answered while everything else is refused: the reason is reported, and no error raised."""
    info = b"redis_version:7.0.15\r\nloading:1\r\nloading_eta_seconds:240\r\n"

    def answer(command: list[bytes]) -> bytes:
        return b"$%d\r\n%s\r\n" % (len(info), info) if command[0] == b"INFO" else b"-LOADING Redis is loading\r\n"

    with servers.fake(answer) as fake:
        report = on_url(fake.url)
    assert on(report, "loading") == [("error", "it is still loading its data from disk, for about 4 min more")]
    assert on(report, "write")[0][1].startswith("a write failed: BusyLoadingError")


def test_a_server_that_stores_nothing_is_found() -> None:
    """A server that speaks the protocol but stores nothing: the write did not read back."""

    def answer(command: list[bytes]) -> bytes:
        return (
            b":1\r\n" if command[0] in (b"EVAL", b"UNLINK") else b"*0\r\n" if command[0] == b"HGETALL" else b"-ERR\r\n"
        )

    with servers.fake(answer) as fake:
        (diagnosis,) = (diagnosis for diagnosis in on_url(fake.url).diagnoses if diagnosis.topic == "write")
    assert diagnosis.grade == "error"
    assert "answered 1 and stored {}" in diagnosis.found
    assert diagnosis.cure.startswith("use Redis 7.0 or newer")


def test_what_cannot_be_examined_is_refused(server: Server) -> None:
    """A decoding client, no client, an unusable URL: ConfigError with what would be right."""
    with server.client(decode_responses=True) as client, pytest.raises(ConfigError, match="decode_responses=False"):
        examine(client)
    with server.client() as client, pytest.raises(ConfigError, match="prefix"):
        examine(client, prefix="\ud800")
    with pytest.raises(ConfigError, match=r"must be a redis\.Redis, got str"):
        examine(server.admin_url)  # type: ignore[arg-type]
    for url, said in (
        ("memory://", "is not a server"),
        ("localhost:6379", "redis://localhost:6379/0"),
        ("redis://localhost:port", "redis://localhost:6379/0"),
        ("redis+cluster://localhost:7000", "node by node"),
    ):
        with pytest.raises(ConfigError, match=said):
            connect(url)


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "found"), [(1, "60 min behind"), (-3, "3 h ahead of")])
def test_a_clock_that_is_off_is_found(server: Server, hours: int, found: str) -> None:
    """The server's clock is compared with the given one."""
    with server.client() as client:
        seconds, _ = client.time()
        report = examine(client, clock=lambda: seconds + 3600 * hours)
    assert on(report, "clock") == [("warning", f"the server's clock is {found} the local one")]


@pytest.mark.parametrize(
    ("takes", "grade", "found"),
    [
        (0.0004, "ok", "takes 0.4 ms, the slowest of 100 0.4 ms; the timeout is 100 ms"),
        (0.06, "warning", "takes 60 ms, the slowest of 34 60 ms"),
        (0.12, "error", "takes 120 ms"),
    ],
)
def test_round_trips_are_compared_with_the_timeout(server: Server, takes: float, grade: str, found: str) -> None:
    """Up to a hundred reads within two seconds, by the given timer."""
    ticks = itertools.chain(
        [0.0], itertools.chain.from_iterable((n * takes, (n + 1) * takes) for n in itertools.count())
    )
    with server.client() as client:
        asked, opened = on(examine(client, timer=lambda: next(ticks)), "latency")
    assert (asked[0], opened[0]) == (grade, grade)
    assert found in asked[1]
    assert opened[1] == f"a connection takes {1000 * takes:g} ms to open, which counts towards a call's timeout"


# -- what servers rarely are, from what was seen -----------------------------------------------------------------------


# -- the command -------------------------------------------------------------------------------------------------------
