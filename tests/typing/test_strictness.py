"""The types are checked strictly, and somebody notices when they no longer are."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]


Check = Callable[[str], str]


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """What mypy says of a source under the project's own configuration."""
    folder = tmp_path_factory.mktemp("mypy")
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(folder / "cache")]

    def check(source: str) -> str:
        file = folder / "sample.py"
        file.write_text(source)
        return api.run([*options, str(file)])[0]

    return check


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("def f(x):\n    return x\n", "no-untyped-def"),
        ("def f(x: list) -> None: ...\n", "type-arg"),
        ("from typing import Any\n\ndef g() -> Any: ...\n\ndef f() -> int:\n    return g()\n", "no-any-return"),
        ("def f() -> None:\n    x = 1  # type: ignore[arg-type]\n", "unused-ignore"),
    ],
    ids=["untyped function", "bare generic", "Any returned", "needless ignore"],
)
def test_the_configuration_is_strict(mypy: Check, source: str, code: str) -> None:
    """Loosening [tool.mypy] lets one of these samples pass, and this test fail."""
    assert f"[{code}]" in mypy(source)


def test_strictness_covers_package_tests_and_benchmarks() -> None:
    """CI's `mypy` without arguments checks everything that is ours, and no module is let off."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert config["strict"] is True
    assert set(config["files"]) >= {"retarget", "tests", "benchmarks"}
    assert all(set(override) <= {"module", "ignore_missing_imports"} for override in config["overrides"])


def test_the_public_types_are_what_callers_rely_on(mypy: Check) -> None:
    """`assert_type` on the contract: what decide, claim, record and the bulk calls return."""
    source = (ROOT / "tests" / "typing" / "clients.py").read_text()
    assert "Success" in mypy(source)
