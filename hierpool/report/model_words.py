"""Models and their terms in the words of their reader, without formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hierpool.core.design import Design, GroupDesign
from hierpool.core.families.family import Family
from hierpool.core.group_nouns import GROUP, counted, noun, nouns
from hierpool.core.schema import Schema
from hierpool.core.text import capital, joined
from hierpool.report.residual_words import structure_name

CONSTANT = "Intercept"
_CATEGORY = re.compile(r"(.+)\[(?:T\.)?(.*)\]", re.DOTALL)
_CENTRED = re.compile(r"center\((.+)\)", re.DOTALL)


def term_in_words(term: str) -> str:
    """A coefficient as a reader says it.

    Examples
    --------
    >>> term_in_words("Time:Diet[T.2]"), term_in_words("sex[T.Male]"), term_in_words("center(age)")
    ('Time × Diet 2', 'sex Male', 'age')
    """
    parts = [_CATEGORY.sub(r"\1 \2", uncentred(part)) for part in term.split(":")]
    return without_backticks(" × ".join(parts))


def uncentred(part: str) -> str:
    """A column without its centring, which changes no effect but those that it interacts with."""
    return _CENTRED.sub(r"\1", part)


def centred_columns(terms: Iterable[str]) -> list[str]:
    """Columns that are centred: coefficients hold where these are at their means."""
    parts = dict.fromkeys(part for term in terms for part in term.split(":"))
    return [without_backticks(found[1]) for part in parts if (found := _CENTRED.fullmatch(part))]


def family_in_words(family: Family) -> str:
    """A family with its link, as papers name it: ``"negative binomial response, log link"``."""
    names = {"student": "Student-t", "negbinomial": "negative binomial", "bernoulli": "Bernoulli"}
    names |= {"poisson": "Poisson", "ordinal": "ordinal (cumulative)"}
    text = names.get(family.name) or family.name.replace("_", "-", 1)
    text = text.replace("negbinomial", "negative binomial").replace("poisson", "Poisson")
    text = text.replace("zero-inflated_", "zero-inflated ").replace("hurdle-", "hurdle ")
    return f"{text} response, {family.link} link"


def without_backticks(text: str) -> str:
    """A name as it is read, not as it must be typed in a formula."""
    return text.replace("`", "")


def columns_of(term: str) -> list[str]:
    """The parts of a term, without the categories of its coefficients.

    Examples
    --------
    >>> columns_of("Time:Diet[T.2]")
    ['Time', 'Diet']
    """
    return [without_backticks(_CATEGORY.sub(r"\1", uncentred(part))) for part in term.split(":")]


def reference_categories(schema: Schema) -> dict[str, str]:
    """Column -> the category that its coefficients are compared with, where there is one."""
    found: dict[str, str] = {}
    for source in schema.encoder.sources:
        if source.categories is None:
            continue
        coded = re.compile(rf"(?:.*:)?{re.escape(source.shown)}\[T\.(.*?)\](?::.*)?", re.DOTALL)
        seen = {match[1] for term in schema.terms if (match := coded.fullmatch(term))}
        left = [str(c) for c in source.categories if str(c) not in seen]
        if seen and len(left) == 1:
            found[source.shown] = left[0]
    return found


def groups_in_words(factor: str) -> str:
    """Groups of a factor: ``"litters"``; ``"combinations of Litter and sex"`` of ``Litter:sex``."""
    if ":" in factor:
        return f"combinations of {joined(factor.split(':'))}"
    return f"groups of {factor}" if noun(factor) == GROUP else nouns(factor)


def counted_in_words(n: int, factor: str) -> str:
    """So many groups of a factor: ``"27 litters"``, ``"54 combinations of Litter and sex"``."""
    return f"{n} {groups_in_words(factor)}" if ":" in factor else counted(n, factor)


def model_in_words(design: Design, groups: Sequence[str]) -> str:
    """What a model assumes about the groups of the factors of a question, beginning with a capital."""
    if design.spec.pooling == "complete" and design.residual_factor:
        who = noun(design.residual_factor)
        return f"No random effects; residuals of one {who}: {structure_name(design.spec.residual)}"
    if design.spec.pooling == "complete":
        return f"All {joined(groups_in_words(factor) for factor in groups)} alike"
    if design.spec.pooling == "none":
        return f"Each {noun(groups[0])} by itself"
    alone = [f"each {noun(factor)} by itself" for factor in groups if factor in design.predictors]
    return capital("; ".join([*alone, *(_varying(each) for each in design.groups)]))


def _varying(group: GroupDesign) -> str:
    who, what = groups_in_words(group.factor), varying_in_words(group.terms)
    if len(group.terms) < 2:
        return f"{who} differ in {what}"
    centred = centred_columns(group.terms)
    at = f" at the mean of {joined(centred)}" if centred else ""
    how = "may be correlated" if group.has_correlation else f"independent{at}"
    return f"{who} differ in {what} ({how})"


def varying_in_words(terms: Sequence[str]) -> str:
    """What varies between groups: ``"level and effect of Days"``."""
    slopes = dict.fromkeys(" × ".join(columns_of(term)) for term in terms if term != CONSTANT)
    said = ["level"] if CONSTANT in terms else []
    return joined([*said, *([f"effect of {joined(slopes)}"] if slopes else [])])


def on_scale(family: Family | None) -> str:
    """Where coefficients of a family live, for a title: ``" (logit scale)"``."""
    if family is None or family.link == "identity":
        return ""
    return f" ({family.link} scale)"
