"""The table as a page of Markdown."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import date

from .numbers import Published
from .table import Compared, by_key, counts, out_of_scope

HEAD = """\
# Published numbers beside ours

Made by `python benchmarks/canon.py --out benchmarks/CANON.md` on {day}; {versions}.

**{within} of {size} numbers in scope ({share:.1%}) are within their tolerance.** The others are
explained one by one in [Not met](#not-met); what is not in scope is listed in
[Out of scope](#out-of-scope).

## How to read it

- *published* is what the source prints. *tolerance* came with the collected number: half a digit or
  a little more where the source has an optimum or a closed form, wider where it has draws. It is
  never changed to make a number fit.
- *ours* is computed by the code of `published/`, with the model and, where the number
  depends on them, the priors of the source; [Notes](#notes) says more of some. Posteriors are from
  40,000 draws of the exact engine or more. *missing* counts as not met.
- *source*: see [Sources](#sources).
"""
COLUMNS = ("case", "model", "method", "quantity", "published", "ours", "difference", "tolerance")


def page(rows: Sequence[Compared], numbers: Sequence[Published], found: Mapping[str, str]) -> str:
    """The whole page.

    Parameters
    ----------
    rows
        Numbers in scope.
    numbers
        All of them.
    found
        Package -> version.
    """
    sources = list(dict.fromkeys(row.number.source for row in rows))
    within = sum(row.is_within for row in rows)
    used = ", ".join(
        [f"Python {platform.python_version()}", *(f"{k} {v}" for k, v in found.items())]
    )
    parts = [
        HEAD.format(
            day=date.today(), versions=used, within=within, size=len(rows), share=within / len(rows)
        ),
        "## The table\n\n" + _table(rows, sources),
        "## Not met\n\n" + _not_met(rows),
        "## Notes\n\n" + _notes(rows),
        "## Counts\n\n" + _counts(rows),
        "## Out of scope\n\n" + _out_of_scope(numbers),
        "## Sources\n\n" + "\n".join(f"{k}. {text}" for k, text in enumerate(sources, 1)) + "\n",
    ]
    return "\n".join(parts)


def _table(rows: Sequence[Compared], sources: Sequence[str]) -> str:
    lines = [_line([*COLUMNS, "within", "source"]), _line(["---"] * (len(COLUMNS) + 2))]
    for row in rows:
        n = row.number
        numeric = [_digits(n.value), _digits(row.ours), f"{row.difference:.2g}", f"{n.tolerance:g}"]
        within = row.verdict if row.is_within else f"**{row.verdict}**"
        source = f"{sources.index(n.source) + 1}"
        lines.append(_line([n.case, n.model, n.method, n.quantity, *numeric, within, source]))
    return "\n".join(lines) + "\n"


def _not_met(rows: Sequence[Compared]) -> str:
    lines = [
        f"- **{row.number.case}, {row.number.method}, {row.number.quantity}**: published "
        f"{_digits(row.number.value)} ± {_digits(row.number.tolerance)}, ours {_digits(row.ours)}. "
        f"{row.why or 'Not explained.'}"
        for row in rows
        if not row.is_within
    ]
    return "\n".join(lines or ["None."]) + "\n"


def _notes(rows: Sequence[Compared]) -> str:
    known = by_key()
    met = dict.fromkeys(row.number.analysis for row in rows if row.number.analysis in known)
    lines = [
        f"- **{case}**, {model}, {method}: {known[case, model, method].note}"
        for case, model, method in met
        if known[case, model, method].note
    ]
    return "\n".join(lines or ["None."]) + "\n"


def _counts(rows: Sequence[Compared]) -> str:
    table = counts(rows)
    lines = [_line(["case", *table.columns]), _line(["---", "--:", "--:", "--:"])]
    for case, row in table.iterrows():
        whole = [f"{row['in scope']:.0f}", f"{row['within']:.0f}"]
        lines.append(_line([str(case), *whole, f"{row['share']:.1%}"]))
    return "\n".join(lines) + "\n"


def _out_of_scope(numbers: Sequence[Published]) -> str:
    table = out_of_scope(numbers)
    lines = [_line(["case", "numbers", "why"]), _line(["---", "--:", "---"])]
    for (case, why), count in table["numbers"].items():
        lines.append(_line([case, f"{count}", why]))
    lines.append(_line(["all", f"{table['numbers'].sum()}", ""]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _digits(value: float) -> str:
    return f"{value:.7g}"
