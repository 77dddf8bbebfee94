"""Residual structures as typed: ``"ar1(time | pig)"`` and ``sigma="~ diet"``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from hierpool.core.correlation import WORDS
from hierpool.core.errors import (
    ArgumentError,
    FormulaError,
    HierpoolError,
    UnsupportedModelError,
    nearest,
)
from hierpool.core.spec import CorrelationTerm, ResidualTerm, Spec
from hierpool.formula.function_calls import quote

_NAME = r"(?:`[^`]+`|\w+)"
_FACTOR = rf"{_NAME}(?:\s*:\s*{_NAME})*"
_TERM = re.compile(
    rf"^\s*(?P<word>\w+)\s*\(\s*(?P<time>{_NAME})\s*\|\s*(?P<factor>{_FACTOR})\s*"
    rf"(?:,\s*by\s*=\s*(?P<by>{_NAME})\s*)?(?:,\s*nugget\s*=\s*(?P<nugget>True|False)\s*)?\)\s*$"
)
_INSIDE = re.compile(
    rf"\+\s*(?P<term>(?:{'|'.join(sorted(WORDS, key=len)[::-1])})\s*\([^()]*\|[^()]*\))"
)
_SPREAD = re.compile(
    rf"^\s*~\s*(?:1\s*\+\s*)?(?P<log>log\(\s*)?(?P<column>{_NAME})\s*(?P<end>\))?\s*$"
)


def read_correlation(text: Any) -> CorrelationTerm:
    """``"ar1(time | pig, by=sex, nugget=True)"``, read.

    Raises
    ------
    ArgumentError
        It is no text, or cannot be read.
    """
    match = _TERM.match(text) if isinstance(text, str) else None
    if match is None:
        raise _unreadable(text)
    word = match["word"]
    if word not in WORDS:
        raise ArgumentError(
            f"residual={text!r}: there is no structure {word!r}: {nearest(word, WORDS)}",
            "unknown-residual-structure",
        )
    plain = {key: (match[key] or "").strip("` ") for key in ("time", "by")}
    factor = re.sub(r"\s*:\s*", ":", match["factor"])
    factor = factor if ":" in factor else factor.strip("`")
    return CorrelationTerm(word, plain["time"], factor, plain["by"], match["nugget"] == "True")


def _unreadable(text: Any) -> HierpoolError:
    if isinstance(text, str) and re.match(r"^\s*\w+\(\s*[01]\s*\+", text):
        word = text.split("(")[0].strip()
        inner = text.split("+", 1)[1].rstrip(") ").strip()
        return UnsupportedModelError(
            f"{text} is glmmTMB's random effect beside an independent residual. Here {word}({inner}) is "
            f"the residual itself; for both write residual='{word}({inner}, nugget=True)'",
            "random-effect-term",
        )
    return ArgumentError(
        f"residual={text!r} cannot be read: write a structure, the column of times and the column of "
        f"groups, residual='ar1(time | pig)'. Structures are {', '.join(WORDS)}",
        "bad-residual",
    )


def split_formula(text: Any) -> tuple[Any, CorrelationTerm | None]:
    """A formula without its residual structure, and that."""
    found = list(_INSIDE.finditer(text)) if isinstance(text, str) else []
    if not found:
        return text, None
    if len(found) > 1:
        raise FormulaError(
            "a formula has one residual structure, and this is the second",
            "two-residuals",
            text,
            found[1].start("term"),
            hint="keep one of them",
        )
    match = found[0]
    return text[: match.start()].rstrip() + text[match.end() :], read_correlation(match["term"])


def read_spread(text: Any) -> str:
    """``"~ diet"`` or ``"~ log(time)"`` as ``"diet"`` and ``"log(time)"``."""
    match = _SPREAD.match(text) if isinstance(text, str) else None
    if match is None or bool(match["log"]) != bool(match["end"]):
        column = text.strip() if isinstance(text, str) and text.strip().isidentifier() else "diet"
        raise ArgumentError(
            f"sigma={text!r} cannot be read: write a ~ and one column, sigma='~ {column}', or the "
            "logarithm of one, sigma='~ log(time)'",
            "bad-sigma",
        )
    name = match["column"].strip("`")
    return f"log({name})" if match["log"] else name


def with_structure(spec: Spec, residual: Any, sigma: Any) -> Spec:
    """The spec with ``residual=`` and ``sigma=``; None leaves what it has.

    Raises
    ------
    ArgumentError
        They cannot be read, or the formula has a residual structure already.
    UnsupportedModelError
        They stand beside a family, known residual sds, or no pooling.
    """
    if residual is None and sigma is None:
        return spec
    term = spec.residual
    if residual is not None:
        if term.correlation is not None:
            raise ArgumentError(
                f"residual={residual!r}, and the formula has {term.correlation}: keep one of them",
                "residual-given-twice",
            )
        term = replace(term, correlation=read_correlation(residual))
    if sigma is not None:
        term = replace(term, spread=read_spread(sigma))
    return with_term(spec, term)


def correlation_text(own: CorrelationTerm) -> str:
    """A structure as it is typed, names quoted where they must be."""
    by = f", by={quote(own.by)}" if own.by else ""
    factor = own.factor if ":" in own.factor else quote(own.factor)
    return f"{own.word}({quote(own.time)} | {factor}{by}{', nugget=True' * own.nugget})"


def with_term(spec: Spec, term: ResidualTerm) -> Spec:
    """The spec with a residual structure, its correlation written at the end of the formula."""
    if term.structure in ("known_se", "family"):
        what = "known_se" if term.structure == "known_se" else "family"
        raise UnsupportedModelError(
            f"{term.words} is for Gaussian responses whose residual sd is estimated: leave it or "
            f"{what}= out",
            "residual-and-known-se",
        )
    if len({t.factor for t in spec.groups}) > 1:
        raise UnsupportedModelError(
            f"{term.words} beside several grouping factors is not supported yet: keep the terms of one "
            "factor",
            "residual-several-factors",
        )
    formula, own = spec.formula, term.correlation
    if own is not None and correlation_text(own) not in formula:
        formula = f"{formula} + {correlation_text(own)}"
    return replace(spec, formula=formula, residual=term)
