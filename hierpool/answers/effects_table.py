"""A table of effects that says above its rows how it was made."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from types import SimpleNamespace
from typing import Any, Self

import pandas as pd

from hierpool.core.findings import Finding, Findings
from hierpool.core.printable import one_line, printable


class EffectsTable(pd.DataFrame):
    """A table of means, slopes or contrasts; ``attrs`` says how it was made, and so does its head.

    Attributes of ``attrs``: ``head`` (the printed lines), ``df_method``, ``adjust``, ``weights``,
    ``groups``, ``scale``, ``findings``.
    """

    @property
    def _width(self) -> int:
        """Of the printed table, in characters."""
        return 110

    @property
    def _constructor(self) -> type[EffectsTable]:
        return type(self)

    @staticmethod
    def _number(value: float) -> str:
        """A number of a printed table, as in those of a fit."""
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"

    @classmethod
    def of(
        cls, table: pd.DataFrame, head: Iterable[str], findings: Iterable[Finding], **made: Any
    ) -> Self:
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
        lines = self._lines()
        if not lines:  # put together with others: an ordinary table
            return super().__repr__()
        with pd.option_context(
            "display.width",
            self._width,
            "display.max_columns",
            20,
            "display.float_format",
            self._number,
        ):
            return printable("\n".join([*lines, "", super().__repr__()]))

    def _repr_html_(self) -> str:
        lines = "<br>".join(map(escape, self._lines()))
        table = pd.DataFrame(self)
        if not lines:
            return printable(str(table._repr_html_()))  # type: ignore[operator]
        return printable(f"<p>{lines}</p>{table.to_html(float_format=self._number, max_rows=60)}")
