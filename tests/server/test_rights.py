"""The least rights: they are enough for every call, and not one of them can be left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from retarget import NotExecuted, Policy, Retargeter, StoreError
from retarget.operate import connect, examine
from retarget.operate.diagnosis import CLUSTER_RIGHTS, LEAST_RIGHTS
from retarget.timelines import keys
from tests.support import servers
from tests.support.servers import Server

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "connect-to-redis.md"
NOW = 1_794_312_000
POLICY = Policy.from_text("""
on_store_error = "raise"
[campaign.a]
caps = ["3 per day", "5 per session"]
exclude = ["purchase within 90 days"]
""")
GIVEN = [right for right in LEAST_RIGHTS.split() if right[0] in "+~"]
"""The rights that grant something; the others revoke."""


@contextmanager
def user(server: Server, *rights: str) -> Iterator[redis.Redis]:
    """An administrator, while there is a user `trial` with these rights and the password `trial`."""
    with server.client() as admin:
        admin.execute_command("ACL SETUSER", "trial", "on", ">trial", *rights)
        try:
            yield admin
        finally:
            admin.acl_deluser("trial")


def everything(server: Server, admin: redis.Redis, database: int = 0) -> None:
    """Call everything that the library can do, on servers that know the script and on one that does not."""
    url = f"redis://trial:trial@127.0.0.1:{server.port}/{database}"
    with closing(servers.open_store(url)) as store, Retargeter(POLICY, store, clock=lambda: NOW) as ads:
        admin.script_flush()
        assert ads.claim("v", ["a"], id="1")
        assert ads.claim("v", ["a"], id="1")
        held = ads.claim("v", ["a"], id="2", hold="15 minutes")
        assert held
        assert ads.confirm(held) == "confirmed"
        released = ads.claim("v", ["a"], hold="15 minutes")
        assert released
        assert ads.release(released)
        assert ads.record("v", "purchase", id="3")
        assert ads.record_many([("v", "purchase"), ("w", "purchase")]) == [True, True]
        assert ads.decide("v").eligible == ()
        assert [decision.eligible for decision in ads.decide_many(["v", "w", "new"])] == [(), (), ("a",)]
        assert ads.export("v")["timelines"]
        assert ads.merge("w", into="v")
        assert [ads.forget(visitor) for visitor in ("v", "w", "w")] == [True, True, False]
        with server.client(db=database) as client:
            client.set(keys.key("rt:", "spoilt"), "of another type")
        assert ads.forget("spoilt")


def test_the_least_rights_are_enough(server: Server) -> None:
    """Every call is answered, the script is sent where it is missing, and the store is empty in the end."""
    with user(server, *LEAST_RIGHTS.split()) as admin:
        everything(server, admin)
        assert admin.dbsize() == 0


@pytest.mark.parametrize("right", GIVEN)
def test_none_of_them_can_be_left_out(server: Server, right: str) -> None:
    """Without any one of them some call fails."""
    with (
        user(server, *(given for given in LEAST_RIGHTS.split() if given != right)) as admin,
        pytest.raises(StoreError, match=r"permissions|The user executing"),
    ):
        everything(server, admin)


def test_another_database_takes_one_right_more(server: Server) -> None:
    """`+select`, as the docs say; without it nothing is executed, and the doctor says what is missing."""
    with user(server, *LEAST_RIGHTS.split()) as admin:
        with pytest.raises(NotExecuted, match="select"):
            everything(server, admin, database=1)
        url = f"redis://trial:trial@127.0.0.1:{server.port}/1"
        with connect(url) as client, pytest.raises(NotExecuted, match="select"):
            examine(client)
    with user(server, *LEAST_RIGHTS.split(), "+select") as admin:
        everything(server, admin, database=1)


def test_tests_run_as_a_user_with_just_these_rights(server: Server) -> None:
    """The URLs that tests use log in with the least rights, over TCP and the socket."""
    with server.client() as admin:
        rights = admin.acl_getuser("ads")
        assert rights["keys"] == ["~rt:*"]
        assert rights["channels"] == []
        assert sorted(rights["commands"]) == sorted(right for right in GIVEN if right[0] == "+")
        assert rights["categories"] == ["-@all"]
    for url in (server.url, server.unix_url):
        with redis.Redis.from_url(url) as client, pytest.raises(NoPermissionError, match="ping"):
            client.ping()


def test_the_page_gives_just_these_rights() -> None:
    """The rights in the docs are those tested; the page has no others."""
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"~rt:\*[^`]*", page) == [f"{LEAST_RIGHTS}\n"]
    assert f"`{CLUSTER_RIGHTS}`" in page
