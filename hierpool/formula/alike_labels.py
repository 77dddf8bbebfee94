"""Labels that differ in case, blanks or invisible characters only: perhaps one label typed twice."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pandas as pd

from hierpool.core.findings import Finding
from hierpool.formula.table_column import TableColumn

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_WAYS: tuple[tuple[str, Callable[[str], str]], ...] = (  # from the least change to the greatest
    (".str.strip()", str.strip),
    (".str.casefold()", str.casefold),
    (".str.strip().str.casefold()", lambda label: label.strip().casefold()),
    (
        ".str.normalize('NFKC').str.split().str.join(' ').str.casefold()",
        lambda label: " ".join(unicodedata.normalize("NFKC", label).split()).casefold(),
    ),
)


def alike_labels(column: TableColumn) -> tuple[Finding, ...]:
    """A warning for a column of text or categories with such labels."""
    if column.kind not in ("text", "category"):
        return ()
    is_text = column.kind == "text"
    found = column.distinct[1] if is_text else column.cells.unique()
    labels = pd.Series(found).astype(object)
    labels = labels[labels.map(lambda label: isinstance(label, str))]
    bare = labels.map(_bare)
    twice = bare.duplicated(keep=False)  # of very many labels hardly any are: no loop over all
    alike = [list(same) for _, same in labels[twice].groupby(bare[twice])]
    return (_finding(column.name, alike, labels),) if alike else ()


def _bare(label: str) -> str:
    """The label without what the eye passes over."""
    if label.isascii():
        return " ".join(label.split()).casefold()
    text = unicodedata.normalize("NFKC", label).translate(_INVISIBLE)
    return " ".join(text.split()).casefold()


def _finding(name: str, alike: list[list[str]], labels: pd.Series[Any]) -> Finding:
    pairs = [" and ".join(map(repr, sorted(same))) for same in alike]
    more = f" and {len(pairs) - 6} more" if len(pairs) > 6 else ""
    wanted = len(labels) - sum(len(same) - 1 for same in alike)
    typed = f"data[{name!r}]"
    ways = [way for way, mend in _WAYS if labels.map(mend).nunique() == wanted]
    advice = f"write {typed} = {typed}{ways[0]}" if ways else "give them one spelling in the data"
    one = len(pairs) == 1
    return Finding(
        "labels-alike",
        "warning",
        f"{len(pairs)} {'label' if one else 'labels'} of {name!r} {'is' if one else 'are'} "
        "spelled in several ways that differ only in case, blanks or invisible characters: "
        f"{'; '.join(pairs[:6])}{more}. Each spelling counts as a separate label; if they mean "
        f"the same, {advice}",
    )
