"""Sphinx's settings for the site that ``make docs`` builds from the project's pages, reports and docstrings.

The project's folder is the source, so that links between README, pages and reports are the same here and on GitHub.
"""

from pathlib import Path

from docutils import nodes
from myst_parser.mdit_to_docutils.transforms import ResolveAnchorIds
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, new_document

_PROJECT = Path(__file__).resolve().parents[1]

project = "debiaspl"
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "dev/LOG.md", "docs/**", "bench/reports/*.md"]
exclude_patterns = [".*", "build", "dataset", "runs", "tests"]  # folders that need not be searched
extensions = ["myst_parser", "autoapi.extension"]
html_theme = "furo"  # brings its own style sheets and scripts, and uses the reader's fonts
html_title = "debiaspl"
myst_heading_anchors = 3  # pages link to headings by the anchors that GitHub gives them
myst_disable_syntax = ["html_inline", "html_block"]  # <class> in a docstring is a word, not a tag

# The sources are parsed, not imported: the reference needs neither torch nor DALI, and compiles nothing.
autoapi_dirs = [str(_PROJECT / package) for package in ("debiaspl", "pipelines")]
autoapi_root = "docs/api"
autoapi_options = ["members", "undoc-members", "show-module-summary"]
autoapi_keep_files = False

# Classes of other packages are not resolved, because the build is offline; our own must be.
nitpick_ignore_regex = [
    ("py:class", r"(?!debiaspl\.|pipelines\.)\w+\..*"),
    ("py:class", r".*jaxtyping\..*"),  # a whole annotation with its shape, such as Float[Tensor, "n c"]
    ("py:class", r"_?[A-Za-z]{1,5}"),  # type variables, and the axes of such a shape
]
suppress_warnings = [
    "autoapi.python_import_resolution",  # names that a module re-exports from a package outside
    "ref.python",  # a field called bytes or index exists in several classes; an annotation means the builtin
]


class Docstring(SphinxDirective):
    """A docstring, read as Markdown, as these pages are."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Returns the nodes that MyST makes of the directive's content."""
        document = new_document(self.get_source_info()[0], self.state.document.settings)
        MystParser().parse("\n".join(self.content), document)
        ResolveAnchorIds(document).apply()  # only whole pages get their transforms by themselves
        return document.children


def _as_markdown(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = ["", ".. docstring::", "", *(f"   {line}" for line in lines), ""]


def setup(app: Sphinx) -> None:
    """Registers the directive and lets every docstring pass through it."""
    app.add_directive("docstring", Docstring)
    app.connect("autodoc-process-docstring", _as_markdown)
