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
_SPREAD = re.compile(rf"^(?P<log>log\(\s*)?(?P<column>{_NAME})\s*(?P<end>\))?$")
_AT_PLUS = re.compile(r"\+(?![^()]*\))")  # outside of parentheses
_BAR = re.compile(rf"^\(\s*(?P<left>.*?)\s*\|{{1,2}}\s*(?P<factor>{_FACTOR})\s*\)$")

_ELSEWHERE = {  # words of SAS, nlme, brms and glmmTMB
    **dict.fromkeys(("un", "unr", "unstr"), "us"),
    **dict.fromkeys(("ar", "corar1"), "ar1"),
    **dict.fromkeys(("arh", "hetar1"), "ar1h"),
    **dict.fromkeys(("ou", "exp", "corcar1", "corexp"), "car1"),
    **dict.fromkeys(("arma", "corarma"), "arma11"),
    **dict.fromkeys(("cosy", "homcs", "corcompsymm"), "cs"),
    "ante": "ad1h",
    "corsymm": "symm",
}


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
        other = _ELSEWHERE.get(word.lower())
        hint = f"here it is {other!r}" if other else nearest(word, WORDS)
        raise ArgumentError(
            f"residual={text!r}: there is no structure {word!r}: {hint}",
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
    if text == "independent":
        return ArgumentError(
            "residual='independent' is what a model has without it: leave residual= out",
            "bad-residual",
        )
    word = text if text in WORDS else "ar1"
    return ArgumentError(
        f"residual={text!r} cannot be read: write a structure, the column of times and the column of "
        f"groups, residual='{word}(time | pig)'. Structures are {', '.join(WORDS)}",
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


def read_spread(text: Any) -> tuple[str, str]:
    """``"~ log(time) + (1 | pig)"`` as ``"log(time)"`` and ``"pig"``; empty where there is no such part.

    Raises
    ------
    ArgumentError
        It cannot be read.
    UnsupportedModelError
        A random slope, or a second random term.
    """
    is_read = isinstance(text, str) and text.strip().startswith("~")
    pieces = [p.strip() for p in _AT_PLUS.split(text.strip()[1:])] if is_read else []
    bars = [p for p in pieces if "|" in p]
    fixed = [p for p in pieces if "|" not in p and p != "1"]
    column = _SPREAD.match(fixed[0]) if len(fixed) == 1 else None
    is_column = column is not None and bool(column["log"]) == bool(column["end"])
    if not (bars or fixed) or (fixed and not is_column):
        name = text.strip() if isinstance(text, str) and text.strip().isidentifier() else "diet"
        raise ArgumentError(
            f"sigma={text!r} cannot be read: write a ~ and one column, sigma='~ {name}', or the "
            "logarithm of one, sigma='~ log(time)'; + (1 | pig) after it gives each of the groups in "
            "the column pig a residual sd of its own",
            "bad-sigma",
        )
    spread = ""
    if column is not None:
        name = column["column"].strip("`")
        spread = f"log({name})" if column["log"] else name
    return spread, _read_scale(text, bars, fixed) if bars else ""


def _read_scale(text: str, bars: list[str], fixed: list[str]) -> str:
    """The factor of ``(1 | pig)``."""
    match = _BAR.match(bars[0])
    if match is None:
        raise ArgumentError(
            f"sigma={text!r} cannot be read at {bars[0]!r}: write (1 | pig), with your own column of "
            "groups",
            "bad-sigma",
        )
    factor = re.sub(r"\s*:\s*", ":", match["factor"])
    if len(bars) > 1 or match["left"] != "1":
        kept = " + ".join([*fixed, f"(1 | {factor})"])
        raise UnsupportedModelError(
            f"sigma={text!r}: residual sds may differ between the groups of one factor by a random "
            f"intercept, and slopes or a second factor are not offered. Write sigma='~ {kept}'",
            "sigma-random-terms",
        )
    return factor if ":" in factor else factor.strip("`")


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
        spread, scale = read_spread(sigma)
        term = replace(term, spread=spread, scale=scale)
    return with_term(spec, term)


def correlation_text(own: CorrelationTerm) -> str:
    """A structure as it is typed, names quoted where they must be."""
    by = f", by={quote(own.by)}" if own.by else ""
    return f"{own.word}({over_text(own)}{by}{', nugget=True' * own.nugget})"


def over_text(own: CorrelationTerm) -> str:
    """Times and groups of a structure as they are typed: ``"time | pig"``."""
    factor = own.factor if ":" in own.factor else quote(own.factor)
    return f"{quote(own.time)} | {factor}"


def with_term(spec: Spec, term: ResidualTerm) -> Spec:
    """The spec with a residual structure, its correlation written at the end of the formula."""
    if term.structure in ("known_se", "family"):
        what = "known_se" if term.structure == "known_se" else "family"
        raise UnsupportedModelError(
            f"{term.words} is for Gaussian responses whose residual sd is estimated: leave it or "
            f"{what}= out",
            "residual-and-known-se",
        )
    if term.scale:
        _check_scale(term)
    formula, own = spec.formula, term.correlation
    _check_without_response(spec, term)
    if own is not None and correlation_text(own) not in formula:
        formula = f"{formula} + {correlation_text(own)}"
    return replace(spec, formula=formula, residual=term)


def _check_without_response(spec: Spec, term: ResidualTerm) -> None:
    """Raise where the response places its own residuals, or says how far they spread."""
    own, response = term.correlation, spec.response.strip("`")
    spread = term.spread.removeprefix("log(").removesuffix(")")
    uses = {f"sigma='~ {term.spread}'": [spread], f"sigma='~ (1 | {term.scale})'": [term.scale]}
    if own is not None:
        uses[str(own)] = [own.time, *own.factor.split(":"), own.by]
    for text, columns in uses.items():
        if response in columns:
            raise ArgumentError(
                f"the response {response!r} is also in {text}: name another column there",
                "response-as-predictor",
            )


def _check_scale(term: ResidualTerm) -> None:
    """Raise where groups cannot have residual sds of their own."""
    if term.correlation is not None:
        raise UnsupportedModelError(
            f"{term.correlation} beside sigma='~ (1 | {term.scale})' is not supported: keep one of the "
            "two",
            "scale-and-correlation",
        )
