"""Fixtures of the tests of stores on real servers."""

from __future__ import annotations

import pytest

from retarget.timelines import Store
from tests.support.servers import Server


@pytest.fixture
def behind(store: Store, url: str, fleet: dict[str, Server]) -> Server | None:
    """The server behind the store, None in memory."""
    return next((server for server in fleet.values() if server.url == url), None)
