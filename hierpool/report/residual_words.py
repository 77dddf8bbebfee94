"""Residual structures in the words of their reader."""

from __future__ import annotations

from hierpool.core.correlation import BY_OCCASION
from hierpool.core.group_nouns import GROUP, noun, nouns
from hierpool.core.spec import CorrelationTerm, ResidualTerm
from hierpool.core.text import joined

_OF = {
    "ar1": "correlation ρ to the power of their distance in {time}, in steps",
    "car1": "correlation ρ to the power of their distance in {time}, in median gaps",
    "cs": "the same correlation ρ at any two values of {time}",
    "us": "a correlation for each pair of values of {time}",
    "symm": "a correlation for each pair of values of {time}",
    "toep": "a correlation for each distance in {time}",
    "ad1": "a correlation for each pair of neighbouring values of {time}, products of these beyond",
    "arma11": "the correlations of an ARMA(1, 1) process in {time}",
}


_NAMES = {
    "ar1": "AR(1)",
    "car1": "AR(1) in continuous time",
    "cs": "compound symmetry",
    "us": "unstructured",
    "symm": "unstructured with one sd",
    "toep": "Toeplitz",
    "ad1": "ante-dependence",
    "arma11": "ARMA(1, 1)",
}


def structure_name(term: ResidualTerm) -> str:
    """A structure by the name that the field gives it, short enough for a table.

    Examples
    --------
    >>> structure_name(
    ...     ResidualTerm(correlation=CorrelationTerm("csh", "visit", "pig"), spread="sex")
    ... )
    'compound symmetry, sd by visit and sex'
    >>> structure_name(ResidualTerm(spread="sex", scale="pig"))
    'sd by sex, and one of each pig'
    """
    own, sds = term.correlation, []
    name = "independent" if own is None else _NAMES[BY_OCCASION.get(own.word, own.word)]
    if own is not None:
        sds = [own.time] * (own.word in BY_OCCASION and own.word != "us")
        name += f" by {own.by}" * bool(own.by) + " with a nugget" * own.nugget
    sds += [term.spread] * bool(term.spread)
    said = [f"sd by {joined(sds)}"] if sds else []
    said += [f"{'and one' if said else 'sd'} of each {noun(term.scale)}"] * bool(term.scale)
    plain = [] if own is None and said else [name]
    return ", ".join([*plain, *said])


def correlation_in_words(own: CorrelationTerm) -> str:
    """How residuals of a group are correlated.

    Examples
    --------
    >>> correlation_in_words(CorrelationTerm("us", "visit", "pig"))
    'a correlation for each pair of values of visit'
    """
    said = _OF[BY_OCCASION.get(own.word, own.word)].format(time=own.time)
    said += ", and independent differences between observations beside it" * own.nugget
    return said + (f", all of it separate for each {own.by}" if own.by else "")


def sds_in_words(term: ResidualTerm) -> str:
    """Which residual sds there are; empty where there is one."""
    own, said = term.correlation, []
    if own is not None and own.word in BY_OCCASION:
        said.append(own.time)
    if own is not None and own.by:
        said.append(own.by)
    if term.spread and not term.is_log:
        said.append(term.spread)
    fixed = f"depending on {joined(said)}" if said else ""
    if term.is_log:
        fixed = f"proportional to a power of {term.spread_column}"
    if not term.scale:
        return fixed
    random = f"varying between {nouns(term.scale)}, its log normally distributed"
    return f"{fixed} and {random}" if fixed else random


def _sds_said(term: ResidualTerm) -> str:
    """What the residual sd of independent rows does."""
    said = [f"depends on {term.spread}"] * bool(term.spread and not term.is_log)
    said += [f"is proportional to a power of {term.spread_column}"] * term.is_log
    random = f"varies between {nouns(term.scale)} (its log is normally distributed)"
    return joined([*said, random] if term.scale else said)


def residual_in_words(term: ResidualTerm) -> str:
    """One sentence on the structure; empty where residuals are independent and alike.

    Examples
    --------
    >>> residual_in_words(ResidualTerm(correlation=CorrelationTerm("ar1", "time", "pig")))
    'Residuals of one pig have correlation ρ to the power of their distance in time, in steps.'
    >>> residual_in_words(ResidualTerm(spread="diet"))
    'The residual standard deviation depends on diet.'
    >>> residual_in_words(ResidualTerm(scale="pig"))
    'The residual standard deviation varies between pigs (its log is normally distributed).'
    """
    own, sds = term.correlation, sds_in_words(term)
    if own is None:
        return f"The residual standard deviation {_sds_said(term)}." if sds else ""
    who = noun(own.factor) if noun(own.factor) != GROUP else f"group of {own.factor}"
    beside = f", and a standard deviation {sds}" if sds else ""
    return f"Residuals of one {who} have {correlation_in_words(own)}{beside}."


def parameter_in_words(term: ResidualTerm, key: tuple[str, str, str, str]) -> str:
    """A row of the table of variance components that belongs to a residual structure."""
    where, parameter, first, second = key
    own = term.correlation
    of = f", {where[len('residual (') : -1]}" if where.startswith("residual (") else ""
    if parameter == "corr":
        return f"Correlation of residuals, {first} and {second}{of}"
    if parameter == "sd":
        if first:
            return f"Residual, {first}{of}"
        return (
            f"Residual, average {noun(term.scale)}" if term.scale else "Residual (geometric mean)"
        )
    if parameter == "sd_log_sigma":
        return f"Log of the residual, between {nouns(term.scale)}"
    if parameter == "log_sd_slope":
        what = "power" if term.is_log else "change of the log sd per unit"
        return f"Residual: {what} of {term.spread_column}"
    if parameter == "nugget":
        return f"Share of independent residual variance{of}"
    names = {"ar": "Autoregression of residuals", "ma": "Moving average of residuals"}
    if parameter in names or own is None:
        return names.get(parameter, parameter) + of
    at = {"car1": f" at the median gap in {own.time}", "cs": "", "csh": ""}
    return f"Correlation of residuals{at.get(own.word, f' one step of {own.time} apart')}{of}"
