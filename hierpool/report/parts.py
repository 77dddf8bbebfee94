"""What a report is made of: sections of sentences, tables, pictures and texts to copy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from hierpool.core.findings import Finding
from hierpool.report.columns import meaning


@dataclass(frozen=True)
class Prose:
    """Paragraphs.

    Attributes
    ----------
    paragraphs
        Plain text, each its own; or marked-up text that is known to be safe.
    is_answer
        Whether it is set large, as what the reader came for.
    """

    template: ClassVar[str] = "prose"
    paragraphs: Sequence[str | Markup]
    is_answer: bool = False


@dataclass(frozen=True)
class DataTable:
    """A table that can be sorted, and downloaded at full precision.

    Attributes
    ----------
    name
        Of the file that it is downloaded as, without its suffix; one a page.
    title
        Its caption.
    frame
        The numbers; index levels that have a name become the first columns.
    note
        A sentence under the caption.
    digits
        Column -> decimals to show; other numbers show four digits that matter.
    shown
        Rows that are shown before the reader asks for all.
    meanings
        Column -> what it means here, where that is not what it means elsewhere.
    """

    template: ClassVar[str] = "table"
    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""
    digits: Mapping[str, int] = field(default_factory=dict)
    shown: int = 12
    meanings: Mapping[str, str] = field(default_factory=dict)

    def meaning(self, name: str) -> str:
        """What a column means; empty where its name has to do."""
        return self.meanings.get(name, meaning(name))


@dataclass(frozen=True)
class SmallTable:
    """A table of a few rows, written out as it is to be read.

    Attributes
    ----------
    title
        Its caption.
    columns
        Headings, in words.
    rows
        Texts of the cells; the first of each row names it.
    note
        What to know to read it, below it.
    """

    template: ClassVar[str] = "small_table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    @property
    def is_number(self) -> list[bool]:
        """Whether the cells of each column begin with numbers, and stand on the right."""
        each = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return [k > 0 and all(map(_NUMBER.match, cells)) for k, cells in enumerate(each)]


_NUMBER = re.compile(r"[−–\d<]|$")


@dataclass(frozen=True)
class Picture:
    """A figure, with what it shows in words.

    Attributes
    ----------
    name
        Unlike that of any other picture of the page.
    title
        What it shows, also for those who cannot see it.
    figure
        The figure itself; drawn as SVG.
    note
        A sentence on how to read it.
    """

    template: ClassVar[str] = "picture"
    name: str
    title: str
    figure: Figure
    note: str = ""


@dataclass(frozen=True)
class Listing:
    """A text to copy: code, or a paragraph for a paper.

    Attributes
    ----------
    title
        What it is.
    text
        The text, line breaks kept.
    note
        What to know before using it.
    is_code
        Set in a fixed-width font where it is.
    is_fine
        Whether it is set small, such as references.
    """

    template: ClassVar[str] = "listing"
    title: str
    text: str
    note: str = ""
    is_code: bool = True
    is_fine: bool = False


@dataclass(frozen=True)
class PointsToCheck:
    """Findings with their severity and their meaning, and with their evidence unless brief.

    Attributes
    ----------
    findings
        The worst first.
    nothing
        What is said where there are none.
    is_brief
        Whether codes and evidence are left out.
    """

    template: ClassVar[str] = "points_to_check"
    findings: Sequence[Finding]
    nothing: str
    is_brief: bool = False


@dataclass(frozen=True)
class ModelCard:
    """One model: what it assumes, in words and symbols, and how other programs write it.

    Attributes
    ----------
    name
        Of the model in the study.
    words
        One sentence on what it assumes.
    equations
        Lines of mathematics, marked up.
    listings
        The same for other programs.
    is_chosen
        Whether the report goes on with this one.
    """

    template: ClassVar[str] = "model"
    name: str
    words: str
    equations: Sequence[Markup]
    listings: Sequence[Listing]
    is_chosen: bool = False


Part = Prose | DataTable | SmallTable | Picture | Listing | PointsToCheck | ModelCard


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes
    ----------
    key
        Its anchor.
    title
        Its heading.
    parts
        In the order of reading.
    """

    key: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes
    ----------
    title
        Of the window and the page.
    subtitle
        One line on data and size.
    sections
        In the order of reading, the answer first.
    foot
        One line on how the page was made.
    kind
        What the page is, in the line above its title.
    is_brief
        Whether it is set closely, to fit on few sheets of paper.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    foot: str
    kind: str = "Comparison of complete, partial and no pooling"
    is_brief: bool = False
