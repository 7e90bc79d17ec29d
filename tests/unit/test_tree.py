"""The tree: what lies where, how long files are, and that each module has tests of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import retarget

ROOT = Path(__file__).parents[2]
PACKAGE = Path(retarget.__file__).parent
FLAT = {"__init__.py", "__main__.py", "errors.py", "events.py", "py.typed", "retargeter.py"}
"""What may lie in `retarget/` itself."""
MOST_LINES = 500
LISTS = {"__init__", "__main__"}
"""Modules without rules of their own: they list or import names."""

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
ROOMS = {path.parent for path in MODULES} - {Path()}
"""Folders with a face, as paths inside the package: `policy`, `policy/lint`, `stores/redis` and so on."""


def test_only_the_public_face_lies_flat() -> None:
    """Everything else is in a room."""
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == FLAT


@pytest.mark.parametrize("folder", [PACKAGE, ROOT / "tests", ROOT / "benchmarks"], ids=lambda folder: folder.name)
def test_no_file_is_too_long(folder: Path) -> None:
    """500 lines at most, tests and Lua included."""
    files = [path for path in folder.rglob("*") if path.suffix in (".py", ".lua")]
    lines = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in files}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_each_module_has_its_test_file() -> None:
    """`retarget/room/module.py` has `tests/unit/room/test_module.py`, perhaps split (`test_module_*.py`)."""
    unit = ROOT / "tests" / "unit"
    tested = [path for path in MODULES if path.stem not in LISTS]
    lacking = [path.as_posix() for path in tested if not list((unit / path.parent).glob(f"test_{path.stem}*.py"))]
    assert lacking == []


def test_each_room_says_what_it_is() -> None:
    """A face has a docstring; those that re-export name everything in `__all__`."""
    for room in ROOMS:
        tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), room


def imports(path: Path) -> Iterator[str]:
    """What a module imports from `retarget`, as `module.name`; what only type checkers see is left out."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("retarget."):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.as_posix())
def test_rooms_are_entered_by_their_faces(path: Path) -> None:
    """Code outside a room imports from the room, not from its modules; `stores.redis` is a room of its own."""
    for name in imports(path):
        module = Path(*name.split(".")[1:-1])
        room = module.parent
        assert module in ROOMS or room == Path() or room in path.parents, (
            f"{path} imports {name}: import it from retarget.{'.'.join(room.parts)}"
        )
