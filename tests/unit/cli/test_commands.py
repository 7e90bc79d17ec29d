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
    """The modules are the commands and what they share."""
    import retarget.cli

    modules = {path.stem for path in Path(retarget.cli.__file__).parent.glob("*.py")}
    assert modules == COMMANDS.keys() | SHARED


def test_help_and_version(run: Run) -> None:
    """Without a command, help is printed; each command has its own."""
    alone = run()
    assert "replay" in alone.out + alone.err
    assert "--policy FILE" in run("replay", "--help").out
    assert "--visitors" in run("demo", "-h").out
    assert run("--version").out.startswith("retarget 0.")
    assert run("nonsense").code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_in_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each command and option has help, and no line is wider than 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    ran = run(name, "--help")
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    assert all(getattr(parameter, "help", None) for parameter in COMMANDS[name].params)


def test_the_list_of_commands_fits_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sentence of each command's help is shown whole."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("--help").out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert [line for line in lines if line.endswith("...")] == []
