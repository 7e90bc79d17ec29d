"""The docs site: Markdown pages through MyST, the API reference from the docstrings, the theme furo.

Build it with `sphinx-build -W -n --keep-going -b html docs build/docs`.

Rules:
- A page reads well on a forge too: plain Markdown, relative links, fences with a language.
- Every link and every reference to a name of `retarget` resolves, or the build fails.
- The build needs no network: no intersphinx, no fonts or scripts from elsewhere.
"""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "retarget"
author = "the retarget authors"
version = release = version_of("retarget")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["policies"]  # policy files, linked from pages
nitpicky = True
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"retarget {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

default_role = "code"  # docstrings write `name`, as Markdown does
add_module_names = False
autodoc_member_order = "bysource"
autodoc_default_options = {"undoc-members": True}
autodoc_preserve_defaults = True
autodoc_use_type_comments = False
python_maximum_signature_line_length = 80
nitpick_ignore_regex = [  # names of other libraries: shown, not linked
    (r"py:.*", r"(redis|datetime|zoneinfo|pathlib|os|collections|typing|pydantic|duckdb|duckdb|_duckdb)\..*"),
    (r"py:.*", r"(bool|bytes|dict|float|int|list|object|str|tuple|None|Any|Literal|Self|optional)"),
]
nitpick_ignore = [
    ("py:class", "DuckDBPyConnection"),  # imported for type checkers only, so without its module
    ("py:class", "Progress"),  # the alias of a callable, written out in its docstring
    ("py:class", "retarget.timelines.writes.Write"),  # what a store is handed: see the data format
]

TITLED = re.compile(r'^```(\w+) title="([^"]+)"$', re.MULTILINE)
OF_THE_ROOT = re.compile(r"\]\((CHANGELOG|CONTRIBUTING|SECURITY)\.md")


def _captions(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Show the file name in a fence's `title="policy.toml"` as the block's caption."""
    source[0] = TITLED.sub(r"```{code-block} \1\n:caption: \2\n", source[0])


def _included(app: Sphinx, path: Path, _page: str, source: list[str]) -> None:
    """Links in the files at the root of the repository lead to the pages that include them."""
    text = OF_THE_ROOT.sub(lambda match: f"]({match[1].lower()}.md", source[0]).replace("](docs/", "](")
    source[0] = text.replace("](LICENSE)", "](../LICENSE)")
    _captions(app, str(path), source)


def _plain(_app: Sphinx, _what: str, _name: str, _member: object, _options: object, lines: list[str]) -> None:
    """A named tuple's field without a docstring says nothing, rather than `Alias for field number 0`."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()


def setup(app: Sphinx) -> None:
    """Register the hooks above, and show CSV as plain text."""
    app.add_lexer("csv", TextLexer)
    app.connect("source-read", _captions)
    app.connect("include-read", _included)
    app.connect("autodoc-process-docstring", _plain)
