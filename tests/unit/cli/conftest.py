"""Fixtures for the tests of commands: a way to run one, a policy, a log, a visitor's journey and a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from retarget.cli import main
from retarget.operate import EmbeddedServer
from tests.support.commands import JOURNEY, MONDAY, Ran, Run

POLICY = """
[annoyance]
threshold = ["4 per day"]

[campaign.c]
caps = ["2 per hour"]
exclude = ["click c"]
cost = 0.5
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def command(*argv: object) -> Ran:
        code = main([str(word) for word in argv])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert "\x1b" not in said.out + said.err
        return Ran(code, said.out, said.err)

    return command


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A small policy."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A small log: two visitors, the second without an id; an unknown campaign; a click on a suppressed impression."""
    rows = [(MONDAY + 60 * n, "v1", "c", 0) for n in range(4)]
    rows += [(MONDAY + 300, "v1", "c", 1), (MONDAY, "", "c", 0)]
    rows += [(MONDAY + 400 + n, "v1", "new", 0) for n in range(3)]
    path = tmp_path / "log.csv"
    path.write_text("at,visitor,campaign,click\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.fixture
def journey(tmp_path: Path) -> Path:
    """The policy of a visitor's journey, in a file."""
    path = tmp_path / "journey.toml"
    path.write_text(JOURNEY)
    return path


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of an embedded server."""
    with EmbeddedServer() as running:
        yield running.url
