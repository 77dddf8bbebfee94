"""A page to one string of HTML that needs nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import itertools
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hierpool.core.findings import Finding
from hierpool.core.printable import printable
from hierpool.report.cells import read_cells
from hierpool.report.drawing import draw
from hierpool.report.parts import DataTable, Page


def render(page: Page) -> str:
    """The page as HTML: style, script and pictures inside it, every name shown and none run.

    Characters that would act, hide or turn the order of others are shown as escapes.

    Its content security policy lets only our script run and nothing be fetched, so that even a
    mistake in the escaping could do neither.
    """
    here = files("hierpool.report")
    style, script = (
        (here / name).read_text(encoding="utf-8").strip() for name in ("style.css", "script.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    pictures = itertools.count()
    templates = Environment(
        loader=PackageLoader("hierpool.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals.update(
        breakable=_breakable,
        cells_of=lambda part: read_cells(part.frame, part.digits),
        draw=lambda figure, title: draw(figure, f"p{next(pictures)}", title),
        evidence_of=_evidence,
    )
    templates.filters["explained"] = lambda name, table: table.meaning(name)
    made = templates.get_template("page.html").render(
        page=page, policy=policy, style=Markup(style), script=Markup(script)
    )
    return printable(made)


def _evidence(finding: Finding, place: int) -> DataTable:
    assert finding.evidence is not None
    table = finding.evidence
    unsaid = {str(name): "" for name in (*table.index.names, *table.columns)}
    return DataTable(f"evidence_{place}_{finding.code}", "Evidence", table, meanings=unsaid)


def _breakable(name: str) -> Markup:
    """A name that may go on in the next line after an underscore."""
    return Markup("_<wbr>").join(escape(piece) for piece in name.split("_"))
