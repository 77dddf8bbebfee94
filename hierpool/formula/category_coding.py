"""How ``C(...)`` codes its categories, as it is typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Label = str | int | float | bool
Contrast = Literal["", "Treatment", "SAS", "Sum", "Helmert", "Poly", "Diff"]

# Spelling of formulaic, patsy and R, in small letters and less "contr." -> name here.
CONTRASTS: dict[str, Contrast] = {
    "treatment": "Treatment",
    "sas": "SAS",
    "sum": "Sum",
    "helmert": "Helmert",
    "poly": "Poly",
    "diff": "Diff",
    "sdif": "Diff",
}


@dataclass(frozen=True, slots=True)
class CategoryCoding:
    """What stands after the column in ``C(x, Treatment('b'), levels=['b', 'a'])``.

    Attributes
    ----------
    contrast
        Name of the contrasts; empty where none was typed, which is ``Treatment``.
    reference
        Category that the others are compared with; None for the first.
    scores
        Where polynomials place the categories; empty for 0, 1, 2 and so on.
    levels
        The categories in their order; empty for that of the data.
    """

    contrast: Contrast = ""
    reference: Label | None = None
    scores: tuple[float, ...] = ()
    levels: tuple[Label, ...] = ()

    def text(self, column: str) -> str:
        """The whole call, for a column as it is typed."""
        inside = ""
        if self.reference is not None:
            inside = f"({typed(self.reference)})"
        elif self.scores:
            inside = f"(scores=[{', '.join(map(repr, self.scores))}])"
        parts = [column, *([self.contrast + inside] if self.contrast else [])]
        if self.levels:
            parts.append(f"levels=[{', '.join(map(typed, self.levels))}]")
        return f"C({', '.join(parts)})"


BY_DEFAULT = CategoryCoding()


def typed(label: Label) -> str:
    r"""A label as it is typed in a formula; text has one kind of quote in it at most.

    Examples
    --------
    >>> typed("it's"), typed(3)
    ('"it\'s"', '3')
    """
    if not isinstance(label, str):
        return repr(label)
    mark = '"' if "'" in label else "'"
    return f"{mark}{label}{mark}"
