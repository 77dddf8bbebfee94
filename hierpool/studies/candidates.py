"""Alternatives to a given model: fitted, scored by leave-one-out, tested and compared.

``advise`` says which are tried, ``checks.advice`` what to think of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from hierpool.bayes.exact.engine import SURROGATE_ABOVE_FLOPS
from hierpool.bayes.parts.group_term import GroupTermPart
from hierpool.bayes.parts.part import Part
from hierpool.bayes.parts.unpooled import UnpooledPart
from hierpool.bayes.priors.model_priors import ModelPriors, default_priors
from hierpool.bayes.run import SamplerSettings
from hierpool.bayes.theta import integrate
from hierpool.checks.accuracy.loo import ScoredLOO, has_row_scores
from hierpool.checks.advice import Difference, Evidence, Kind, Step
from hierpool.core.design import Design
from hierpool.core.errors import ComparisonError, FitError, HierpoolError, UnsupportedModelError
from hierpool.core.spec import Spec
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.formula.build import CellRows, CompleteRows, build_design, encode, rows_of
from hierpool.model import Model, best_optimum, fitted
from hierpool.reml import likelihood_ratio as ratio
from hierpool.reml import nesting
from hierpool.reml.criterion import Method

LEFT_OUT_TOGETHER = "scales-left-out-together"  # groups that have several with an sd of their own
CHAINS = 4  # of the models that are tried
NO_TEST = (np.nan, np.nan, np.nan, "")  # statistic, df, p, null distribution


@dataclass(frozen=True)
class CandidateFit:
    """A model with its fits; without a posterior, or an optimum, where that cannot be had here.

    ``scores`` grows as they are asked for: ``"row"``, and the factors that were left out.
    """

    model: Model
    blup: LikelihoodFit | None
    fit: PosteriorFit | None
    scores: dict[str, ScoredLOO] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its formula."""
        return self.model.formula

    @property
    def design(self) -> Design:
        """Its rows and columns."""
        return self.model.design

    @cached_property
    def ml(self) -> LikelihoodFit:
        """Its ML fit, for tests of fixed effects."""
        return self.model.ml()

    def score(self, by: str, other: Design | None = None) -> ScoredLOO | None:
        """Leave-one-out by row or by a factor, of this model or the other; None where it does not apply."""
        if self.fit is None or not self.fit.is_integrable:
            return None
        if by != "row" and self.design.spec.pooling == "none":
            return None
        if by == "row" and not has_row_scores(self.design):
            return None
        if by not in self.scores:
            known = {} if other is None else dict(other.groupings)
            left_out = by if by in self.design.groupings else known.get(by, by)
            try:
                self.scores[by] = self.fit.loo(left_out)
            except UnsupportedModelError as error:
                if error.code != LEFT_OUT_TOGETHER:
                    raise
                return None
        return self.scores[by]


@dataclass
class CandidateSet:
    """Fits and scores models of one table, each once.

    Attributes
    ----------
    given
        The model that advice is asked on.
    draws, seed
        Of the fits that are made here.
    known
        Formula -> a fit that is there already.
    known_optima
        The same of REML fits.
    fitting
        Makes the posterior of a model; None: the exact engine, where it takes seconds.
    every
        Formula -> what was tried.
    skipped
        Formula -> why it could not be tried.
    """

    given: Model
    draws: int
    seed: int
    known: Mapping[str, PosteriorFit] = field(default_factory=dict)
    known_optima: Mapping[str, LikelihoodFit] = field(default_factory=dict)
    fitting: Callable[[Model], PosteriorFit] | None = None
    every: dict[str, CandidateFit] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def skipping(self, spec: Spec) -> Iterator[None]:
        """A candidate that cannot be had is left out, and why is kept."""
        try:
            yield
        except HierpoolError as error:
            self.skipped[spec.formula] = error.message.split(". ")[0].rstrip(".")

    @cached_property
    def rows(self) -> CompleteRows | CellRows:
        """The rows of the given model, for all that need no other columns."""
        return rows_of(self.given.design)

    def design(self, spec: Spec, frame: pd.DataFrame | None = None) -> Design:
        """The rows of the given model in the columns of another."""
        made = encode(spec, self.rows) if frame is None else build_design(spec, frame)
        given = self.given.design  # whose frame has lost the rows with missing values already
        dropped = [notice for notice in given.notices if notice.code == "rows-dropped"]
        return made.with_schema(label=given.label, notices=(*dropped, *made.notices))

    def tried(self, design: Design) -> CandidateFit:
        """A model fitted by REML and, where it can be afforded, with its posterior."""
        name = design.spec.formula
        if name not in self.every:
            model = Model.from_design(design, self.priors(design))
            blup = self.known_optima.get(name) or best_optimum(design)
            self.every[name] = CandidateFit(model, blup, self._posterior(model))
        return self.every[name]

    def priors(self, design: Design) -> ModelPriors:
        """Default priors, with those of the given model in their place where it has its own."""
        given, own = self.given.design, self.given.priors
        if design is given:
            return own
        chosen = default_priors(design.schema)
        if not self.has_own_priors:
            return chosen
        same = design.terms == given.terms and np.array_equal(
            design.observations.X, given.observations.X
        )
        known = {_about(part): part for part in own.parts}
        parts = tuple(_taken_over(known.get(_about(part)), part) for part in chosen.parts)
        population = own.population if same else chosen.population
        return replace(chosen, population=population, parts=parts)

    @property
    def has_own_priors(self) -> bool:
        """Whether the given model has priors that are no defaults."""

        def known(priors: ModelPriors) -> Any:
            group_terms = [(part.sd, part.eta) for part in priors.group_terms]
            return priors.sigma, priors.population.priors, group_terms

        return bool(known(self.given.priors) != known(default_priors(self.given.design.schema)))

    def _posterior(self, model: Model) -> PosteriorFit | None:
        if found := self.known.get(model.formula):
            return found
        if self.fitting is not None:
            return self.fitting(model)
        if not model.priors.is_integrable or not self.can_afford(model):
            return None
        settings = SamplerSettings(self.draws, 0, CHAINS, None, self.seed, "", None, False, {})
        try:
            return fitted(model.design, model.priors, "exact", settings)
        except FitError as error:  # its status is in the fit
            return error.fit if isinstance(error.fit, PosteriorFit) else None
        except UnsupportedModelError:  # a family with more groups than quadrature takes
            return None

    def can_afford(self, model: Model) -> bool:
        """Whether a posterior and its scores take seconds and not minutes."""
        if model.design.family is not None:
            return True  # the engine itself says what it cannot take
        return integrate(model.design, model.priors)[0].flops_per_theta <= SURROGATE_ABOVE_FLOPS


def _left_out(smaller: Design, larger: Design, changed: str) -> str:
    """The factor whose groups both models are asked to predict: the changed one if there is one."""
    if changed in larger.groupings:
        return changed
    return next((f for f in smaller.groupings if f in larger.groupings), "")


@dataclass(frozen=True)
class Change:
    """A model to try, and what it changes."""

    spec: Spec
    words: str
    kind: Kind = "simpler"
    why: str = ""
    frame: pd.DataFrame | None = None
    factor: str = ""
    share: float = np.nan
    code: str = ""  # of the finding that asks for it


def compared(other: CandidateFit, here: CandidateFit, change: Change) -> Step:
    """A model and the one that it is compared with."""
    richer = change.kind == "richer"
    smaller, larger = (here, other) if richer else (other, here)
    test = NO_TEST
    if smaller.blup is not None and larger.blup is not None:
        test = likelihood_ratio(smaller.blup, larger.blup)
    factor = _left_out(smaller.design, larger.design, change.factor)
    evidence = Evidence(
        *test,
        row=_difference(smaller, larger, "row"),
        group=_difference(smaller, larger, factor) if factor else None,
        left_out=factor,
        share=change.share,
        is_identified=larger.blup is None or larger.blup.status.word != "not identified",
        **_fixed_effects_moved(smaller, larger),
    )
    return Step(
        other.name, change.kind, change.words, here.name, evidence, change.why, change.factor
    )


def likelihood_ratio(
    smaller: LikelihoodFit, larger: LikelihoodFit
) -> tuple[float, float, float, str]:
    """Statistic, df, p and the null distribution in words; nothing is simulated.

    With several variances at once a chi-squared with all df is taken, which is too strict to the
    larger model. NaN where no test is to be had.
    """
    pair = (smaller.design, smaller.estimate), (larger.design, larger.estimate)
    try:
        step = nesting.step(smaller.design, larger.design)
        if step.weights is not None:
            test = ratio.likelihood_ratio(*pair, ratio.Simulating("auto", 0, None, _never))
            return test.statistic, test.df, test.p, test.null
        df, why = step.df, ", an upper bound of p"
    except UnsupportedModelError:
        return NO_TEST
    except ComparisonError:
        # Equal variances and covariances: a linear restriction inside the larger model.
        df, why = larger.estimate.n_parameters - smaller.estimate.n_parameters, ""
        if df < 1 or len(smaller.design.groups) <= len(larger.design.groups):
            return NO_TEST
    method: Method = "ML" if larger.method == "ML" else "REML"
    logliks = [ratio.loglik_by(fit, method) for fit in pair]
    statistic = max(2 * (logliks[1] - logliks[0]), 0.0)
    return statistic, df, float(special.chdtrc(df, statistic)), f"chi-squared with {df} df{why}"


def _never(*_: Any) -> Any:
    raise AssertionError("nothing is simulated here")


def _difference(smaller: CandidateFit, larger: CandidateFit, by: str) -> Difference | None:
    """elpd of the smaller model less that of the larger, by the points that are left out."""
    one, other = smaller.score(by, larger.design), larger.score(by)
    if one is None or other is None:
        return None
    each = one.elpd_i.to_numpy() - other.elpd_i.to_numpy()
    return Difference(float(each.sum()), float(np.sqrt(len(each)) * each.std()))


def _fixed_effects_moved(smaller: CandidateFit, larger: CandidateFit) -> dict[str, Any]:
    """What the smaller model changes in the fixed effects, as ``Evidence`` has it.

    In the coding of the larger model; nothing where the fixed effects are not the same.
    """
    X, terms = larger.design.observations.X, larger.design.terms
    other_X = smaller.design.observations.X
    is_linear = larger.design.family is None  # else a coefficient means another thing beside others
    if not terms or other_X.shape != X.shape or not is_linear:
        return {}
    if smaller.blup is None or larger.blup is None:
        return {}
    e = larger.blup.estimate
    size = np.linalg.norm(X, axis=0)
    recoded = np.linalg.lstsq(X / size, other_X)[0] / size[:, None]
    own = smaller.blup.estimate
    se = np.sqrt(np.diag(e.beta_covariance))
    change = np.abs(recoded @ own.beta - e.beta) / se
    ratio_of_se = np.sqrt(np.diag(recoded @ own.beta_covariance @ recoded.T)) / se
    at, furthest = int(np.argmax(change)), int(np.argmax(np.abs(np.log(ratio_of_se))))
    return {
        "shift": float(change[at]),
        "shifted": terms[at],
        "narrowing": float(ratio_of_se[furthest]),
    }


def _about(part: Part) -> tuple[Any, ...]:
    """What a part of theta is about, whatever its priors are."""
    if isinstance(part, GroupTermPart):
        return part.factor, part.terms, part.covariance
    return (type(part),)


def _taken_over(known: Part | None, part: Part) -> Part:
    """A part of the given model in the place of a candidate's."""
    if isinstance(known, GroupTermPart) and isinstance(part, GroupTermPart):
        return replace(known, name=part.name)
    return part if known is None or isinstance(part, UnpooledPart) else known
