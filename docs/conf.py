"""How the pages become a site: ``make docs``.

Sphinx reads from the root of the project, so that a link between pages, notebooks and the files
beside them is the same in the repository and on the site. Nothing is fetched, neither while the
site is built nor when it is read: formulas are MathML, and there are no fonts or scripts from
elsewhere.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Pages that run do so in kernels of their own, which are to import the code beside these pages.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
)

import hierpool

project = "hierpool"
author = "the authors of hierpool"
version = release = hierpool.__version__
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "notebooks/*.ipynb",
    "notebooks/README.md",
    "benchmarks/*.md",
    "hierpool/datasets/README.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "docs/_build", "**/jupyter_execute", "build", "dist", "tests"]
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
]
nitpicky = True
# Types of numpy, pandas and others stand in signatures; their own pages are not asked for.
nitpick_ignore_regex = [(r"py:.*", r"(?!hierpool\.).*"), (r"py:.*", r"hierpool\.(?!\w+$).*")]
keep_warnings = True
highlight_language = "none"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Committed notebooks are shown with the outputs they have; `make notebooks` runs them.
nb_execution_mode = "force"
nb_execution_excludepatterns = ["notebooks/*.ipynb"]
nb_execution_raise_on_error = True
nb_execution_timeout = 200
nb_execution_in_temp = True
nb_merge_streams = True
nb_output_stderr = "warn"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autosummary_generate = False
numpydoc_show_class_members = False
maximum_signature_line_length = 76

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"hierpool {release}"
html_static_path = ["_static"]
html_css_files = ["hierpool.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def mathml_inline(self: Any, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def mathml_block(self: Any, node: nodes.math_block) -> None:
    """Write a formula in a line of its own; it scrolls where it is wider than the page."""
    self.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def write_front_door(app: Any, problem: Exception | None) -> None:
    """Let the folder of the site open on its first page."""
    if problem is None and app.builder.name == "html":
        page = f"{root_doc}.html"
        text = f'<!doctype html><meta charset="utf-8"><title>{project}</title>'
        text += f'<meta http-equiv="refresh" content="0; url={page}"><a href="{page}">{project}</a>'
        (Path(app.outdir) / "index.html").write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Register what stands above."""
    app.add_html_math_renderer("mathml", (mathml_inline, None), (mathml_block, None))
    app.connect("build-finished", write_front_door)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
