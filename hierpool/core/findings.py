"""Finding: what to think of data, a model or a fit, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["note", "warning", "problem"]


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
    """

    code: str
    severity: Severity
    text: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}"


def worst(findings: Iterable[Finding]) -> Severity | None:
    """Highest severity among the findings, None where there are none."""
    order: tuple[Severity, ...] = ("problem", "warning", "note")
    present = {f.severity for f in findings}
    return next((s for s in order if s in present), None)
