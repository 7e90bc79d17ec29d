"""The docs: every block runs, every policy loads, every link leads somewhere, and nothing public is left out.

How a block is read:
- `python` blocks of a document run one after the other in one namespace, in a folder of their own. A line
  `print(...)  # text` must print that text; or a `text` block behind tells all that is printed.
- `toml` blocks are policies. A block with `title="name"` is written to a file of that name first, for what follows.
- `sh` blocks run if they are `retarget ...` commands, in this process, for speed; that the installed program is the
  same is a test of its own. All other commands are listed in `NOT_RUN`, with the reason.
- `{toctree}` and the like are directives of the site's generator.
"""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import json
import re
import shlex
import subprocess
import sys
import typing
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

import retarget
from retarget import cli
from retarget.cli.commands import app
from retarget.engine import Reason
from retarget.policy import Campaign, Policy, Rules
from retarget.policy.lint.finding import RULES
from retarget.policy.models import Annoyance, Segment
from retarget.timelines import Store

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(retarget.__file__).parent
"""What is tested: the checkout's, or the installed wheel's."""
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")), *PAGES]
REFERENCE = DOCS / "reference"

NOT_RUN = {
    "python3 -m venv .venv && .venv/bin/pip install '.[all]' && .venv/bin/retarget demo": "installs from the network",
    "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/python -m pytest": "runs these very tests",
    "python3 -m venv .venv": "installs from the network",
    ".venv/bin/pip install --editable '.[dev]'": "installs from the network",
    "python -m benchmarks --json result.json": "takes its time, and needs a quiet machine",
    "python -m benchmarks.page result.json": "writes the docs",
    "python -m benchmarks.charts result.json": "writes the docs",
    "python -m pytest -m soak": "takes its time",
    "python -m benchmarks.capacity --visitors 1e6": "takes its time, and gigabytes",
    "python -m benchmarks.capacity --visitors 1e7 --first": "likewise",
    "python -m benchmarks.capacity --measure --json costs.json": "takes its time, and needs a quiet machine",
}
"""The commands of the docs that no test runs, and why not."""

DIRECTIVES = ("{eval-rst}", "{include}", "{literalinclude}", "{toctree}")
"""What a fence of the site's generator begins with."""

FENCE = re.compile(
    r'^```(?P<language>\w*|\{[\w-]+\})(?: title="(?P<title>[^"]+)"|(?<=\}) [^\n]+)?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
PRINTS = re.compile(r"^\s*print\(.*\)  # (?P<printed>.*)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
PROSE_ONLY = {"__init__", "errors", "__main__"}
"""Modules that have no rules of their own: they list names."""


class Block(NamedTuple):
    """A fenced block: its language, the file it stands for, its text and the line it begins on."""

    language: str
    title: str | None
    text: str
    line: int


def blocks(document: Path) -> list[Block]:
    """The document's fenced blocks, in order."""
    source = document.read_text(encoding="utf-8")
    found = [
        Block(match["language"], match["title"], match["text"], source.count("\n", 0, match.start("text")) + 1)
        for match in FENCE.finditer(source)
    ]
    assert len(found) == len(re.findall(r"^```", source, re.MULTILINE)) / 2, f"{document}: a fence that is not read"
    return found


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(document: Path) -> set[str]:
    """What the document's headings are called in links."""
    prose = FENCE.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run_python(document: Path, block: Block, namespace: dict[str, object], told: str | None) -> None:
    """Run one block; what it prints must be what the document says it prints."""
    out = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.text, str(document), "exec", dont_inherit=True)
    with contextlib.redirect_stdout(out):
        exec(code, namespace)  # noqa: S102 - running the docs is what this test is for
    printed = out.getvalue().splitlines()
    comments = [match["printed"] for match in PRINTS.finditer(block.text)]
    said = comments if told is None else told.splitlines()
    assert printed == said, f"{named(document)}:{block.line} prints something else"


def run_commands(document: Path, block: Block, told: str | None) -> None:
    """Run the `retarget` commands of a block; a `text` block behind them must be what the last one prints."""
    out = io.StringIO()
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        command = line.strip()
        if not command or command in NOT_RUN:
            continue
        program, *words = shlex.split(command)
        assert program == "retarget", f"{named(document)}:{block.line}: {command} neither runs nor is listed"
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = cli.main(words)
        assert code == 0, f"{named(document)}:{block.line}: {command}\n{errors.getvalue()}"
    if told is not None:
        assert [line.rstrip() for line in out.getvalue().splitlines()] == [line.rstrip() for line in told.splitlines()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_block_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code, policies and commands of a document work as printed, in order, and print what it says."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs"}
    found = blocks(document)
    for block, behind in itertools.zip_longest(found, found[1:]):
        close = behind and behind.line == block.line + block.text.count("\n") + 3  # two fences and a blank line
        told = behind.text if close and behind.language == "text" and behind.title is None else None
        if block.title is not None:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        match block.language:
            case "python":
                run_python(document, block, namespace, told)
            case "sh":
                run_commands(document, block, told)
            case "toml":
                Policy.from_text(block.text)
            case "json":
                json.loads(block.text)
            case "text" | "csv" | "lua":
                pass
            case directive if directive in DIRECTIVES:
                pass
            case other:
                pytest.fail(f"{named(document)}:{block.line}: blocks in {other!r} are not tested")


def test_the_installed_program_is_the_command_line() -> None:
    """`retarget`, as installed, runs what the docs' commands run."""
    program = Path(sys.executable).with_name("retarget")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(["--version"]) == 0
    assert done.stdout == out.getvalue()


def test_every_command_and_option_is_documented() -> None:
    """Each command has its section in command-line.md, and each of its options stands there."""
    page = (REFERENCE / "command-line.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for name, command in group.commands.items():
        section = page.partition(f"\n## retarget {name}\n")[2].partition("\n## ")[0]
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        assert section, f"retarget {name} is not in command-line.md"
        assert [option for option in options if f"`{option}" not in section] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document: Path) -> None:
    """Links within the project name files and headings that exist."""
    for match in LINK.finditer(FENCE.sub("", document.read_text(encoding="utf-8"))):
        target = (document.parent / match["path"]).resolve() if match["path"] else document
        assert target.exists(), f"{named(document)}: {match[0]}"
        if match["anchor"]:
            assert match["anchor"] in anchors(target), f"{named(document)}: {match[0]}"


def test_every_page_is_in_the_table_of_contents() -> None:
    """The toctrees that begin at docs/index.md name every page, each once."""
    found, waiting = [], [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        found.append(page)
        for block in blocks(page):
            if block.language == "{toctree}":
                entries = [line for line in block.text.splitlines() if line and not line.startswith(":")]
                waiting += [page.parent / f"{entry}.md" for entry in entries]
    assert sorted(found) == PAGES


def test_the_readme_leads_everywhere() -> None:
    """The README links to every page, apart from the index pages and those that include a file of the root."""
    readme = ROOT / "README.md"
    linked = {(ROOT / match["path"]).resolve() for match in LINK.finditer(readme.read_text(encoding="utf-8"))}
    pages = [page for page in PAGES if page.name != "index.md" and page.parent != DOCS]
    assert [named(page) for page in [*pages, *DOCUMENTS[1:4]] if page not in linked] == []


def test_ci_runs_the_commands_of_the_readme() -> None:
    """The README has the two commands, each on a line of its own, and CI takes them from there."""
    readme, ci = (ROOT / "README.md").read_text(encoding="utf-8"), (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [command for command in NOT_RUN if command.startswith("python3 -m venv .venv &&")]
    patterns = re.findall(r"\$\(grep '([^']+)' README\.md\)", ci)
    assert len(commands) == len(patterns) == 2
    assert sorted(commands) == sorted(found for each in patterns for found in re.findall(each, readme, re.MULTILINE))


def test_every_public_name_is_documented() -> None:
    """Each name of `retarget.__all__` is in the API reference, and its public members have docstrings."""
    text = "".join(page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md")))
    shown = re.findall(r"^\.\. auto(?:class|exception):: retarget\.(\w+)(?:\(.*\))?$", text, re.MULTILINE)
    assert sorted(shown) == sorted(retarget.__all__)
    for name in retarget.__all__:
        thing = getattr(retarget, name)
        assert thing.__doc__, f"{name} has no docstring"
        for member, value in vars(thing).items():
            if member.startswith("_") or not (callable(value) or isinstance(value, property | classmethod)):
                continue
            if name == "MemoryStore" and hasattr(Store, member):  # a store's verbs are described once, in the protocol
                value = getattr(Store, member)
            assert value.__doc__, f"{name}.{member} has no docstring"


def test_every_reason_is_documented() -> None:
    """The closed set of reasons and the table in verdicts.md are the same."""
    page = (REFERENCE / "verdicts.md").read_text(encoding="utf-8").partition("## The reasons")[2].partition("\n## ")[0]
    table = re.findall(r"^\| `([a-z ]+)` \|", page, re.MULTILINE)
    assert sorted(table) == sorted(typing.get_args(Reason))


def test_every_finding_is_documented() -> None:
    """The table in findings.md tells each finding's id, how grave it is and what it is, as the code does."""
    page = (REFERENCE / "findings.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.+) \|$", page, re.MULTILINE)
    assert table == [(id_, severity, text) for id_, (severity, text) in RULES.items()]


@pytest.mark.parametrize("model", [Policy, Annoyance, Segment, Campaign, Rules], ids=lambda model: str(model.__name__))
def test_every_key_of_a_policy_is_documented(model: type[Policy]) -> None:
    """Each key that a policy may have stands in the tables of policy.md."""
    page = (REFERENCE / "policy.md").read_text(encoding="utf-8")
    keys = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert model.model_fields.keys() - keys == set()


def test_the_published_schema_is_that_of_the_policy() -> None:
    """`policy.schema.json`, which editors check policy files by, is made from the models."""
    schema = json.dumps(Policy.model_json_schema(), indent=2, sort_keys=True)
    assert (REFERENCE / "policy.schema.json").read_text(encoding="utf-8") == schema + "\n"


def test_files_that_the_docs_name_exist() -> None:
    """Modules that a page names, and tests that it names as a proof, such as `tests/test_x.py::test_y`, are there."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for file in re.findall(r"\bretarget/[\w/]+\.(?:py|lua)", text):
            assert (PACKAGE.parent / file).exists(), f"{named(document)} names {file}"
        for file, test in re.findall(r"\btests/([\w/]*test_\w+\.py)(?:::(test_\w+))?", text):
            path = ROOT / "tests" / file
            assert path.exists(), f"{named(document)} names {file}"
            assert not test or f"def {test}(" in path.read_text(encoding="utf-8"), f"{named(document)} names {test}"


@pytest.mark.parametrize(
    "module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE.parent).as_posix()
)
def test_every_module_opens_with_what_it_is(module: Path) -> None:
    """A module says what it is, and those of the core which rules they keep."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert docstring
    assert module.stem in PROSE_ONLY or module.parent.name in ("cli", "demo", "replay") or "\nRules:\n" in docstring


@pytest.mark.parametrize("module", sorted((ROOT / "tests").rglob("test_*.py")), ids=named)
def test_every_test_says_what_it_shows(module: Path) -> None:
    """Each test function has a docstring."""
    tests = [
        node
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert [test.name for test in tests if not ast.get_docstring(test)] == []
