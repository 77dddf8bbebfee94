"""advise(): what may be taken from a model, what it lacks, and what either costs.

``checks.advice`` judges; here the models are made, fitted and scored for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from scipy import special

from hierpool import engines
from hierpool.bayes.exact import DEAR
from hierpool.bayes.priors import ModelPriors, default_priors
from hierpool.bayes.runs import Settings, is_integrable
from hierpool.bayes.theta import integrate
from hierpool.checks.advice import (
    NEEDED_BELOW,
    Advice,
    Difference,
    Evidence,
    Kind,
    Step,
    candidates,
    said_p,
)
from hierpool.checks.residuals import judged
from hierpool.core.design import Design
from hierpool.core.errors import (
    ArgumentError,
    ComparisonError,
    DataError,
    FitError,
    FormulaError,
    HierpoolWarning,
    UnsupportedModelError,
)
from hierpool.core.findings import Findings
from hierpool.core.spec import GroupTerm, Spec
from hierpool.data import pooling, steps
from hierpool.data.formula import factor_text, split_factor
from hierpool.data.frame import build_design
from hierpool.fits import BlupFit, PosteriorFit
from hierpool.models import Model
from hierpool.reml import nesting, ratio
from hierpool.reml.criterion import Method

CHAINS, DRAWS = 4, 500  # of the models that are tried
MOST_STEPS = 12
MOST_TRIED = 6  # predictors that are looked at for what is missing
INTERCEPT = "Intercept"
WHOLE = "the whole of "
ASKED_BELOW = 0.05  # p from which an addition is tried that a finding asks for
_VARIANCES = (
    "hierpool estimates one residual variance (weights must be known): nlme (varIdent, varPower), "
    "glmmTMB (dispformula) and brms (sigma ~ ...) estimate several."
)
ELSEWHERE = {
    "unequal-variance": _VARIANCES,
    "unequal-variance-of-levels": _VARIANCES,
    "autocorrelation": "hierpool takes residuals for independent: nlme (corAR1), glmmTMB (ar1) and "
    "brms (ar) estimate how one goes on in the next.",
}


@runtime_checkable
class Studied(Protocol):
    """A study: fits of several poolings of one question, by name."""

    @property
    def partial(self) -> str:
        """Name of the partially pooled model that the study speaks of."""
        ...

    @property
    def models(self) -> Mapping[str, Model]:
        """Name -> model."""
        ...

    @property
    def fits(self) -> Mapping[str, PosteriorFit]:
        """Name -> posterior."""
        ...


def advise(
    about: PosteriorFit | BlupFit | Model | Studied,
    *,
    draws: int = DRAWS,
    seed: int | None = None,
) -> Advice:
    """What may be taken from a model and what it lacks: proposals with their costs.

    The path goes down from the model that is given: first correlations (with the predictors
    centred, because ``||`` depends on where zero is), then the term that adds least to the
    variance of the fitted response, a slope before its intercept, until the factor is gone. Each
    model is fitted, and compared with the one above it by leave-one-out (a new row, a new level)
    and by a likelihood ratio test. A step whose p is below 0.01 is needed, one whose p is above
    0.1 is not, unless leave-one-out says clearly otherwise; all else is undecided.

    Then what the rows ask for is tried: a square of a predictor, a slope that varies, the means
    of a predictor over the levels. Where residuals ask for what hierpool does not have, unequal
    variances or autocorrelation, it is said who has it. Nothing that you hold is changed: the
    fits of what was tried are in the answer.

    Parameters
    ----------
    about
        A fit, a model (it is fitted here), or a study (its richest partially pooled model).
    draws
        Draws of each of 4 chains of the models that are fitted here.
    seed
        Of these fits; None: that of the fit or study, or a fresh one for a model.

    Returns
    -------
    Advice
        Prints its sentence and its table. ``recommended`` is a formula or ``"undecided"``,
        ``proposals`` are models to consider.

    Notes
    -----
    With several factors one step is tried, the one that costs least; ask again from there.

    Raises
    ------
    ArgumentError
        Something else than a fit, a model or a study.

    References
    ----------
    Barr, Levy, Scheepers, Tily (2013), J. Mem. Lang. 68, 255-278.
    Matuschek, Kliegl, Vasishth, Baayen, Bates (2017), J. Mem. Lang. 94, 305-315.

    Examples
    --------
    >>> import hierpool as hp
    >>> dyes = hp.datasets.load("Dyestuff2")
    >>> hp.advise(hp.Model("Yield ~ 1 + (1 | Batch)", dyes), seed=1).recommended
    'Yield ~ 1'
    """
    model, known, own = _given(about)
    seed = seed if seed is not None else own if own is not None else engines.fresh_seed()
    bench = Bench(model, draws, seed, known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HierpoolWarning)
        given = bench.tried(model.design)
        path = [Step(given.name, "given"), *_path(bench, given)]
        findings = Findings(judged(given.blup))
        tried = _richer(bench, given, set(findings.codes))
        richer = sorted(tried, key=lambda step: step.gain, reverse=True)
    found = [*path, *richer]
    return Advice(
        formula=given.name,
        label=model.design.label,
        seed=seed,
        steps=tuple(found),
        candidates=candidates([step for step in path if step.kind != "other zero"]),
        models={s.name: bench.every[s.name].model for s in found},
        fits={s.name: f for s in found if (f := bench.every[s.name].fit) is not None},
        blups={s.name: bench.every[s.name].blup for s in found},
        scores={s.name: bench.every[s.name].scores for s in found},
        findings=findings,
        notes=(*_notes(bench, given, found), *_elsewhere(findings)),
    )


def _given(about: Any) -> tuple[Model, dict[str, PosteriorFit], int | None]:
    """The model to start from, fits that are there already by formula, and their seed."""
    if isinstance(about, Model):
        return about, {}, None
    if isinstance(about, PosteriorFit):
        model = model_of(about.design, about.priors)
        return model, {model.formula: about}, int(about.info.get("seed", 0))
    if isinstance(about, BlupFit):
        return model_of(about.design, default_priors(about.design)), {}, None
    if isinstance(about, Studied):
        pooled = [m for m in about.models.values() if m.design.spec.pooling == "partial"]
        fits = {about.models[name].formula: fit for name, fit in about.fits.items()}
        return pooled[-1], fits, int(fits[pooled[-1].formula].info.get("seed", 0))
    raise ArgumentError(
        f"advise() takes a fit, a model or a study; given: {type(about).__name__}. "
        "Write hp.advise(model.fit())",
        "advice-needs-model",
    )


def model_of(design: Design, priors: ModelPriors) -> Model:
    """The model of a design with these priors."""
    model = object.__new__(Model)
    object.__setattr__(model, "design", design)
    object.__setattr__(model, "priors", priors)
    return model


@dataclass(frozen=True)
class Tried:
    """A model with its fits; without a posterior where that cannot be had here.

    ``scores`` grows as they are asked for: ``"row"``, and the factors that were left out.
    """

    model: Model
    blup: BlupFit
    fit: PosteriorFit | None
    scores: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its formula."""
        return self.model.formula

    @property
    def design(self) -> Design:
        """Its rows and columns."""
        return self.model.design

    @cached_property
    def ml(self) -> BlupFit:
        """Its ML fit, for tests of fixed effects."""
        return self.model.ml()

    def score(self, by: str) -> Any:
        """Leave-one-out by row or by a factor; None where that is no question it can answer."""
        if self.fit is None or (by != "row" and self.design.spec.pooling == "none"):
            return None
        if by not in self.scores:
            self.scores[by] = self.fit.loo(by=by)
        return self.scores[by]


@dataclass
class Bench:
    """Fits and scores models of one table, each once.

    Attributes
    ----------
    given
        The model that advice is asked on.
    draws, seed
        Of the fits that are made here.
    known
        Formula -> a fit that is there already.
    every
        Formula -> what was tried.
    """

    given: Model
    draws: int
    seed: int
    known: Mapping[str, PosteriorFit]
    every: dict[str, Tried] = field(default_factory=dict)

    def design(self, spec: Spec, frame: pd.DataFrame | None = None) -> Design:
        """The rows of the given model in the columns of another."""
        made = build_design(spec, self.given.design.frame if frame is None else frame)
        return replace(made, label=self.given.design.label)

    def tried(self, design: Design) -> Tried:
        """A model fitted by REML and, where it can be afforded, with its posterior."""
        name = design.spec.formula
        if name not in self.every:
            model = model_of(design, self.priors(design))
            self.every[name] = Tried(model, model.reml(), self._posterior(model))
        return self.every[name]

    def priors(self, design: Design) -> ModelPriors:
        """Default priors, with those of the given model in their place where it has its own."""
        given, own = self.given.design, self.given.priors
        if design is given:
            return own
        chosen = default_priors(design)
        if not self.has_own_priors:
            return chosen
        same = design.terms == given.terms and np.array_equal(design.X, given.X)
        blocks = {(b.factor, b.terms, b.eta is None): b for b in own.spread}
        spread = tuple(blocks.get((b.factor, b.terms, b.eta is None), b) for b in chosen.spread)
        population = own.population if same else chosen.population
        return replace(chosen, sigma=own.sigma, population=population, spread=spread)

    @property
    def has_own_priors(self) -> bool:
        """Whether the given model has priors that are no defaults."""

        def known(priors: ModelPriors) -> Any:
            spread = [(b.sd, b.eta) for b in priors.spread]
            return priors.sigma, priors.population.priors, spread

        return bool(known(self.given.priors) != known(default_priors(self.given.design)))

    def _posterior(self, model: Model) -> PosteriorFit | None:
        if found := self.known.get(model.formula):
            return found if found.is_integrable else None
        if not is_integrable(model.priors) or not self.can_afford(model):
            return None
        settings = Settings(self.draws, 0, CHAINS, None, self.seed, "", None, False, {})
        try:
            return engines.fit(model.design, model.priors, "exact", settings)
        except FitError as error:  # its status is in the fit
            return error.fit if isinstance(error.fit, PosteriorFit) else None

    def can_afford(self, model: Model) -> bool:
        """Whether a posterior and its scores take seconds and not minutes."""
        return integrate(model.design, model.priors)[0].work_per_theta <= DEAR


def _left_out(one: Design, other: Design, changed: str) -> str:
    """The factor whose levels both models can be asked to predict, the changed one if it may be."""
    both = [f for f in one.groupings if f in other.groupings]
    return changed if changed in both else next(iter(both), "")


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


def _path(bench: Bench, given: Tried) -> Iterator[Step]:
    """Steps down from the given model; with several factors only the first."""
    here = given
    several = len(given.design.groups) > 1
    for _ in range(1 if several else MOST_STEPS):
        found = [
            _compared(bench.tried(bench.design(option.spec)), here, option)
            for option in _next(bench, here)
        ]
        if not found:
            return
        chosen = _chosen(found)
        for step in found:
            yield step if step is chosen else replace(step, kind="other zero")
        here = bench.every[chosen.name]


def _chosen(found: list[Step]) -> Step:
    """The accepted way, centred, unless only another zero does without the correlation."""
    first, *others = found
    if first.verdict == "not needed":
        return first
    return next((step for step in others if step.verdict == "not needed"), first)


def _next(bench: Bench, here: Tried) -> list[Change]:
    """What can be taken from a model next, the accepted way first."""
    design = here.design
    if design.spec.pooling == "none":
        return [_pooled(design)]
    added = _contributions(here)
    factors = sorted(
        (g.factor for g in design.groups),
        key=lambda f: sum(v for (own, _), v in added.items() if own == f),
    )
    for factor in factors:
        if design.group(factor).has_correlation:
            return _without_correlation(design, factor)
    can_go = [
        (factor, term)
        for factor in factors
        if not any(set(split_factor(factor)) < set(split_factor(f)) for f in factors)
        for term in steps.droppable(steps.varying_terms(design, factor))
    ]
    if not can_go:
        return []
    factor, term = min(can_go, key=lambda pair: added[pair])
    spec = steps.without_term(design, factor, term, bench.given.design.spec.population)
    total = sum(added.values()) + _fixed_variance(here)
    words = _words(design, factor, term)
    share = added[factor, term] / total if total > 0 else np.nan
    return [Change(spec, words, factor=factor, share=share)]


def _pooled(design: Design) -> Change:
    """Partial pooling in place of none."""
    (term,) = design.spec.groups
    right = " + ".join([term.columns, *design.spec.offsets])
    plain = pooling.question(
        f"{design.spec.response} ~ {right}", design.spec.weights, design.spec.known_se
    )
    varying = pooling.slopes_that_vary(plain, design.frame, term.factor)
    if varying:
        spec = pooling.varying_slope_spec(plain, design.frame, term.factor)
    else:
        spec = pooling.varying_intercept_spec(plain, term.factor)
    return Change(spec, f"coefficients of each {term.factor} that share nothing")


def _without_correlation(design: Design, factor: str) -> list[Change]:
    """The model without the correlation: centred, and as it is coded if that is another model."""
    equal = steps.with_equal_categories(design, factor)
    if equal is not None:
        (bar,) = (b for b in design.spec.groups if b.factor == factor)
        inner = bar.columns.split(" + ")[-1]
        return [Change(equal, f"separate variances and correlations of each {inner}")]
    terms = [t.text for t in steps.varying_terms(design, factor)]
    named = [INTERCEPT if t == steps.CONSTANT else t for t in terms]
    what = f"the correlation of {' and '.join(map(_plain, named))}"
    if len(terms) > 2:
        what = f"the correlations of the terms over {factor}"
    spec, moved = steps.centred(design, factor)
    spec = steps.without_correlation(spec, factor)
    if not moved:
        return [Change(spec, what, factor=factor)]
    names = ", ".join(moved)
    as_coded = steps.without_correlation(design.spec, factor)
    return [
        Change(spec, f"{what} at the mean of {names}", factor=factor),
        Change(as_coded, f"{what} where {names} is 0", factor=factor),
    ]


def _plain(text: str) -> str:
    """A centred term by the name of what is centred."""
    return text.removeprefix("center(").removesuffix(")") if text.startswith("center(") else text


def _words(design: Design, factor: str, term: steps.VaryingTerm) -> str:
    """What a term is, in words."""
    if term.is_constant:
        alone = len(design.group(factor).terms) == 1
        return f"{WHOLE}{factor}" if alone else f"the intercepts of {factor}"
    if term.text in steps.categories(design):
        return f"the differences of {term.text} over {factor}"
    return f"the slope of {_plain(term.text)} over {factor}"


def _contributions(tried: Tried) -> dict[tuple[str, steps.VaryingTerm], float]:
    """What each varying term adds to the variance of the fitted response, mean over the rows."""
    out = {}
    for group in tried.design.groups:
        if tried.fit is not None:
            sd = tried.fit.variable(f"sd_{group.factor}").to_numpy()
            variances = np.square(sd).mean(axis=(0, 1))
        else:
            variances = np.square(tried.blup.estimate.of(group.factor).sd)
        each = variances * np.square(group.Z).mean(axis=0)
        for term in steps.varying_terms(tried.design, group.factor):
            out[group.factor, term] = float(each[list(term.columns)].sum())
    return out


def _fixed_variance(tried: Tried) -> float:
    return float(np.var(tried.design.X @ tried.blup.estimate.beta, ddof=1))


def _compared(other: Tried, here: Tried, change: Change) -> Step:
    """A model beside the one that it is compared with."""
    richer = change.kind == "richer"
    smaller, larger = (here, other) if richer else (other, here)
    test = likelihood_ratio(smaller.blup, larger.blup)
    shift, shifted = _shift(smaller, larger)
    factor = _left_out(smaller.design, larger.design, change.factor)
    evidence = Evidence(
        *test,
        row=_difference(smaller, larger, "row"),
        group=_difference(smaller, larger, factor) if factor else None,
        left_out=factor,
        share=change.share,
        shift=shift,
        shifted=shifted,
    )
    return Step(other.name, change.kind, change.words, here.name, evidence, change.why)


def likelihood_ratio(smaller: BlupFit, larger: BlupFit) -> tuple[float, float, float, str]:
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
        return np.nan, np.nan, np.nan, ""
    except ComparisonError:
        # Equal variances and covariances: a linear restriction inside the larger model.
        df, why = larger.estimate.n_parameters - smaller.estimate.n_parameters, ""
        if df < 1 or len(smaller.design.groups) <= len(larger.design.groups):
            return np.nan, np.nan, np.nan, ""
    method: Method = "ML" if larger.method == "ML" else "REML"
    logliks = [ratio.loglik_by(fit, method) for fit in pair]
    statistic = max(2 * (logliks[1] - logliks[0]), 0.0)
    return statistic, df, float(special.chdtrc(df, statistic)), f"chi-squared with {df} df{why}"


def _never(*_: Any) -> Any:
    raise AssertionError("nothing is simulated here")


def _difference(smaller: Tried, larger: Tried, by: str) -> Difference | None:
    """elpd of the smaller model less that of the larger, by the points that are left out."""
    one, other = smaller.score(by), larger.score(by)
    if one is None or other is None:
        return None
    each = one.elpd_i.to_numpy() - other.elpd_i.to_numpy()
    return Difference(float(each.sum()), float(np.sqrt(len(each)) * each.std()))


def _shift(smaller: Tried, larger: Tried) -> tuple[float, str]:
    """Largest change of a fixed effect in its standard errors in the larger model, and its name.

    In the coding of the larger model; NaN where the fixed effects are not the same.
    """
    X, terms, e = larger.design.X, larger.design.terms, larger.blup.estimate
    if not terms or smaller.design.X.shape != X.shape:
        return np.nan, ""
    size = np.linalg.norm(X, axis=0)
    moved, *_ = np.linalg.lstsq(X / size, smaller.design.X @ smaller.blup.estimate.beta)
    change = np.abs(moved / size - e.beta) / np.sqrt(np.diag(e.beta_covariance))
    at = int(np.argmax(change))
    return float(change[at]), terms[at]


def _richer(bench: Bench, given: Tried, codes: set[str]) -> Iterator[Step]:
    """What the rows ask for: tested first, then fitted and scored where the test is clear."""
    if given.design.spec.pooling == "none":
        return
    for change in _additions(bench, given):
        try:
            design = bench.design(change.spec, change.frame)
            larger = model_of(design, bench.priors(design))
        except (DataError, FormulaError):  # the rows cannot tell it
            continue
        same = design.terms == given.design.terms
        pair = (given.blup, larger.reml()) if same else (given.ml, larger.ml())
        if likelihood_ratio(*pair)[2] < (ASKED_BELOW if change.code in codes else NEEDED_BELOW):
            yield _compared(bench.tried(design), given, change)


def _additions(bench: Bench, given: Tried) -> Iterator[Change]:
    """A square, a slope that varies, the means over levels, of each number in the formula."""
    design, spec = given.design, given.design.spec
    if not spec.groups and spec.grouping:
        term = GroupTerm("1", spec.grouping)
        made = replace(steps.with_groups(spec, (term,)), grouping=None)
        why = f"rows of one {spec.grouping} are more alike than those of several."
        yield Change(made, f"(1 | {factor_text(spec.grouping)})", "richer", why)
    for column in steps.lone_numbers(design)[:MOST_TRIED]:
        if square := steps.square_of(design, column):
            why = f"{spec.response} is not a straight line in {column}."
            made = steps.with_column(spec, square)
            yield Change(made, square, "richer", why, code="curvature")
        for factor in (g.factor for g in design.groups):
            if ":" not in factor and steps.varies_within(design, column, factor):
                yield from _of_factor(design, column, factor)


def _of_factor(design: Design, column: str, factor: str) -> Iterator[Change]:
    """A slope of a column that varies over a factor, and its means over the levels."""
    name, spec = steps.quote(column), design.spec
    used = [t.text for t in steps.varying_terms(design, factor)]
    if name not in used and f"center({name})" not in used:
        made = steps.with_slope(spec, factor, name)
        why = f"levels of {factor} differ in it."
        if made is not None:
            yield Change(made, f"the slope of {column} over {factor}", "richer", why, factor=factor)
    means = steps.level_means(design, column, factor)
    if means is not None:
        mean, frame = means
        why = (
            f"levels of {factor} with a higher {column} differ by more or less than rows within a "
            f"level do, data[{mean!r}] = data.groupby({factor!r})[{column!r}].transform('mean')."
        )
        made = steps.with_column(spec, steps.quote(mean))
        yield Change(made, mean, "richer", why, frame, factor, code="contextual-effect")


def _notes(bench: Bench, given: Tried, path: list[Step]) -> Iterator[str]:
    """What else to know."""
    status = given.blup.status
    if status.word == "singular":
        yield f"REML of the given model is {status}"
    zeros = [s for s in path if " at the mean of " in s.change or s.kind == "other zero"]
    if zeros:
        word = {"needed": "is needed", "not needed": "is not needed", "undecided": "may be needed"}
        said = [f"{s.change} {word[s.verdict]} (p {said_p(s.evidence.p)})" for s in zeros]
        yield (
            "(x || g) says that intercept and slope are uncorrelated where x is 0, so it is another "
            f"model for each zero: {', '.join(said)}. The predictor was centred first, and its own "
            "zero tried beside it."
        )
    whole = [s for s in path if s.change.startswith(WHOLE) and s.verdict != "needed"]
    for factor in (s.change.removeprefix(WHOLE) for s in whole):
        yield (
            f"If {factor} belongs to how the data were collected, it may stay whatever a test says: "
            f"without it rows of one {factor} count as independent."
        )
    if sum(s.kind == "richer" for s in path) > 1:
        yield (
            "What is missing was tried one at a time, and one thing can look like another: take the "
            "first, and ask again."
        )
    if len(given.design.groups) > 1:
        yield "With several factors only the next step was tried; ask again from there."
    if given.fit is None:
        yield (
            "There are no leave-one-out scores: this model's priors are not normal, or it is too "
            "large to be fitted several times here. The verdicts rest on the likelihood ratios."
        )
    if bench.has_own_priors:
        yield (
            "Your priors were kept where a model has the same term in the same coding; all others "
            "are defaults."
        )


def _elsewhere(findings: Findings) -> Iterator[str]:
    """What residuals ask for and hierpool does not have, and who does."""
    for who in dict.fromkeys(ELSEWHERE.values()):
        asked = [
            finding.text
            for finding in findings
            if ELSEWHERE.get(finding.code) == who and finding.severity != "note"
        ]
        if asked:
            yield " ".join([*asked, who])
