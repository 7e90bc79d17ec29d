"""commands.py: the list of commands, their help and the version."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from retarget.cli.commands import app
from tests.support.commands import Run

GROUP = typer.main.get_command(app)
assert isinstance(GROUP, typer.core.TyperGroup)
COMMANDS = GROUP.commands
SHARED = {"__init__", "commands", "options", "terminal"}


def test_a_file_per_command() -> None:
    """The modules are the commands, and what these share."""
    import retarget.cli

    modules = {path.stem for path in Path(retarget.cli.__file__).parent.glob("*.py")}
    assert modules == COMMANDS.keys() | SHARED


def test_help_and_version(run: Run) -> None:
    """Without a command there is help; each command has its own, in any case."""
    alone = run()
    assert "replay" in alone.out + alone.err
    assert "--policy FILE" in run("replay", "--help").out
    assert "--visitors" in run("demo", "-h").out
    assert run("--version").out.startswith("retarget 0.")
    assert run("nonsense").code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_in_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each has help of its own, each option has a text, and no line is wider than a terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    ran = run(name, "--help")
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    assert all(getattr(parameter, "help", None) for parameter in COMMANDS[name].params)
