"""terminal.py: output to a terminal and to a pipe, progress, and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.text import Text

from retarget.cli.terminal import Terminal, printable, progress, table, write_json


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """No colours, no trailing spaces, and a fixed width."""
    listed = table("A title", "name", "figure", "|words")
    listed.add_row("[b]x[/b] :smile:", "1", "w" * 200)
    Terminal().say(Text("bold", "bold red"), "", listed)
    out = capsys.readouterr().out
    assert out.startswith("bold\n\nA title\n")
    assert "[b]x[/b] :smile:" in out
    assert "\x1b" not in out
    assert all(line == line.rstrip() and len(line) <= 120 for line in out.splitlines())


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And the width of its window."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Terminal().say(Text("word " * 20, "bold red"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("\x1b[1;31m")
    assert len(lines) == 3


def test_columns_of_words_are_on_the_left() -> None:
    """The first column, and those named with a bar; figures are on the right."""
    listed = table("", "campaign", "impressions", "|when")
    assert [column.justify for column in listed.columns] == ["left", "right", "left"]
    assert [column.header for column in listed.columns] == ["campaign", "impressions", "when"]


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, one task at a time; a pipe gets none."""
    with progress() as report:
        report("reading the log", 0, 0)
        report("replaying it", 1, 2)
        report("replaying it", 2, 2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress() as report:
        report("reading the log", 0, 0)
        report("replaying it", 1, 2)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "replaying it" in printed.err


def test_control_characters_are_escaped() -> None:
    """An id may contain anything; a terminal must not interpret it."""
    assert printable("ann\x1b[2J\n[b]é") == "ann\\x1b[2J\\n[b]é"


def test_json_goes_to_a_file_or_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`-`, or no path, is standard output."""
    data = {"rule": "ü", "n": 1}
    write_json(data, tmp_path / "one.json")
    assert json.loads((tmp_path / "one.json").read_text(encoding="utf-8")) == data
    for path in (None, Path("-")):
        write_json(data, path)
        assert capsys.readouterr().out == (tmp_path / "one.json").read_text(encoding="utf-8")
