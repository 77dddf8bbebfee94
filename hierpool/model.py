"""Model: one formula on one table, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hierpool.bayes.choose import ENGINES, Engine
from hierpool.bayes.nuts.parameterization import (
    Asked,
    ByTerm,
    Near,
    Parameterization,
    Seen,
    in_order,
    noncentered,
    settled,
)
from hierpool.bayes.priors.from_user import with_user_priors
from hierpool.bayes.priors.model_priors import ModelPriors, default_priors
from hierpool.bayes.run import JudgedRun, SamplerSettings
from hierpool.core.arguments import check_choice, check_count
from hierpool.core.design import Design
from hierpool.core.errors import (
    ArgumentError,
    DataError,
    FitError,
    HierpoolError,
    UnsupportedModelError,
    nearest,
)
from hierpool.core.families.family import Family
from hierpool.core.families.table import resolve
from hierpool.core.findings import Finding
from hierpool.core.group_nouns import counted, nouns
from hierpool.core.printable import one_line
from hierpool.core.results import Estimate
from hierpool.core.spec import Spec
from hierpool.fits.optimum import LikelihoodFit
from hierpool.fits.posterior import PosteriorFit
from hierpool.formula.build import build_design
from hierpool.formula.parse import parse, with_family, with_residuals
from hierpool.formula.relationships import with_relationships
from hierpool.formula.residual_terms import split_formula, with_structure, with_term
from hierpool.reml import estimate, pooling_limits
from hierpool.reml.variance_left import variance_left
from hierpool.sas.proc_mixed import ProcMixed
from hierpool.tables.moments import Moments, summed

if TYPE_CHECKING:
    import pandas as pd
    import pymc
    import xarray as xr

_SAMPLERS = ("nutpie", "pymc", "numpyro", "blackjax")
_LEAST = {"tune": 0, "seed": 0, "draws": 4}  # R-hat and ESS are not defined for fewer draws
_PYMC_NAMES = {
    "random_seed": "seed",
    "nuts_sampler": "sampler",
    "progressbar": "progress",
    "njobs": "cores",
    "nuts": "options",
    "n_draws": "draws",
    "samples": "draws",
    "num_samples": "draws",
    "warmup": "tune",
    "num_warmup": "tune",
    "iter": "draws",
    "adapt_delta": "target_accept",
}


@dataclass(frozen=True, repr=False)
class Model:
    """A model of grouped data: rows, columns and priors, ready to be fitted.

    Parameters
    ----------
    formula
        In lme4's notation, e.g. ``"Reaction ~ Days + (Days | Subject)"``. ``offset(x)`` is added
        to the expected value with coefficient 1.
    data
        A pandas DataFrame, or any table that narwhals can read (polars, pyarrow, ...). A table that
        is not in memory is not read: of a path (``"data/*.parquet"``), a lazy frame of polars, a
        relation of DuckDB, a table of ibis or Spark the sums are taken where it is, as by
        ``hp.collect``. Or the moments that it gives.
    priors
        Name -> prior, in place of the default: ``{"sigma": hp.Prior("HalfNormal", sigma=10)}``.
        A name is a parameter of the printed table, a term (``"Days"``), a factor, or one of
        ``"beta"``, ``"sd_<factor>"`` and ``"coef_<factor>"`` for all parameters of that kind.
        PreliZ distributions and PyMC variables (``pm.HalfNormal.dist(10)``) are accepted too.
        Priors that you give refer to uncentred predictors. Setting one prior moves the other
        priors of that term to the uncentred scale.
    family
        Of the response; None: Gaussian. ``"bernoulli"`` (0 and 1, or two labels), ``"binomial"``
        (``"successes / trials ~ ..."``), ``"poisson"``, ``"negbinomial"``, ``"ordinal"`` (ratings),
        ``"student"`` (heavy tails), ``"gamma"``, ``"beta"`` (shares), ``"zero_inflated_poisson"``,
        ``"zero_inflated_negbinomial"``, ``"hurdle_poisson"``, ``"hurdle_negbinomial"``; or one of
        ``hp.families``.
    link
        ``"logit"``, ``"probit"``, ``"cloglog"``, ``"log"``; None: the family's usual one.
    trials
        Column of the numbers of trials of a binomial response, in place of ``y / n`` in the formula.
    weights
        Column of weights. Gaussian responses, as in lme4 and SAS: the residual variance of a row is
        sigma^2 / weight, and sigma is estimated; weights describe precision, not frequency. With a
        family they multiply the log density of the row, so that a weight of 3 is three such rows.
    known_se
        Column of standard errors: the residual sd of each row is known, as in a meta-analysis,
        and there is no sigma. The defaults of the other priors do not change; they are scaled by
        the sd of the response. Each group may then have a single row.
    residual
        How the residuals of a group are correlated, ``"ar1(time | pig)"``: a structure, the column
        of times or occasions, and the groups, which are independent of each other. ``ar1``
        (occasions, gaps allowed), ``car1`` (any times), ``cs``, ``toep``, ``ad1``, ``arma11``;
        ``symm`` (any correlation); ``us`` (any covariance), ``ar1h``, ``csh``, ``toeph``, ``ad1h`` with
        an sd for each occasion. ``by=sex`` gives each category parameters of its own,
        ``nugget=True`` independent differences of rows beside the correlation. The same may stand in
        the formula.
    sigma
        What the residual sd depends on: ``"~ diet"`` for a residual sd of each class,
        ``"~ time"`` or ``"~ log(time)"`` for one that changes with a number.
    relationship
        How groups are related, factor -> pedigree or matrix: ``{"animal": pedigree}``. A pedigree has
        columns animal, sire and dam, empty where a parent is unknown; parents need no row of their
        own, and inbreeding is taken into account. A matrix is a DataFrame with the same labels on both
        axes: a covariance (kinship, phylogeny, space), or ``{"precision": matrix}``; it is divided by
        the geometric mean of its diagonal. For terms ``(1 | animal)``, beside any others. Beside
        ``residual=`` and ``sigma=``, and by NUTS for each family, up to 3,000 groups with rows.

    Attributes
    ----------
    design
        The rows and columns.
    priors
        A table that prints: each prior with its meaning in the response's units.
    sas
        How the program was understood, of a model of ``hp.from_sas``; else None.

    Raises
    ------
    FormulaError
        The formula cannot be read; a caret shows where.
    DataError
        The data cannot be used with this formula; the message says what to change.
    PriorError
        A prior that is misnamed, improper or of the wrong support.
    """

    design: Design
    priors: ModelPriors
    sas: ProcMixed | None = None

    def __init__(
        self,
        formula: str | Spec | Moments,
        data: Any = None,
        priors: Mapping[str, Any] | None = None,
        *,
        family: str | Family | None = None,
        link: str | None = None,
        trials: str | None = None,
        weights: str | None = None,
        known_se: str | None = None,
        residual: str | None = None,
        sigma: str | None = None,
        relationship: Mapping[str, Any] | None = None,
    ) -> None:
        asked, own = formula, None
        if isinstance(asked, Moments):
            asked, data = asked.spec, asked
        if not isinstance(asked, Spec):
            asked, own = split_formula(asked)
        spec = asked if isinstance(asked, Spec) else parse(asked, data)
        spec = with_residuals(spec, weights, known_se)
        if not isinstance(asked, Spec):
            spec = with_family(spec, resolve(family, link), trials)
        if own is not None:
            spec = with_term(spec, replace(spec.residual, correlation=own))
        spec = with_structure(spec, residual, sigma)
        spec = with_relationships(spec, relationship)
        spec, data = summed(spec, data)
        design = build_design(spec, data)
        object.__setattr__(self, "design", design)
        object.__setattr__(self, "priors", chosen_priors(design, priors))

    @classmethod
    def from_design(cls, design: Design, priors: ModelPriors | None = None) -> Model:
        """The model of rows and columns that are made already, by default with default priors."""
        model = object.__new__(cls)
        object.__setattr__(model, "design", design)
        object.__setattr__(
            model, "priors", default_priors(design.schema) if priors is None else priors
        )
        return model

    def with_priors(self, priors: Mapping[str, Any]) -> Model:
        """The same model with these priors, and defaults for all others."""
        return Model.from_design(self.design, chosen_priors(self.design, priors))

    @property
    def formula(self) -> str:
        """The formula, in lme4's notation."""
        return self.design.spec.formula

    @property
    def notices(self) -> tuple[Finding, ...]:
        """Notices about the data: rows left out, unused categories, common terms."""
        return self.design.notices

    def to_pymc(self, parameterization: Asked = "auto") -> pymc.Model:
        """An ordinary ``pymc.Model`` of the same model, every coefficient explicit.

        Parameters
        ----------
        parameterization
            ``"noncentered"``: standard normals scaled by the sds, for terms of which each group's
            own rows say little. ``"centered"``: the group's coefficients themselves, around the
            population's, for terms of which they say much. ``"partial"``: standard normals less
            what the group's rows say of them, whether that is much or little; the rows of each
            group and the sds of each draw decide. ``"auto"`` is partial for the factor with most
            groups, and for others one of the first two, by their shrinkage in the REML fit. By
            factor or by factor and term, too: ``{"boar": "centered"}``,
            ``{"boar": {"time": "noncentered"}}``.

        Raises
        ------
        ArgumentError
            An unknown word, factor or term.
        """
        from hierpool.bayes.nuts import pymc_model

        seen = _seen_by_nuts(self.design, parameterization)
        return pymc_model.build(self.design, self.priors, seen.by_term, seen.near)

    def fit(
        self,
        engine: Literal["auto", "exact", "nuts"] = "auto",
        *,
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        cores: int | None = None,
        seed: int | None = None,
        sampler: str = "nutpie",
        target_accept: float | None = 0.95,
        parameterization: Asked = "auto",
        progress: bool = True,
        options: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> PosteriorFit:
        """Draw from the posterior.

        Parameters
        ----------
        engine
            ``"exact"``: coefficients integrated out, theta sampled in milliseconds; raises an
            error, with the fit in ``error.fit``, if its draws are unreliable. ``"nuts"``: NUTS on
            the full PyMC model. ``"auto"``: exact if the model allows it; otherwise, or if the
            draws are unreliable, NUTS, with a message.
        draws, tune, chains
            Draws and warm-up draws of each chain, and number of chains.
        cores
            Processes or threads to use; None for as many as there are, at most one a chain.
        seed
            The same seed gives the same draws on one machine and version. None: a fresh seed,
            recorded in ``fit.info``.
        sampler
            ``"nutpie"``, ``"pymc"``, ``"numpyro"`` or ``"blackjax"``; for NUTS only.
        target_accept
            Acceptance that NUTS aims for; lower takes larger steps and is faster, with more
            divergences where groups are few. None for the sampler's own default.
        parameterization
            For NUTS only, as in ``to_pymc``. ``fit.info["parameterization"]`` has what was used.
        progress
            Show a bar on anything over a second.
        options
            What only this sampler knows, passed on after a check of the names.

        Raises
        ------
        ArgumentError
            An unknown argument or choice.
        FitError
            ``engine="exact"`` and draws that cannot be trusted; ``error.fit`` has them.
        MissingPackageError
            The sampler's package is not installed.
        """
        _check_arguments(
            unknown, engine, draws=draws, tune=tune, chains=chains, cores=cores, seed=seed
        )
        if sampler not in _SAMPLERS:
            raise ArgumentError(
                f"unknown sampler {sampler!r}: {nearest(sampler, _SAMPLERS)}", "unknown-sampler"
            )
        if target_accept is not None and not 0 < target_accept < 1:
            raise ArgumentError(
                f"target_accept={target_accept!r} must be between 0 and 1, e.g. 0.9",
                "sampler-argument",
            )
        from hierpool.bayes import choose

        settings = SamplerSettings(
            draws,
            tune,
            chains,
            cores,
            choose.fresh_seed() if seed is None else seed,
            sampler,
            target_accept,
            progress,
            dict(options or {}),
        )
        settled(parameterization, self.design, lambda: noncentered(self.design))  # before any work
        return fitted(self.design, self.priors, engine, settings, parameterization)

    def prior_predictive(self, draws: int = 500, seed: int | None = None) -> xr.DataTree:
        """Draws from the priors and the responses they predict, before the data are looked at.

        Returns
        -------
        DataTree
            Groups ``prior`` (variables as in a posterior), ``prior_predictive`` (``y``, dims
            chain, draw, obs) and ``observed_data``: what ``az.plot_ppc_dist`` and others read.
        """
        from hierpool.bayes import choose
        from hierpool.bayes.simulate import prior_tree

        _check_arguments({}, "auto", draws=draws, seed=seed)
        return prior_tree(
            self.design, self.priors, draws, choose.fresh_seed() if seed is None else seed
        )

    def prior_check(self, draws: int = 500, seed: int | None = None) -> pd.DataFrame:
        """Statistics of the data compared with the prior predictive distribution.

        Index (factor, statistic): sd and extremes of group means and of slopes within groups, sd
        within groups, extremes of rows. ``observed``; ``mean``, ``median``, ``sd`` and interval
        of responses simulated from the priors; ``p``, the share of these that is larger. If ``p``
        is near 0 or 1, the data are far out in the prior predictive distribution. Medians far
        above the observed value mean vague priors.
        """
        from hierpool.checks.accuracy import replicated

        drawn = self.prior_predictive(draws, 0 if seed is None else seed)
        responses = drawn["prior_predictive"]["y"].to_numpy()[0].T
        return replicated.compared(self.design, responses, "data")

    def reml(self) -> LikelihoodFit:
        """REML fit with BLUPs; least squares for complete and no pooling, its limits."""
        return optimum(self.design, "REML")

    def ml(self) -> LikelihoodFit:
        """Maximum-likelihood fit with BLUPs; least squares for complete and no pooling."""
        return optimum(self.design, "ML")

    @cached_property
    def _sizes(self) -> str:
        source = self.design.label or ("a table, as sums" if self.design.is_summed else "the data")
        lines = [f"rows    {self.design.n} of {source}"]
        for factor, grouping in self.design.groupings.items():
            rows = grouping.n_rows
            lines.append(
                f"groups  {counted(grouping.n_levels, factor)}, rows per group min {rows.min()}, "
                f"median {np.median(rows):g}, max {rows.max()}"
            )
        for group in self.design.groups:
            if group.schema.related is not None:
                lines.append(f"related {group.factor}: {group.schema.related.relationship}")
        spec = self.design.spec
        column = spec.residual.column
        if spec.family is not None:
            lines.insert(0, f"family  {self.design.family}{_event(self.design.family)}")
            if column:
                lines.append(f"weights {column}: multiply the log density of each row")
        if spec.residual.structure == "weights":
            lines.append(f"weights {column}: residual variance sigma^2 / {column}")
        if spec.residual.structure == "known_se":
            lines.append(f"residual sd known: {column}")
        if spec.residual.is_structured:
            lines.append(f"residuals {spec.residual.words}")
        return "\n".join(map(one_line, lines))

    def __repr__(self) -> str:
        pooled = {
            "complete": "complete pooling",
            "none": "no pooling",
            "partial": "partial pooling",
        }
        head = one_line(f"Model {self.formula}   ({pooled[self.design.spec.pooling]})")
        notices = [str(f) for f in self.notices]
        return "\n".join([head, self._sizes, *notices, "priors", repr(self.priors)])

    def _repr_html_(self) -> str:
        from html import escape

        head = "<br>".join(escape(line) for line in repr(self).split("\npriors\n")[0].splitlines())
        return f"<p>{head}</p>{self.priors._repr_html_()}"


def _event(family: Family | None) -> str:
    """What the probability of two labels is of, and how to turn it round."""
    event = getattr(family, "event", None)
    if event is None:
        return ""
    return f", the probability of {event!r}; hp.families.Bernoulli(event=...) turns it round"


def chosen_priors(design: Design, priors: Mapping[str, Any] | None) -> ModelPriors:
    """The user's priors, and defaults for all others."""
    chosen = default_priors(design.schema)
    return chosen if priors is None else with_user_priors(chosen, design, priors)


def optimum(design: Design, method: Literal["REML", "ML"]) -> LikelihoodFit:
    """REML or ML fit of a design; least squares for complete and no pooling, the limits of both.

    Raises
    ------
    DataError
        More coefficients than rows: known residual sds leave a posterior, and nothing to maximise.
    """
    pooled = design.spec.pooling
    if design.family is not None:
        return _family_optimum(design, design.family, method)
    if design.samples_scales:
        raise UnsupportedModelError(_no_maximum(design), "scales-need-posterior")
    if design.scale_factor and method == "ML":
        from hierpool.reml.random_scale import maximum_likelihood

        return LikelihoodFit(design, maximum_likelihood(design))
    if len(design.terms) > design.n:
        raise DataError(
            f"{design.spec.formula} has {len(design.terms)} coefficients for {design.n} rows, too "
            f"many for least squares, REML and ML. With known_se={design.spec.residual.column!r} "
            "and proper priors there is a posterior: model.fit()",
            "no-residual-df",
        )
    if pooled == "complete" and not design.spec.residual.is_structured:
        return LikelihoodFit(design, pooling_limits.complete_pooling(design))
    if pooled == "none":
        return LikelihoodFit(design, pooling_limits.no_pooling(design))
    return LikelihoodFit(design, estimate.estimate(design, method))


def _no_maximum(design: Design) -> str:
    """Why residual sds of groups beside other factors have no optimum, and what to type instead."""
    own, spec = design.scale_factor, design.spec
    kept = [str(term) for term in spec.groups if term.factor == own]
    bars = " + ".join([spec.without_bars, *kept])
    return (
        f"{spec.shown} has no REML and no maximum likelihood, since residual sds that differ between "
        f"{nouns(own)} beside random effects of other groups cannot be integrated one by one. Use "
        f"model.fit(), which samples them; or, with model.ml(), '{spec.left} ~ {bars}' and the same "
        "sigma="
    )


def best_optimum(design: Design) -> LikelihoodFit | None:
    """REML, or maximum likelihood where there is no REML; None where there is neither.

    Raises
    ------
    DataError
        As ``optimum``, of a Gaussian response.
    """
    if design.family is None and not design.scale_factor:
        return optimum(design, "REML")
    try:
        return optimum(design, "ML")
    except HierpoolError:
        return None


def _family_optimum(design: Design, family: Family, method: Literal["REML", "ML"]) -> LikelihoodFit:
    """Maximum likelihood of a response that is not Gaussian.

    Raises
    ------
    UnsupportedModelError
        REML, which integrates the coefficients over a flat prior: there is none here.
    """
    if method == "REML":
        raise UnsupportedModelError(
            f"{design.spec.formula} has family={family.name!r}, and REML is for Gaussian responses: "
            "use model.ml(), maximum likelihood",
            "no-reml",
        )
    from hierpool.reml.families.maximum_likelihood import maximum_likelihood

    return LikelihoodFit(design, maximum_likelihood(design))


def fitted(
    design: Design,
    priors: ModelPriors,
    engine: Engine,
    settings: SamplerSettings,
    parameterization: Asked = "auto",
) -> PosteriorFit:
    """The posterior of a design under these priors; a FitError carries it as well."""
    from hierpool.bayes import choose

    try:
        seen = partial(_seen_by_nuts, design, parameterization)
        run = choose.run(design, priors, engine, settings, seen)
        return PosteriorFit.from_run(design, priors, run)
    except FitError as error:
        if isinstance(error.fit, JudgedRun):
            error.fit = PosteriorFit.from_run(design, priors, error.fit)
        raise


def _seen_by_nuts(design: Design, asked: Asked) -> Seen:
    """How NUTS sees the coefficients: as asked for, else as chosen by the REML optimum."""
    if design.family is not None:
        return Seen(settled(asked, design, lambda: noncentered(design)))
    if design.scale_factor:  # as if groups had one residual sd
        from hierpool.reml.random_scale import without_scales

        design = without_scales(design)
    try:
        found = optimum(design, "REML").estimate
    except HierpoolError:  # no optimum, as with fewer rows than coefficients
        return Seen(settled(asked, design, lambda: _parameterization(design, None)))
    near = Near(found.beta, found.beta_covariance)
    return Seen(settled(asked, design, lambda: _parameterization(design, found)), near)


def _parameterization(design: Design, optimum: Estimate | None) -> ByTerm:
    """Partial for the factor with most levels, which is sampled given the others.

    Of the others a term is centred where the groups' own rows say more of it than its
    distribution does: where its deviations, given those of the terms before it, keep less than
    half of their variance once the rows are known, on average over the groups.
    """
    chosen: dict[str, dict[str, Parameterization]] = {}
    *outer, last = in_order(design) or (None,)
    for group in filter(None, outer):
        chosen[group.factor] = dict.fromkeys(group.terms, "noncentered")
        if optimum is not None:
            left = variance_left(design, optimum, group.factor)
            says_more = [term for term, share in zip(group.terms, left, strict=True) if share < 0.5]
            chosen[group.factor] |= dict.fromkeys(says_more, "centered")
    if last is not None:
        chosen[last.factor] = dict.fromkeys(last.terms, "partial")
    return chosen


def _check_arguments(unknown: Mapping[str, Any], engine: str, **counts: Any) -> None:
    for name in unknown:
        known = [
            "draws",
            "tune",
            "chains",
            "cores",
            "seed",
            "sampler",
            "target_accept",
            "parameterization",
            "progress",
            "options",
        ]
        hint = (
            f"did you mean {_PYMC_NAMES[name]!r}?" if name in _PYMC_NAMES else nearest(name, known)
        )
        raise ArgumentError(f"fit() has no argument {name!r}: {hint}", "unknown-argument")
    check_choice("engine", engine, ENGINES)
    for name, value in counts.items():
        if value is None:
            continue
        check_count(name, value, _LEAST.get(name, 1))
