"""The command line: `retarget`. One module per group of commands, each with an `add(app)`.

Rules:
- A command parses and prints; what it does is a function of the library that anybody can call.
- Exit codes: 0 where all is well, 1 where a check has warnings, 2 where it has errors, and where a command was asked
  wrongly or cannot go on. That is said in one line on standard error, without a traceback.
- What is not a terminal gets plain text: no colours, no progress.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from retarget.errors import RetargetError, RetargetWarning


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command (that of `sys.argv` where none is given) and return its exit code."""
    try:
        from retarget.cli.commands import app
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("typer", "rich"):
            raise
        return _failed(f"the command line takes {missing}: pip install 'retarget[cli]'")
    with warnings.catch_warnings():
        _say_ours_plainly()
        try:
            app(args=None if argv is None else list(argv), prog_name="retarget")
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
        except RetargetError as error:
            return _failed(str(error))
        except OSError as error:
            return _failed(str(error) if error.filename is None else f"{error.filename}: {error.strerror}")
    return 0


def _failed(message: str) -> int:
    print(f"retarget: {message}", file=sys.stderr)  # noqa: T201 - rich may be what is missing
    return 2


def _say_ours_plainly() -> None:
    """Our own warnings without the line of code they come from: whoever is at a terminal did not write it."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
        if issubclass(category, RetargetWarning):
            print(f"retarget: warning: {message}", file=sys.stderr)  # noqa: T201 - as above
        else:
            usual(message, category, *where, **more)  # type: ignore[arg-type]

    warnings.showwarning = show
