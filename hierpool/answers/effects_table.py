"""A table of effects that says above its rows how it was made."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from types import SimpleNamespace
from typing import Any

import pandas as pd

from hierpool.core.findings import Finding, Findings
from hierpool.core.printable import one_line, printable
from hierpool.core.text import number


class EffectsTable(pd.DataFrame):
    """A table of means, slopes or contrasts; ``attrs`` says how it was made, and so does its head.

    Attributes of ``attrs``: ``head`` (the printed lines), ``df_method``, ``adjust``, ``weights``,
    ``groups``, ``scale``, ``findings``.
    """

    @property
    def _constructor(self) -> type[EffectsTable]:
        return EffectsTable

    @classmethod
    def of(
        cls, table: pd.DataFrame, head: Iterable[str], findings: Iterable[Finding], **made: Any
    ) -> EffectsTable:
        """A table with its head."""
        found = [
            {"code": f.code, "severity": f.severity, "text": f.text, "meaning": f.meaning}
            for f in findings
        ]
        out = cls(table)
        out.attrs.update(head=[line for line in head if line], **made, findings=found)
        return out

    @property
    def findings(self) -> Findings:
        """What its reader must know of rows that have no answer."""
        kept = [SimpleNamespace(**given) for given in self.attrs.get("findings", ())]
        return Findings(Finding(f.code, f.severity, f.text, f.meaning) for f in kept)

    def _lines(self) -> list[str]:
        lines = [one_line(line) for line in self.attrs.get("head", ())]
        return [*lines, *self.findings.lines()]

    def __repr__(self) -> str:
        with pd.option_context(
            "display.width", 110, "display.max_columns", 20, "display.float_format", number
        ):
            table = super().__repr__()
        return printable("\n".join([*self._lines(), "", table]).lstrip("\n"))

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(escape, self._lines()))
        return printable(f"<p>{lines}</p>{self.to_html(float_format=number, max_rows=60)}")
