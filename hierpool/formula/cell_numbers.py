"""Whether a cell of a file is a number, however its decimals and thousands are written."""

from __future__ import annotations

import re
from numbers import Real

# What pandas takes for missing in a text file; numbers may be missing in a few more spellings.
MISSING = frozenset(
    {
        *("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "#N/A N/A", "NaN", "nan", "-NaN", "-nan"),
        *("NULL", "null", "None", "1.#IND", "1.#QNAN", "-1.#IND", "-1.#QNAN"),
    }
)
MISSING_AMONG_NUMBERS = frozenset(
    {
        *("-", "--", "–", "—", ".", "..", "?", "na", "Na", "n.a.", "N.A.", "k.A.", "k. A."),
        *("missing", "Missing", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"),
    }
)
PLAIN = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
WHOLE = re.compile(r"[-+]?[0-9]+")
POINT = re.compile(
    r"[-+]?(?:[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)?(?:(?<=[0-9])|(?=\.[0-9]))(?:\.[0-9]*)?"
    r"(?:[eE][-+]?[0-9]+)?"
)
"""With a decimal point, and commas between thousands if any."""
COMMA = re.compile(
    r"[-+]?(?:[0-9]+|[1-9][0-9]{0,2}(?:\.[0-9]{3})+)?(?:(?<=[0-9])|(?=,[0-9]))(?:,[0-9]*)?"
    r"(?:[eE][-+]?[0-9]+)?"
)
"""With a decimal comma, and points between thousands if any."""
_INFINITE = re.compile(r"[-+]?inf(?:inity)?", re.IGNORECASE)


def tidy(cell: str) -> str:
    """A number as typed, without blanks around it and with a hyphen for a minus sign."""
    return cell.strip().replace("−", "-")


def is_number(cell: object) -> bool:
    """Whether a cell reads as a number, with a point or a comma, or with a percent sign."""
    if not isinstance(cell, str):
        return isinstance(cell, Real) and not isinstance(cell, bool)
    text = tidy(cell).removesuffix("%").rstrip()
    return any(p.fullmatch(text) for p in (POINT, COMMA, _INFINITE))
