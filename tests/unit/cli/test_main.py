"""`main`: exit codes, errors, missing extras, warnings, and the program."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import typer

from retarget import cli
from retarget.cli import main
from retarget.errors import PolicyError, RetargetWarning
from tests.support.commands import Run

App = Callable[..., None]


def raising(error: BaseException) -> App:
    """An app whose every command raises this error."""

    def app(*, args: Sequence[str] | None, prog_name: str, standalone_mode: bool) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (SystemExit(1), 1, ""),
        (SystemExit(), 0, ""),
        (SystemExit("some text"), 2, ""),
        (PolicyError(["campaign.c.caps: wrong"]), 2, "retarget: campaign.c.caps: wrong\n"),
        (FileNotFoundError(2, "No such file", "log.csv"), 2, "retarget: log.csv: No such file\n"),
        (OSError("the disk is full"), 2, "retarget: the disk is full\n"),
        (typer.Abort(), 130, "retarget: interrupted\n"),
    ],
)
def test_errors_become_exit_codes(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, printed: str
) -> None:
    """Errors of the library and of the system are one line on standard error and code 2; an exit keeps its code."""
    monkeypatch.setattr("retarget.cli.commands.app", raising(error))
    ran = run("replay")
    assert (ran.code, ran.out, ran.err) == (code, "", printed)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "give a command: demo, replay, check, explain, export, forget, doctor, plan; see retarget -h"),
        ("replay", "missing argument 'LOG'; see retarget replay -h"),
        ("replay x", "missing option '--policy'; see retarget replay -h"),
        ("replay x --policy", "option '--policy' requires an argument; see retarget"),
        ("replay x --nope", "no such option: --nope"),
        ("foo", "no such command 'foo'; see retarget -h"),
        ("plan --visitors 5 --spread odd", "invalid value for '--spread': 'odd' is not one of 'uneven', 'even'; see"),
        ("plan --visitors 5 --campaigns x", "invalid value for '--campaigns': "),
        ("plan a", "missing option '--visitors'; see retarget plan -h"),
        ("doctor redis://x --timeout 0", "invalid value for '--timeout': "),
    ],
)
def test_wrong_usage_is_one_line(run: Run, words: str, said: str) -> None:
    """What was wrong, and where to read what would be right; code 2."""
    ran = run(*words.split())
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"retarget: {said}")
    assert "-h" in ran.err


def test_a_command_that_is_nearly_right(run: Run) -> None:
    """The question ends the sentence."""
    assert "? See retarget -h\n" in run("repla").err


def test_help_is_no_error(run: Run) -> None:
    """It is printed on standard output, with code 0."""
    ran = run("plan", "-h")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Usage: retarget plan")


def test_a_command_that_returns_is_code_0(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that neither exits nor raises succeeded."""
    monkeypatch.setattr("retarget.cli.commands.app", lambda **_: None)
    assert run("replay").code == 0


def test_own_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The library's warnings are printed without a line of code; others in Python's way."""
    usual: list[object] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: usual.append(str(message)))

    def app(**_: object) -> None:
        warnings.warn("the pool is not used", RetargetWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)

    monkeypatch.setattr("retarget.cli.commands.app", app)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([]) == 0
    assert capsys.readouterr().err == "retarget: warning: the pool is not used\n"
    assert usual == ["something else"]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_the_extra_of_the_command_line_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """One line says what to install."""
    for name in [name for name in sys.modules if name.startswith("retarget.cli.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(cli, name.rpartition(".")[2])
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, missing, None)
    ran = run("replay")
    assert (ran.code, ran.err) == (2, f"retarget: the command line needs {missing}: pip install 'retarget[cli]'\n")


def test_any_other_missing_module_is_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback is kept."""
    monkeypatch.setitem(sys.modules, "retarget.cli.commands", None)
    with pytest.raises(ImportError, match=r"retarget\.cli\.commands"):
        run("replay")


@pytest.mark.parametrize(("missing", "extra"), [("typer", "cli"), ("duckdb", "logs")])
def test_an_extra_is_missing_on_a_machine(policy: Path, log: Path, missing: str, extra: str) -> None:
    """The same in a separate process, where nothing was imported before."""
    script = "import sys; sys.modules[sys.argv[1]] = None; from retarget.cli import main; sys.exit(main(sys.argv[2:]))"
    words = [missing, "replay", str(log), "--policy", str(policy)]
    ran = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"pip install 'retarget[{extra}]'" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_as_a_program(policy: Path, log: Path) -> None:
    """`python -m retarget` is the command; piped, it prints plain text."""
    command = [sys.executable, "-m", "retarget", "replay", str(log), "--policy", str(policy)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "What the policy changes" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert ran.stderr == ""
    wrong = subprocess.run([*command, "--map", "x"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("retarget: --map x: ")
