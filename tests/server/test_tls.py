"""TLS with Debian's Redis: the same answers, and a clear error in time for a certificate that does not match.

The Valkey of the wheel has no TLS.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import trustme

from retarget import AsyncRetargeter, ConfigError, NotExecuted, Policy, Retargeter, StoreError
from retarget.operate import Diagnosis, connect, examine
from retarget.timelines import Alternative, Enter, Write
from tests.support import servers
from tests.support.servers import Server

NOW = 1_794_312_000
POLICY = Policy.from_text('[campaign.a]\ncaps = ["3 per day"]\n[campaign.b]\ncaps = ["1 per day"]')
LONG = 5.0
"""Seconds to connect: a busy machine is slow at handshakes, and no test waits for this to pass."""


@dataclass(frozen=True)
class Papers:
    """Files of two authorities, and of a server at `localhost` and a client, both signed by the first."""

    folder: Path

    @property
    def authority(self) -> str:
        """The option of a URL that trusts the right authority."""
        return f"ssl_ca_certs={self.folder}/authority.pem"

    @property
    def stranger(self) -> str:
        """The option of a URL that trusts another authority."""
        return f"ssl_ca_certs={self.folder}/stranger.pem"

    @property
    def client(self) -> str:
        """The options of a URL that show a client's certificate."""
        return f"ssl_certfile={self.folder}/client.pem&ssl_keyfile={self.folder}/client.key"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates, made for this run."""
    folder = tmp_path_factory.mktemp("papers")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    stranger.cert_pem.write_to_path(str(folder / "stranger.pem"))
    for name, certificate in (
        ("server", authority.issue_cert("localhost")),
        ("client", authority.issue_cert("ads@shop.example")),
    ):
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        (folder / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    return Papers(folder)


def serve(papers: Papers, port: int, clients: str) -> list[str]:
    """The options of a server with TLS on a port, with or without client certificates."""
    return [
        *("--tls-port", str(port), "--tls-auth-clients", clients),
        *("--tls-cert-file", f"{papers.folder}/server.pem", "--tls-key-file", f"{papers.folder}/server.key"),
        *("--tls-ca-cert-file", f"{papers.folder}/authority.pem"),
    ]


@dataclass(frozen=True)
class Secure:
    """A server with TLS on its own port, and without on the other."""

    server: Server
    port: int

    def url(self, *options: str, host: str = "localhost") -> str:
        """Its address over TLS, for the user with the least rights."""
        return f"rediss://{servers.USER}@{host}:{self.port}/0?{'&'.join(options)}"


@pytest.fixture(scope="module")
def open_to_all(papers: Papers) -> Iterator[Secure]:
    """A server that asks no client for a certificate."""
    port = servers.free_port()
    with servers.run("redis", *serve(papers, port, "no")) as server:
        yield Secure(server, port)


@pytest.fixture(scope="module")
def by_certificate(papers: Papers) -> Iterator[Secure]:
    """A server that takes only clients with a certificate of its authority."""
    port = servers.free_port()
    with servers.run("redis", *serve(papers, port, "yes")) as server:
        yield Secure(server, port)


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> None:
    """The servers that a test uses are empty."""
    for name in {"open_to_all", "by_certificate"} & set(request.fixturenames):
        request.getfixturevalue(name).server.flush()


def check_sync(url: str) -> None:
    """Claims, decisions, batches and the rest over that address come to what they are."""
    with Retargeter(POLICY, url, clock=lambda: NOW, timeout=LONG) as ads:
        assert [bool(ads.claim("v", ["b", "a"])) for _ in range(5)] == [True] * 4 + [False]
        held = ads.claim("w", ["b"], hold="15 minutes")
        assert held
        assert [decision.eligible for decision in ads.decide_many(["v", "w", "new"])] == [(), ("a",), ("a", "b")]
        assert ads.confirm(held) == "confirmed"
        assert ads.record_many([("v", "impression", "a", NOW, "1")] * 2) == [True, False]
        assert len(ads.export("v")["timelines"]["impression a"]["at"]) == 4
        assert ads.forget("v") is True


def check_async(url: str) -> None:
    """The same, awaited; and a hundred calls in flight."""

    async def calls() -> None:
        async with AsyncRetargeter(POLICY, url, clock=lambda: NOW, timeout=LONG) as ads:
            claims = await asyncio.gather(*(ads.claim("crowd", ["b", "a"]) for _ in range(100)))
            assert sum(claim is not None for claim in claims) == 4
            assert [decision.eligible async for decision in ads.decide_many(["crowd", "new"])] == [(), ("a", "b")]
            assert await ads.forget("crowd") is True

    asyncio.run(calls())


def refused(url: str) -> tuple[StoreError, StoreError]:
    """What a record fails with over that address, sync and async, and that a decision is the policy's answer."""

    async def awaited() -> StoreError:
        async with AsyncRetargeter(POLICY, url, clock=lambda: NOW, timeout=LONG) as ads:
            with pytest.raises(StoreError) as raised:
                await ads.record("v", "impression", "a")
            assert (await ads.decide("v"))["a"].reason == "store error"
        return raised.value

    with Retargeter(POLICY, url, clock=lambda: NOW, timeout=LONG) as ads:
        with pytest.raises(StoreError) as raised:
            ads.record("v", "impression", "a")
        decision = ads.decide("v")
        assert (decision.eligible, decision["a"].reason) == ((), "store error")
        assert isinstance(decision.degraded, NotExecuted)
    return raised.value, asyncio.run(awaited())


def test_the_answers_are_the_same_over_tls(open_to_all: Secure, papers: Papers) -> None:
    """`rediss://` with the authority's certificate, in threads' and in asyncio's way."""
    check_sync(open_to_all.url(papers.authority))
    check_async(open_to_all.url(papers.authority))


def test_threads_get_each_its_own_answer_over_tls(open_to_all: Secure, papers: Papers) -> None:
    """Large replies, in several TLS records each, to eight threads at once: nobody gets another's."""
    fields = {n: [b"i%d-%d-" % (n, field) + b"x" * 40 for field in range(500)] for n in range(8)}
    right: list[bool] = []
    with closing(servers.open_store(open_to_all.url(papers.authority))) as store:
        for n, names in fields.items():
            entries = tuple(Enter(name, NOW, 1, 16, 1_023) for name in names)
            assert store.write(Write(b"rt:1:v%d" % n, NOW, b"", (Alternative((), entries, 86_400),))) == 1

        def read(n: int) -> None:
            right.append(all(set(store.read(b"rt:1:v%d" % n)) == set(fields[n]) for _ in range(20)))
            states = store.read_many([b"rt:1:v%d" % other for other in fields])
            right.append(all(set(state) == set(fields[i]) for i, state in enumerate(states)))  # type: ignore[arg-type]

        threads = [threading.Thread(target=read, args=(n,)) for n in fields]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == [True] * 16


def test_a_client_of_ones_own_may_speak_tls(open_to_all: Secure, papers: Papers) -> None:
    """A `redis.Redis` that was given serves as one from a URL does."""
    with redis.Redis.from_url(open_to_all.url(papers.authority), protocol=2, socket_timeout=LONG) as client:
        ads = Retargeter(POLICY, client, clock=lambda: NOW, timeout=LONG)
        assert ads.claim("v", ["b"])
        assert ads.claim("v", ["b"]) is None
        ads.close()


def test_a_connection_that_was_dropped_heals_over_tls(open_to_all: Secure, papers: Papers) -> None:
    """The server hung up on every client: the next call opens another, for reads and for writes."""
    with (
        open_to_all.server.client() as admin,
        Retargeter(POLICY, open_to_all.url(papers.authority), clock=lambda: NOW, timeout=LONG) as ads,
    ):
        assert ads.claim("v", ["a"])
        admin.client_kill_filter(_type="normal", skipme=True)
        assert ads.decide("v").degraded is None
        admin.client_kill_filter(_type="normal", skipme=True)
        assert ads.claim("v", ["a"])


def test_a_server_of_an_unknown_authority_is_refused(open_to_all: Secure, papers: Papers) -> None:
    """Nobody can impersonate the server: not executed, the error says why, and the policy's answer is given."""
    for url in (open_to_all.url(papers.stranger), open_to_all.url()):
        for error in refused(url):
            assert isinstance(error, NotExecuted)
            assert "certificate verify failed" in str(error)


def test_a_server_of_another_name_is_refused(open_to_all: Secure, papers: Papers) -> None:
    """A certificate of the right authority but for another server is not accepted."""
    for error in refused(open_to_all.url(papers.authority, host="127.0.0.1")):
        assert isinstance(error, NotExecuted)
        assert "certificate is not valid for '127.0.0.1'" in str(error)


def test_no_tls_on_a_tls_port_fails_at_once(open_to_all: Secure) -> None:
    """`redis://` instead of `rediss://`: not executed, and the policy's answer."""
    for error in refused(open_to_all.url().replace("rediss:", "redis:")):
        assert isinstance(error, NotExecuted)


def test_a_missing_certificate_file_is_named(open_to_all: Secure, papers: Papers) -> None:
    """A wrong path is refused when the retargeter is made, with an error that names it."""
    url = open_to_all.url(f"ssl_ca_certs={papers.folder}/nowhere.pem")
    for make in (Retargeter, AsyncRetargeter):
        with pytest.raises(ConfigError, match="No such file"):
            make(POLICY, url)


def test_opening_a_connection_reads_no_certificates(
    open_to_all: Secure, papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates are read once, when the retargeter is made: reading them again would take a call's time."""
    with Retargeter(POLICY, open_to_all.url(papers.authority), clock=lambda: NOW, timeout=LONG) as ads:
        monkeypatch.setattr(ssl, "create_default_context", lambda *_: pytest.fail("read again"))
        assert ads.claim("v", ["a"])


def test_a_client_shows_its_certificate(by_certificate: Secure, papers: Papers) -> None:
    """Where the server requires one, a client without is refused, and one with is served."""
    for error in refused(by_certificate.url(papers.authority)):
        assert isinstance(error, NotExecuted)
    with by_certificate.server.client() as admin:
        assert admin.dbsize() == 0
    check_sync(by_certificate.url(papers.authority, papers.client))
    check_async(by_certificate.url(papers.authority, papers.client))


def test_the_doctor_says_whether_the_server_is_verified(open_to_all: Secure, papers: Papers) -> None:
    """A warning for TLS that trusts anybody; a certificate that does not match is our error, and says so."""

    def transport(*options: str) -> Diagnosis:
        with connect(open_to_all.url(*options)) as client:
            return next(diagnosis for diagnosis in examine(client).diagnoses if diagnosis.topic == "transport")

    assert transport(papers.authority).grade == "ok"
    assert transport(papers.authority, "ssl_cert_reqs=optional").grade == "ok"  # which means required, for a client
    for loose in ("ssl_cert_reqs=none", f"{papers.authority}&ssl_check_hostname=false"):
        assert transport(loose).grade == "warning"
    with pytest.raises(NotExecuted, match="certificate verify failed"):
        transport(papers.stranger)
