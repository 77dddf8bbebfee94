"""Findings: what to think of data, a model or a fit, as plain data that prints."""

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
"""The worst first."""
NOTHING = "Nothing found."
WIDTH = 92  # of printed sentences


@dataclass(frozen=True, slots=True)
class Finding:
    """One plain sentence in the user's own names and numbers.

    Attributes
    ----------
    code
        Its name, e.g. ``"rows-dropped"``.
    severity
        ``"note"``: good to know; ``"warning"``: may change a conclusion; ``"problem"``: do not
        rely on the result before it is solved.
    text
        The sentence.
    meaning
        Which conclusion it touches, and what can be done; empty where the sentence says it all.
    about
        Name of the model that it is about; empty where it is about the data or all models.
    evidence
        A small table to judge it by; None where the sentence holds all there is.
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
    """Findings, the worst first; prints their sentences.

    Attributes
    ----------
    table
        Columns ``severity``, ``code``, ``about``, ``text``, ``meaning``; one row a finding.
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
        """Highest severity, None where there are none."""
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
