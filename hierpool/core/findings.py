"""Findings about data, a model or a fit, as plain data that prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from typing import Literal

import pandas as pd

from hierpool.core.printable import one_line, printable

Severity = Literal["note", "warning", "problem"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note")
"""The most serious first."""
NOTHING = "No problems found."
WIDTH = 92  # of printed sentences


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: a plain sentence about the user's data, with its meaning and evidence.

    Attributes
    ----------
    code
        Its name, e.g. ``"rows-dropped"``.
    severity
        ``"note"``: for information; ``"warning"``: may change a conclusion; ``"problem"``: do not
        use the result until it is solved.
    text
        The sentence.
    meaning
        Which conclusion it affects and what to do; empty if the sentence says it all.
    about
        Name of the model; empty if it is about the data or all models.
    evidence
        A small table to judge it by, or None.
    """

    code: str
    severity: Severity
    text: str
    meaning: str = ""
    about: str = ""
    evidence: pd.DataFrame | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        whole = f"{self.sentence} {self.meaning}" if self.meaning else self.sentence
        return one_line(whole)

    @property
    def sentence(self) -> str:
        """Severity, model and sentence, without the meaning."""
        where = f"{self.about}: " if self.about else ""
        return f"{self.severity}: {where}{self.text}"


class Findings(tuple[Finding, ...]):
    """Findings, the most serious first; prints their sentences.

    Attributes
    ----------
    table
        One row per finding, columns ``severity``, ``code``, ``about``, ``text``, ``meaning``.
    worst
        Highest severity, None where there are none.
    """

    __slots__ = ()

    def __new__(cls, findings: Iterable[Finding] = ()) -> Findings:
        """Sort by severity; of equal severity in the order given."""
        ordered = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
        return super().__new__(cls, ordered)

    @property
    def codes(self) -> list[str]:
        """Code of each finding."""
        return [finding.code for finding in self]

    def of(self, name: str) -> Findings:
        """Those with this code."""
        return Findings(finding for finding in self if finding.code == name)

    @property
    def worst(self) -> Severity | None:
        """Highest severity, None if there are no findings."""
        return self[0].severity if self else None

    @property
    def table(self) -> pd.DataFrame:
        """One row a finding."""
        columns = ["severity", "code", "about", "text", "meaning"]
        rows = [[getattr(finding, column) for column in columns] for finding in self]
        return pd.DataFrame(rows, columns=columns)

    def __repr__(self) -> str:
        return "\n".join(self.lines()) if self else NOTHING

    def lines(self, indent: str = "", brief: bool = False) -> list[str]:
        """Printed lines: each sentence, and under it what it means; ``brief``: not of notes."""
        out = []
        for finding in self:
            out += _wrapped(finding.sentence, indent, f"{indent}  ")
            if not (brief and finding.severity == "note"):
                out += _wrapped(finding.meaning, f"{indent}    ", f"{indent}    ")
        return [printable(line) for line in out]

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li><b>{f.severity}</b> {escape(f.about)}{': ' if f.about else ''}{escape(f.text)} "
            f"{escape(f.meaning)} <code>{escape(f.code)}</code></li>"
            for f in self
        )
        items = printable(items)
        return f"<ul>{items}</ul>" if items else f"<p>{NOTHING}</p>"


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others)
