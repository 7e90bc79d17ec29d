"""The command line, `retarget`: a module per command, each with an `add(app)`; `commands` lists them.

Rules:
- A command parses and prints; the work is done by a function of the library that any caller can use.
- Exit codes: 0 if all is well; 1 if a check has warnings; 2 if it has errors, or the command was used wrongly or
  failed, which prints one line on standard error and no traceback; 130 after Ctrl-C.
- Output that is not a terminal gets plain text: no colours, no progress.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from retarget.errors import RetargetError, RetargetWarning


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command (by default `sys.argv`'s) and return its exit code."""
    try:
        from retarget.cli.commands import Interrupted, UsageFailed, app, usage
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("typer", "rich"):
            raise
        return _failed(f"the command line needs {missing}: pip install 'retarget[cli]'")
    with warnings.catch_warnings():
        _show_own_warnings_plainly()
        try:
            code = app(args=None if argv is None else list(argv), prog_name="retarget", standalone_mode=False)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
        except UsageFailed as error:
            return _failed(usage(error))
        except Interrupted:
            return _failed("interrupted", 130)
        except RetargetError as error:
            return _failed(str(error))
        except OSError as error:
            return _failed(str(error) if error.filename is None else f"{error.filename}: {error.strerror}")
    return code if isinstance(code, int) else 0


def _failed(message: str, code: int = 2) -> int:
    print(f"retarget: {message}", file=sys.stderr)  # noqa: T201 - rich may be missing
    return code


def _show_own_warnings_plainly() -> None:
    """Print the library's warnings without the line of code they come from: the user at a terminal did not write it."""
    default = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, RetargetWarning):
            print(f"retarget: warning: {message}", file=sys.stderr)  # noqa: T201 - as above
        else:
            default(message, category, filename, lineno, file, line)

    warnings.showwarning = show
