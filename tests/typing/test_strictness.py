"""The types are checked strictly by mypy and by pyright, and a test fails when they no longer are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
CLIENTS = (ROOT / "tests" / "typing" / "clients.py").read_text()

Check = Callable[[str], str]


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """What mypy reports on a source under the project's own configuration."""
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
    """CI's `mypy` without arguments checks everything in the repository, and no module is exempt."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert config["strict"] is True
    assert set(config["files"]) >= {"retarget", "tests", "benchmarks"}
    assert all(set(override) <= {"module", "ignore_missing_imports"} for override in config["overrides"])


WRONG = {
    'assert_type(ads.decide("v"), Decision)': 'assert_type(ads.decide("v"), Claim)',
    'assert_type(await ads.decide("v"), Decision)': 'assert_type(ads.decide("v"), Decision)',
    'AsyncRetargeter(policy, "memory://")\n': 'AsyncRetargeter(policy, "memory://", retries=3)\n',
    "ads.policy = policy": 'ads.policy = "policy.toml"',
}
"""Lines of clients.py, and what would make them wrong."""

CHECKERS = {
    "mypy": ["mypy", "--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary"],
    "pyright": ["pyright", "--pythonpath", sys.executable],  # strict: clients.py asks for it
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_public_types_are_what_callers_rely_on(tmp_path: Path, checker: str) -> None:
    """`assert_type` on every method, option and value: each checker accepts it, and reports each line made wrong."""
    wrong = CLIENTS
    for line, instead in WRONG.items():
        assert line in wrong
        wrong = wrong.replace(line, instead, 1)
    (tmp_path / "right.py").write_text(CLIENTS)
    (tmp_path / "wrong.py").write_text(wrong)
    command = [sys.executable, "-m", *CHECKERS[checker], "right.py", "wrong.py"]
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    report = done.stdout + done.stderr
    reported = {(file, int(line)) for file, line in re.findall(r"(right|wrong)\.py:(\d+).* error", report)}
    lines = enumerate(zip(CLIENTS.split("\n"), wrong.split("\n"), strict=True), 1)
    assert reported == {("wrong", number) for number, (right, changed) in lines if right != changed}, report
