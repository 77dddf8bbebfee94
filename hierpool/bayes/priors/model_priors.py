"""The priors of a model as plain data, with defaults scaled by the data. No PyMC here.

Defaults are unit-free: stated for centred and scaled columns, so that recoding a linear predictor
(time 0..3 or 100..103, ml or l) changes no prediction. A block of columns has its priors in the
coordinates of its own ``Coding``; everything reported is mapped back to the user's coding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hierpool.algebra.moments import Coordinates
from hierpool.bayes.parts.group_term import GroupTermPart
from hierpool.bayes.parts.part import GroupPart, Part
from hierpool.bayes.parts.residual import ResidualPart
from hierpool.bayes.parts.residual_structure import ResidualStructurePart
from hierpool.bayes.parts.scalar import ScalarPart
from hierpool.bayes.parts.thresholds import ThresholdsPart
from hierpool.bayes.parts.unpooled import UnpooledPart
from hierpool.bayes.priors.coefficients import CoefficientPriors
from hierpool.bayes.priors.meaning import meaning_of
from hierpool.bayes.priors.prior import Prior, PriorRow
from hierpool.core.coding import Coding
from hierpool.core.families.family import Family
from hierpool.core.printable import printable
from hierpool.core.schema import GroupSchema, ResponseScale, Schema

COEFFICIENT_SDS = 2.5  # prior sd of a coefficient, in sds of the response per sd of its column
SD_NU = 4.0  # degrees of freedom of the half-Student-t priors of standard deviations
LKJ_ETA = 1.0  # shape of the prior of correlation matrices; 1 is uniform
SCALE_SD = Prior("HalfNormal", sigma=0.5)  # sd between groups of the log of their residual sds
LINK_SCALES = {  # sds of an intercept, of a slope per sd of its column, and scale of the groups' sds
    "logit": (1.5, 1.0, 1.0),
    "probit": (0.9, 0.6, 0.6),
    "cloglog": (1.2, 0.8, 0.8),
    "log": (2.5, 1.0, 1.0),
}
_VARIATION = Prior("HalfStudentT", nu=SD_NU, sigma=1, of="1/sqrt")
FAMILY_PARAMETERS = {  # name -> its default prior, and what the printed table says it is
    "shape": (_VARIATION, "coefficient of variation of {response}"),
    "precision": (_VARIATION, "sd of {response} where its mean is 0.5"),
    "nu": (
        Prior("Gamma", alpha=2, beta=0.1),
        "share of {response} further than 3 sigma from its mean, 0.0027 if Gaussian",
    ),
    "zero_inflation": (
        Prior("Beta", alpha=1, beta=1),
        "probability of an extra zero of {response}",
    ),
    "hurdle": (Prior("Beta", alpha=1, beta=1), "probability of a zero of {response}"),
}


@dataclass(frozen=True)
class PriorScales:
    """Scales of default priors on the scale of the linear predictor.

    Attributes
    ----------
    mean
        Mean of the prior of an intercept at the mean of the predictors.
    intercept, slope
        Sds of the priors of an intercept, and of a slope per sd of its column.
    sd
        Scale of the priors of the groups' sds, per sd of the column.
    """

    mean: float
    intercept: float
    slope: float
    sd: float

    @classmethod
    def of_gaussian(cls, scale: ResponseScale) -> PriorScales:
        """In sds of the response."""
        wide = COEFFICIENT_SDS * scale.sd
        return cls(scale.mean, wide, wide, scale.sd)


@dataclass(frozen=True)
class ModelPriors:
    """Every prior of a model.

    Attributes
    ----------
    response
        Name of the response, for the printed table.
    population
        Priors of the population coefficients.
    parts
        The parts of theta: group terms, factor by factor, then the residual or the family's.
    family
        Of the response; None: Gaussian.
    """

    response: str
    population: CoefficientPriors
    parts: tuple[Part, ...]
    family: Family | None = None

    @property
    def sigma(self) -> Prior | None:
        """Prior of the residual sd; None where those of the rows are known."""
        return next((p.prior for p in self.parts if isinstance(p, ResidualPart)), None)

    @property
    def group_parts(self) -> tuple[GroupPart, ...]:
        """The parts of the group terms, in the order of the columns of all factors side by side."""
        return tuple(p for p in self.parts if isinstance(p, GroupPart))

    @property
    def group_terms(self) -> tuple[GroupTermPart, ...]:
        """Those with a covariance to estimate; none for complete and no pooling."""
        return tuple(p for p in self.parts if isinstance(p, GroupTermPart))

    @property
    def unpooled(self) -> UnpooledPart | None:
        """The part of each level's own coefficients in no pooling; None otherwise."""
        return next((p for p in self.parts if isinstance(p, UnpooledPart)), None)

    @property
    def residual_structure(self) -> ResidualStructurePart | None:
        """The part of a structure of the residuals; None for independent ones."""
        return next((p for p in self.parts if isinstance(p, ResidualStructurePart)), None)

    @property
    def is_proper(self) -> bool:
        """Whether every prior is a distribution: none is flat."""
        return self.population.n_flat == 0

    @property
    def is_integrable(self) -> bool:
        """Whether every coefficient has a normal prior, so that the algebra applies."""
        blocks = [self.population, *(p.coefficients for p in [self.unpooled] if p is not None)]
        return all(block.is_normal for block in blocks)

    @property
    def factors(self) -> tuple[str, ...]:
        """Factors with sds, in order."""
        return tuple(dict.fromkeys(part.factor for part in self.group_terms))

    def of_factor(self, factor: str) -> tuple[GroupTermPart, ...]:
        """The blocks of one factor."""
        return tuple(part for part in self.group_terms if part.factor == factor)

    def places(self) -> Iterator[tuple[GroupPart, slice]]:
        """Each group part and its columns among those of all factors side by side."""
        start = 0
        for part in self.group_parts:
            yield part, slice(start, start + len(part.terms))
            start += len(part.terms)

    def table(self) -> pd.DataFrame:
        """One row a parameter: its prior and what it means in the response's units."""
        words = meaning_of(self.family)
        rows: list[PriorRow] = self.population.table("beta", self.response, meaning=words)
        centred = self.population.terms if self.population.coding.is_centred else ()
        for part in self.parts:
            if isinstance(part, UnpooledPart):
                variable = f"coef_{part.factor}"
                rows += part.coefficients.table(variable, self.response, centred, words)
            elif isinstance(part, GroupPart):
                rows += part.table(words.of_sds.format(response=self.response), centred)
            else:
                rows += part.table(self.response, centred)
        return pd.DataFrame(rows, columns=["parameter", "prior", "meaning"]).set_index("parameter")

    def __repr__(self) -> str:
        with pd.option_context("display.max_colwidth", None, "display.width", None):
            return printable(self.table().to_string())

    def _repr_html_(self) -> str:
        return printable(self.table().to_html())


def default_priors(schema: Schema) -> ModelPriors:
    """Default priors of a model, scaled by its response (less its offset) and columns.

    With weights the scale of sigma is the sd of the response with each row counted by its weight,
    so that the unit of the weights does not matter. With known residual sds there is no sigma, and
    the other priors are as ever.
    """
    if schema.family is not None:
        return _family_priors(schema, schema.family)
    coordinates, scale = Coordinates.from_schema(schema), schema.response_scale
    sigma = Prior("HalfStudentT", nu=SD_NU, sigma=scale.largest_sigma)
    weights = schema.spec.residual.arguments.get("weights", "")
    residual = ResidualPart(sigma if schema.has_sigma else None, weights)
    scales = PriorScales.of_gaussian(scale)
    parts = [part for group in schema.groups for part in _group_parts(group, scales)]
    population = _coefficients(coordinates.x, schema.terms, scales)
    own: list[Part] = [residual]
    if schema.residual_priors is not None:
        term, known = schema.spec.residual, schema.residual_priors
        n_levels = schema.groupings[term.scale].n_levels if term.scale else 0
        prior = SCALE_SD if term.scale else None
        own.append(ResidualStructurePart(term.words, *known, prior, n_levels))
    return ModelPriors(schema.spec.response, population, (*parts, *own))


def _family_priors(schema: Schema, family: Family) -> ModelPriors:
    """Defaults on the scale of the linear predictor; docs/priors.md argues them."""
    coordinates, scale = Coordinates.from_schema(schema), schema.response_scale
    if family.is_on_response_scale:
        scales = PriorScales.of_gaussian(scale)
    else:
        scales = PriorScales(scale.mean, *LINK_SCALES[family.link])
    parts: list[Part] = [p for group in schema.groups for p in _group_parts(group, scales)]
    for name in family.parameters:
        if name == "sigma":
            prior = Prior("HalfStudentT", nu=SD_NU, sigma=scale.largest_sigma)
            parts.append(ResidualPart(prior))
        else:
            default, words = FAMILY_PARAMETERS[name]
            beyond = " beyond Poisson" if name == "shape" and family.is_discrete else ""
            parts.append(ScalarPart(name, default, words + beyond))
    if family.has_thresholds:
        parts.append(ThresholdsPart(family.link, family.n_categories, Prior("Dirichlet", a=1)))
    population = _coefficients(coordinates.x, schema.terms, scales)
    return ModelPriors(schema.spec.response, population, tuple(parts), family)


def _coefficients(coding: Coding, terms: tuple[str, ...], scales: PriorScales) -> CoefficientPriors:
    sd = np.where(
        coding.constant != 0,
        scales.intercept * np.abs(coding.constant),
        scales.slope * (1 / coding.scales),
    )
    priors = [
        Prior("Normal", mu=scales.mean * a, sigma=s)
        for a, s in zip(coding.constant, sd, strict=True)
    ]
    return CoefficientPriors(coding, terms, tuple(priors))


def _group_parts(group: GroupSchema, scales: PriorScales) -> Iterator[GroupPart]:
    for k, (block, coding) in enumerate(zip(group.blocks, group.block_codings, strict=True)):
        covariance, terms = block.covariance, group.terms[block.columns]
        if not covariance.is_estimated:
            yield UnpooledPart(group.factor, _coefficients(coding, terms, scales))
            continue
        sd = tuple(
            Prior("HalfStudentT", nu=SD_NU, sigma=scales.sd / coding.scales[at])
            for at in np.unique(covariance.sd_index(block.size), return_index=True)[1]
        )
        name = group.factor if k == 0 else f"{group.factor}_{k + 1}"
        eta = LKJ_ETA if block.pairs else None
        yield GroupTermPart(group.factor, name, covariance, coding, terms, block.columns, sd, eta)
