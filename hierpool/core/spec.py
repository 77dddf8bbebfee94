"""Spec: a model as plain data, with nothing read from a table yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hierpool.core.families.family import Family
    from hierpool.core.relationship import Relationship

ResidualStructure = Literal["independent", "weights", "known_se", "family"]


@dataclass(frozen=True, slots=True)
class GroupTerm:
    """One bar of a formula: the columns whose coefficients vary over the levels of a factor.

    Attributes
    ----------
    columns
        Left of the bar, with its constant written out: ``"1 + Days"``, ``"0 + Days"``.
    factor
        Right of the bar: the name of a column.
    covariance
        Word of a structure in ``COVARIANCES``: ``"correlated"`` for ``|``; ``"uncorrelated"`` for
        ``||`` (diagonal, also for a categorical left side); ``"none"`` for no pooling: the
        coefficients of each level have wide independent priors, and there is no distribution of
        levels to estimate.
    relationship
        A known covariance between the levels; None for independent ones.
    """

    columns: str
    factor: str
    covariance: str = "correlated"
    relationship: Relationship | None = None

    def __str__(self) -> str:
        bars = {"correlated": "|", "uncorrelated": "||", "none": "no pooling |"}
        bar = bars.get(self.covariance, f"{self.covariance} |")
        columns = self.columns.removeprefix("1 + ")
        return f"({columns} {bar} {self.factor})"


@dataclass(frozen=True, slots=True)
class CorrelationTerm:
    """A residual covariance within the levels of a factor: ``ar1(time | pig)``.

    Attributes
    ----------
    word
        Of a structure in ``core.correlation``.
    time
        The user's column of times or occasions.
    factor
        The factor whose levels are independent: ``"pig"`` or ``"pig:side"``.
    by
        The user's column whose categories have parameters of their own; empty without.
    nugget
        Whether rows differ independently beside it.
    """

    word: str
    time: str
    factor: str
    by: str = ""
    nugget: bool = False

    def __str__(self) -> str:
        by = f", by={self.by}" if self.by else ""
        return f"{self.word}({self.time} | {self.factor}{by}{', nugget=True' * self.nugget})"


@dataclass(frozen=True, slots=True)
class ResidualTerm:
    """What was asked of the residuals.

    Attributes
    ----------
    structure
        ``"independent"``: all rows have the residual sd sigma. ``"weights"``: the residual variance
        of a row is sigma^2 / weight. ``"known_se"``: each row's residual sd is known, and there is
        no sigma. ``"family"``: how rows vary is the family's; weights multiply their log density.
    column
        The user's column of weights or known sds; empty where there is none.
    correlation
        How rows of a group are correlated; None for independent rows.
    spread
        The user's column on which the residual sd depends, as in ``sigma="~ treatment"``; a
        category has an sd for each class. Empty for one sd.
    scale
        The factor whose groups differ in their residual sd by random effects, as in
        ``sigma="~ (1 | pig)"``. Empty where they do not.
    """

    structure: ResidualStructure = "independent"
    column: str = ""
    correlation: CorrelationTerm | None = None
    spread: str = ""
    scale: str = ""

    @property
    def is_structured(self) -> bool:
        """Whether rows are correlated, or differ in an sd that is estimated."""
        return self.correlation is not None or bool(self.spread or self.scale)

    @property
    def words(self) -> str:
        """Its structure as typed: ``ar1(time | pig), sigma ~ diet``; empty where there is none."""
        return ", ".join(filter(None, [str(self.correlation or ""), self.of_sds]))

    @property
    def of_sds(self) -> str:
        """What sds depend on, as typed: ``sigma ~ diet + (1 | pig)``; empty for one sd."""
        random = f"(1 | {self.scale})" if self.scale else ""
        right = " + ".join(filter(None, [self.spread, random]))
        return f"sigma ~ {right}" if right else ""

    @property
    def spread_column(self) -> str:
        """The user's column in ``spread``: of ``log(time)`` it is ``time``."""
        return self.spread.removeprefix("log(").removesuffix(")") if self.is_log else self.spread

    @property
    def is_log(self) -> bool:
        """Whether the sd is a power of a column: ``sigma="~ log(time)"``."""
        return self.spread.startswith("log(") and self.spread.endswith(")")

    @property
    def columns(self) -> tuple[str, ...]:
        """The user's columns of the correlation and of the spread, those of its factor left out."""
        own = self.correlation
        named = (own.time, own.by) if own is not None else ()
        return tuple(dict.fromkeys(c for c in (*named, self.spread_column) if c))

    @property
    def has_sigma(self) -> bool:
        """Whether there is a residual sd to estimate."""
        return self.structure in {"independent", "weights"}

    @property
    def arguments(self) -> dict[str, str]:
        """The argument that asks for it: ``{"weights": "w"}``; empty for independent rows."""
        word = "weights" if self.structure == "family" else self.structure
        return {word: self.column} if self.column else {}


INDEPENDENT = ResidualTerm()


@dataclass(frozen=True, slots=True)
class Spec:
    """What was asked: response, population columns, group terms.

    Attributes
    ----------
    formula
        The whole formula, as typed or as the builder wrote it in lme4's notation.
    response
        Left side, as text: a column or a function of columns, e.g. ``"log(weight)"``.
    population
        Columns whose coefficients are common to all, constant written out: ``"1 + Days"``.
    groups
        The group terms, in the order written. Empty for complete pooling.
    grouping
        Factor that only names the levels (complete pooling with ``group=``); None otherwise.
    offsets
        What is added to the linear predictor as it is, as text: ``"offset(log(n))"``.
    residual
        How the rows vary about their means.
    family
        Of the response; None: Gaussian.
    trials
        Column of the numbers of trials of binomial rows; empty where there is none.
    """

    formula: str
    response: str
    population: str
    groups: tuple[GroupTerm, ...] = ()
    grouping: str | None = None
    offsets: tuple[str, ...] = ()
    residual: ResidualTerm = INDEPENDENT
    family: Family | None = None
    trials: str = ""

    @property
    def left(self) -> str:
        """Left side of the formula: the response, with its trials ``"y / n"``."""
        return left_side(self.response, self.trials)

    @property
    def shown(self) -> str:
        """The formula, and what the residual sd depends on, which no formula says."""
        return ", ".join(filter(None, [self.formula, self.residual.of_sds]))

    @property
    def factors(self) -> tuple[str, ...]:
        """Every factor, each once: those of the group terms, then the one that only names."""
        own = self.residual.correlation
        named = [t.factor for t in self.groups] + ([self.grouping] if self.grouping else [])
        named += [own.factor] if own is not None else []
        named += [self.residual.scale] if self.residual.scale else []
        return tuple(dict.fromkeys(named))

    @property
    def without_bars(self) -> str:
        """Right-hand side less its bars: ``"1 + Days + offset(o)"``."""
        return " + ".join([self.population, *self.offsets])

    @property
    def pooling(self) -> Literal["complete", "none", "partial"]:
        """Which of the three poolings this is."""
        if not self.groups:
            return "complete"
        return "none" if all(t.covariance == "none" for t in self.groups) else "partial"


def left_side(response: str, trials: str) -> str:
    """``"y"`` or ``"y / n"``."""
    return f"{response} / {trials}" if trials else response
