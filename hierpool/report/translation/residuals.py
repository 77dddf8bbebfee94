"""Residual structures in the syntax of nlme, brms and SAS PROC MIXED."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hierpool.core.correlation import BY_OCCASION
from hierpool.core.spec import CorrelationTerm, GroupTerm, ResidualTerm

_IN_SAS = {
    "ar1": "ar(1)",
    "ar1h": "arh(1)",
    "cs": "cs",
    "csh": "csh",
    "us": "un",
    "toep": "toep",
    "toeph": "toeph",
    "ad1h": "ante(1)",
    "arma11": "arma(1,1)",
}
_IN_NLME = {
    "ar1": "corAR1(form = ~ {time} | {group})",
    "car1": "corCAR1(form = ~ {time} | {group})",
    "cs": "corCompSymm(form = ~ 1 | {group})",
    "us": "corSymm(form = ~ {time} | {group})",
    "symm": "corSymm(form = ~ {time} | {group})",
    "arma11": "corARMA(form = ~ {time} | {group}, p = 1, q = 1)",
}
_IN_BRMS = {
    "ar1": "ar(time = {time}, gr = {group}, p = 1, cov = TRUE)",
    "arma11": "arma(time = {time}, gr = {group}, p = 1, q = 1, cov = TRUE)",
    "cs": "cosy(time = {time}, gr = {group})",
    "us": "unstr(time = {time}, gr = {group})",
    "symm": "unstr(time = {time}, gr = {group})",
}


def r_name(column: str) -> str:
    """A column as R takes it."""
    return column if re.fullmatch(r"[A-Za-z.][\w.]*", column) else f"`{column}`"


def _r_group(factor: str) -> str:
    parts = [part.strip("`") for part in factor.split(":")]
    return r_name(parts[0]) if len(parts) == 1 else r_name("_".join(parts))


def _made_factor(factor: str) -> list[str]:
    parts = [part.strip("`") for part in factor.split(":")]
    if len(parts) == 1:
        return []
    columns = ", ".join(f"data${r_name(part)}" for part in parts)
    return [f"Make the factor first: data${_r_group(factor)} <- interaction({columns})."]


def in_nlme(
    term: ResidualTerm, groups: Sequence[tuple[GroupTerm, str]], *, is_class: bool
) -> tuple[list[str], list[str]]:
    """Arguments of ``gls`` or ``lme``, and notes; ``groups`` are the bars, with R's columns.

    lme4 has no residual structures. ``is_class``: whether the sd is that of each category.
    """
    said, notes = [], []
    if groups:
        outer = groups[0][0].factor
        said.append(f"random = {_random(groups)}")
        notes += _made_factor(outer)
    own = term.correlation
    if own is not None:
        group, plain = _r_group(own.factor), BY_OCCASION.get(own.word, own.word)
        if groups and groups[0][0].factor != own.factor:
            group = f"{_r_group(groups[0][0].factor)}/{group}"
        notes += _made_factor(own.factor)
        if plain in _IN_NLME and not (own.by or own.nugget):
            said.append(
                "correlation = " + _IN_NLME[plain].format(time=r_name(own.time), group=group)
            )
        else:
            notes.append(f"nlme has no equivalent of {own}: this code leaves it out.")
        if plain in ("ar1", "us", "symm", "arma11"):
            notes.append(
                f"nlme takes {own.time} as whole numbers, 1 apart for neighbouring occasions; "
                "number the occasions where they are not."
            )
    weights = _nlme_variances(term, is_class=is_class)
    if weights:
        said.append(f"weights = {weights}")
    return said, notes


def _random(groups: Sequence[tuple[GroupTerm, str]]) -> str:
    factor = _r_group(groups[0][0].factor)
    if len(groups) == 1 and groups[0][0].covariance == "correlated":
        return f"~ {groups[0][1]} | {factor}"
    each = [
        f"pdDiag(~ {columns})" if bar.covariance == "uncorrelated" else f"~ {columns}"
        for bar, columns in groups
    ]
    if len(each) == 1:
        return f"list({factor} = {each[0]})"
    symmetric = [one if one.startswith("pd") else f"pdSymm({one})" for one in each]
    return f"list({factor} = pdBlocked(list({', '.join(symmetric)})))"


def _nlme_variances(term: ResidualTerm, *, is_class: bool) -> str:
    parts = []
    if term.structure == "weights":
        parts.append(f"varFixed(~ I(1 / {r_name(term.column)}))")
    own = term.correlation
    if own is not None and own.word in BY_OCCASION:
        parts.append(f"varIdent(form = ~ 1 | {r_name(own.time)})")
    if term.is_log:
        parts.append(f"varPower(form = ~ {r_name(term.spread_column)})")
    elif term.spread:
        name = r_name(term.spread)
        parts.append(f"varIdent(form = ~ 1 | {name})" if is_class else f"varExp(form = ~ {name})")
    if len(parts) < 2:
        return "".join(parts)
    return f"varComb({', '.join(parts)})"


def in_brms(term: ResidualTerm) -> tuple[list[str], list[str], list[str]]:
    """Terms beside the population's, terms of the formula of sigma, and notes."""
    own, terms, sigma, notes = term.correlation, [], [], []
    if own is not None:
        plain, names = BY_OCCASION.get(own.word, own.word), (r_name(own.time), _r_group(own.factor))
        notes += _made_factor(own.factor)
        if plain in _IN_BRMS and not (own.by or own.nugget):
            terms.append(_IN_BRMS[plain].format(time=names[0], group=names[1]))
        else:
            notes.append(f"brms has no equivalent of {own}: this code leaves it out.")
        if own.word in BY_OCCASION:
            sigma.append(f"factor({names[0]})")
        if plain == "ar1" and terms:
            notes.append("ar() counts rows as occasions: it needs rows for all of them, in order.")
    if term.spread:
        name = r_name(term.spread_column)
        sigma.append(f"log({name})" if term.is_log else name)
    if term.scale:
        sigma.append(f"(1 | {term.scale})")
    return terms, sigma, notes


def in_glmmtmb(term: ResidualTerm) -> tuple[str, list[str]]:
    """The argument ``dispformula`` for residual sds that differ between groups, and notes."""
    _, sigma, _ = in_brms(term)
    notes = ["Random effects in dispformula need glmmTMB 1.1.10 or newer."]
    notes.append("Both kinds of random effects are integrated by Laplace's approximation there.")
    return f"dispformula = ~ {' + '.join(sigma)}", notes


def in_sas(
    term: ResidualTerm, occasion: str, subject: str, spread: str, *, is_class: bool
) -> tuple[str, list[str]]:
    """The REPEATED statement, and notes.

    Parameters
    ----------
    term
        Of the residuals.
    occasion, subject
        The class of occasions, or the column of times for ``car1``; and the subjects.
    spread
        Column on which the sd depends.
    is_class
        Whether it is a category.
    """
    own, options, notes = term.correlation, [], []
    effect = f" {occasion}" if own is not None and own.word != "car1" else ""
    if own is not None:
        options.append(f"subject={subject}")
        notes += _correlation_options(own, occasion, options)
        if own.by:
            options.append(f"group={own.by}")
    if term.spread and is_class and own is None:
        options.append(f"group={spread}")
    elif term.spread and not is_class and own is None:
        options.append(f"local=exp({spread})")
    elif term.spread:
        notes.append(f"PROC MIXED has no sd by {spread} beside a correlation: left out.")
    if term.scale:
        notes.append(
            f"PROC MIXED has no residual sds that differ between groups at random: (1 | {term.scale}) "
            "is left out. PROC NLMIXED takes such models."
        )
    return (f"  repeated{effect} / {' '.join(options)};" if options else ""), notes


def _correlation_options(own: CorrelationTerm, occasion: str, options: list[str]) -> list[str]:
    notes = []
    if own.word == "car1":
        options.append(f"type=sp(pow)({occasion})")
    elif own.word in _IN_SAS:
        options.append(f"type={_IN_SAS[own.word]}")
    else:
        word = "un" if own.word == "symm" else "ante(1)"
        options.append(f"type={word}")
        notes.append(f"{word} has a variance for each occasion, and this model a single one.")
    if own.nugget:
        options.append("local")
    if own.word in ("ar1", "ar1h", "toep", "toeph", "arma11"):
        notes.append(
            f"PROC MIXED counts the classes of {occasion}: an occasion at which nobody was seen is "
            "no gap there."
        )
    if own.nugget and own.word in BY_OCCASION:
        notes.append("local adds the same variance at each occasion, and this model a share of it.")
    return notes
