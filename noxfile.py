"""The task runner: `nox -s NAME`; without a name, what CI runs.

Rules:
- `.ci/run` calls these sessions and adds only what they do not need: servers, and the README's own commands.
- `test` runs the suite on the *wheel*, from an unpacked sdist without its `retarget/`.
- Nothing is downloaded except packages by name.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
ROOM_FLOOR = 90.0
"""Percent of the lines and branches of each module that its own room's tests cover at least."""

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "docs", "rooms", "test-3.11"]


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format, and the import order."""
    session.install("ruff>=0.17", "import-linter>=2.5")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types: mypy over everything, pyright over the contract that callers see."""
    session.install("--editable", ".[dev]")
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into build/docs; a broken link or reference fails."""
    session.install("--editable", ".[docs]")
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-q", "-b", "html", "docs", "build/docs")


@nox.session(python=["3.11", "3.12", "3.13"])
def test(session: nox.Session) -> None:
    """Build and check the sdist and the wheel; run the suite on the wheel, with branch coverage as a gate."""
    work = Path(session.create_tmp())
    sdist, wheel = _build(session, work / "dist")
    _check_contents(session, sdist, wheel)
    session.install(f"retarget[test] @ {wheel.as_uri()}", "pytest-cov>=7")
    session.install("--force-reinstall", "--no-deps", str(wheel))  # an older build has the same version
    session.chdir(_unpack(sdist, work / "sdist"))
    _pytest(session, "--cov=retarget", *session.posargs, RETARGET_WHEEL="1")


@nox.session
def rooms(session: nox.Session) -> None:
    """Each module is covered by the unit tests of its own room."""
    session.install("--editable", ".[test]", "pytest-cov>=7")
    thin = []
    for room in session.posargs or sorted(path.name for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir()):
        if not (ROOT / "retarget" / room).is_dir():
            continue
        report = Path(session.create_tmp()) / f"{room}.json"
        options = [f"--cov=retarget.{room}", f"--cov-report=json:{report}", "--cov-fail-under=0", "-q"]
        _pytest(session, *options, f"tests/unit/{room}")
        for name, module in json.loads(report.read_text())["files"].items():
            covered = module["summary"]["percent_covered"]
            if covered < ROOM_FLOOR:
                thin.append(f"{name}: {covered:.1f} %")
    if thin:
        session.error(f"less than {ROOM_FLOOR:g} % covered by the tests of their own room:\n" + "\n".join(thin))


@nox.session
def shuffle(session: nox.Session) -> None:
    """The suite in random order; pytest prints the seed, and `-- --randomly-seed=N` repeats it."""
    session.install("--editable", ".[test]", "pytest-randomly>=4")
    _pytest(session, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, quick unless options are given."""
    session.install(".[benchmarks]")
    session.run("python", "-m", "benchmarks", *(session.posargs or ["--quick"]))


@nox.session
def soak(session: nox.Session) -> None:
    """The long runs."""
    session.install("--editable", ".[test]")
    _pytest(session, "-m", "soak", *session.posargs)


def _pytest(session: nox.Session, *options: str, **env: str) -> None:
    """Run pytest with its files in the system's folder, not in nox's: that is hidden and deep, which changes output."""
    session.run("python", "-m", "pytest", *options, env={"TMPDIR": tempfile.gettempdir(), **env})


def _build(session: nox.Session, folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it; check what an index would check."""
    shutil.rmtree(folder, ignore_errors=True)
    session.install("build>=1.3", "twine>=6")
    session.run("python", "-m", "build", "--outdir", str(folder), str(ROOT), silent=True)
    sdist, wheel = next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))
    session.run("twine", "check", "--strict", str(sdist), str(wheel))
    return sdist.resolve(), wheel.resolve()


def _check_contents(session: nox.Session, sdist: Path, wheel: Path) -> None:
    """The wheel holds all of `retarget/` and nothing else; the sdist what the tests need as well."""
    own = {path.relative_to(ROOT).as_posix() for path in (ROOT / "retarget").rglob("*") if path.is_file()}
    own = {name for name in own if "__pycache__" not in name}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if packed != own:
        session.error(f"the wheel differs from retarget/: {sorted(packed ^ own)}")
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    needed = own | {"README.md", "LICENSE", "CHANGELOG.md", "noxfile.py", "tests/conftest.py", "docs/conf.py"}
    if missing := needed - sources:
        session.error(f"the sdist lacks {sorted(missing)}")


def _unpack(sdist: Path, folder: Path) -> Path:
    """The sdist's tree without `retarget/`: what the suite imports is what was installed."""
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    shutil.rmtree(tree / "retarget")
    return tree
