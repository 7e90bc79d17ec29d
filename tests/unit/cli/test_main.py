"""`retarget` itself: help, version, missing extras, and the installed program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import Run


def test_help_and_version(run: Run) -> None:
    """Without a command there is help; each command has its own."""
    alone = run()
    assert "replay" in alone.out + alone.err
    assert "--policy FILE" in run("replay", "--help").out
    assert "--visitors" in run("demo", "-h").out
    assert run("--version").out.startswith("retarget 0.")
    assert run("nonsense").code == 2


@pytest.mark.parametrize(("missing", "extra"), [("typer", "cli"), ("rich", "cli"), ("duckdb", "logs")])
def test_an_extra_is_missing(policy: Path, log: Path, missing: str, extra: str) -> None:
    """Without an extra, one line says what to install."""
    script = "import sys; sys.modules[sys.argv[1]] = None; from retarget.cli import main; sys.exit(main(sys.argv[2:]))"
    words = [missing, "replay", str(log), "--policy", str(policy)]
    ran = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"pip install 'retarget[{extra}]'" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_as_a_program(policy: Path, log: Path) -> None:
    """`python -m retarget` is the command; piped, it prints plain text, and warnings of ours are plain, too."""
    command = [sys.executable, "-m", "retarget", "replay", str(log), "--policy", str(policy)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "What the policy changes" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert ran.stderr == ""
    wrong = subprocess.run([*command, "--map", "x"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("retarget: --map x: ")
