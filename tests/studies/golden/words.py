"""The brief report of a study as text, and two such texts compared: words exactly, numbers nearly."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterator

from matplotlib.figure import Figure

import hierpool as hp
from hierpool.report.parts import Listing, Page, Picture, PointsToCheck, Prose, Section, SmallTable
from hierpool.studies.figures import StudyFigures
from hierpool.studies.report import page_of

WIDTH = 100
NUMBER = re.compile(r"(?<![\w.])[-−]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?(?![\w])")


def report_as_text(study: hp.Study) -> str:
    """Title, answer, terms, points to check, model, prediction, results, and why this model.

    Without pictures, which are not drawn, and without what versions and machines change.
    """
    figures = StudyFigures(dict.fromkeys(study.figures(), Figure))
    page = page_of(study, study.tables(), figures, "brief", lambda: study.advice)
    return "\n".join(_lines(page)).replace("\u00a0", " ") + "\n"


def _lines(page: Page) -> Iterator[str]:
    yield from (page.title, page.subtitle)
    for section in page.sections:
        yield from ("", f"== {section.title}")
        for part in section.parts:
            yield from _part(section, part)


def _part(section: Section, part: object) -> Iterator[str]:
    if isinstance(part, Prose):
        for paragraph in part.paragraphs:
            if not paragraph.startswith("Seed "):
                yield from textwrap.wrap(str(paragraph), WIDTH)
    elif isinstance(part, PointsToCheck):
        for finding in part.findings:
            yield from textwrap.wrap(f"- {finding}", WIDTH, subsequent_indent="  ")
        if not part.findings:
            yield part.nothing
    elif isinstance(part, SmallTable):
        yield from _table(part)
    elif isinstance(part, Picture):
        yield f"[{part.title}]"
    elif isinstance(part, Listing) and part.title == "Results":
        yield from textwrap.wrap(part.text, WIDTH)
        yield from textwrap.wrap(part.note, WIDTH)


def _table(table: SmallTable) -> Iterator[str]:
    yield f"# {table.title}"
    rows = [list(table.columns), *map(list, table.rows)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
    yield from textwrap.wrap(table.note, WIDTH)


def differences(made: str, kept: str) -> list[str]:
    """What differs, as the lines of a diff; nothing where the texts say the same.

    Words and whole numbers, which are mostly counts and names, have to be the same. Another number
    may be off by one in its last digit: a seed gives the same draws on every machine up to the rounding
    of sums, a relative 1e-12 or so, which shows only where a number stands that near to a tie of its
    rounding, as 0.7125 does. More than that is another result. Blanks are not compared, as digits
    move columns and the ends of lines.
    """
    if _template(made) == _template(kept) and all(map(_is_near, _numbers(made), _numbers(kept))):
        return []
    lines = difflib.unified_diff(kept.splitlines(), made.splitlines(), "kept", "made", lineterm="")
    return list(lines)


def _template(text: str) -> str:
    return " ".join(NUMBER.sub("#", text).split())


def _numbers(text: str) -> list[str]:
    return [match[0].replace("−", "-").replace(",", "") for match in NUMBER.finditer(text)]


def _is_near(one: str, other: str) -> bool:
    return abs(float(one) - float(other)) <= 1.01 * max(_last_digit(one), _last_digit(other))


def _last_digit(text: str) -> float:
    """The worth of one in the last digit; zero of a whole number."""
    mantissa, _, exponent = text.partition("e")
    decimals = mantissa.partition(".")[2]
    return float(10.0 ** (int(exponent or 0) - len(decimals))) if "." in text or exponent else 0.0
