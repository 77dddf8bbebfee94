"""PosteriorFit and BlupFit: what the user holds. They join algebra, checks and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.bayes.priors import ModelPriors
from hierpool.bayes.theta import Theta, ThetaMap, integrate
from hierpool.checks.threads import in_threads
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import ArgumentError, UnsupportedModelError
from hierpool.core.integrated import Integrated
from hierpool.core.integrated_one import IntegratedOne
from hierpool.core.partition import Partition
from hierpool.core.printable import one_line, printable
from hierpool.core.results import OBS_DIM, Estimate, Status, row_labels
from hierpool.core.tables import (
    level_index,
    level_table,
    pair_positions,
    pair_values,
    root_of_diagonal,
    spread_index,
    spread_name,
)
from hierpool.data.contrasts import type_three
from hierpool.reml import inference, intervals

if TYPE_CHECKING:
    from os import PathLike

    from hierpool.answers.newrows import Kind, Levels

AFFORDABLE = 4e10  # operations that a question to a posterior may take
CHEAP = 1e10  # and those that a table of means may take, before it is made of draws alone
_R2 = pd.Index(["marginal", "conditional"], name="r2")


@dataclass(frozen=True, repr=False)
class BlupFit:
    """A REML, ML or least-squares fit: estimates, standard errors and BLUPs.

    Attributes
    ----------
    design
        The rows that were fitted.
    estimate
        Every number, as plain arrays in the user's coding.
    """

    design: Design
    estimate: Estimate

    @property
    def method(self) -> str:
        """Which fit it is: "REML", "ML" or "least squares"."""
        return self.estimate.method

    @property
    def status(self) -> Status:
        """Whether to trust it; ``singular`` is an optimum on the boundary, not a failure."""
        return self.estimate.status

    @property
    def loglik(self) -> float:
        """Log-likelihood; the restricted one, in the user's coding, for REML."""
        return self.estimate.loglik

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 loglik + 2 parameters."""
        return -2 * self.loglik + 2 * self.estimate.n_parameters

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 loglik + log(rows) parameters, as lme4 counts them."""
        return -2 * self.loglik + float(np.log(self.design.n)) * self.estimate.n_parameters

    def fixed_effects(
        self, df: inference.Df = "satterthwaite", level: float = 0.95
    ) -> pd.DataFrame:
        """Population coefficients: ``estimate``, ``se``, ``df``, ``t``, ``p`` and an interval.

        Parameters
        ----------
        df
            ``"satterthwaite"``: as lmerTest, from the curvature of the criterion. A variance that
            is estimated as zero counts as known. ``"kenward-roger"``: as pbkrtest, for REML fits
            only; standard errors are adjusted upwards too. ``"residual"``: rows less coefficients,
            too many wherever levels differ. ``"normal"``: infinite, and the column is called
            ``z``. Least squares has its residual df, whichever is asked; where residual sds are
            known and nothing else is estimated, df are infinite.
        level
            Probability of the interval, columns ``ci95_lb`` and ``ci95_ub``.

        Raises
        ------
        UnsupportedModelError
            Kenward and Roger's method for a fit that is not REML, or with several factors that
            have more than 4,000 coefficients of levels.

        References
        ----------
        Kuznetsova, Brockhoff, Christensen (2017), J. Stat. Softw. 82(13).
        Kenward, Roger (1997), Biometrics 53, 983-997.
        """
        return inference.coefficients(self.design, self.estimate, df, level)

    def anova(self, df: inference.Df = "satterthwaite") -> pd.DataFrame:
        """Type III F tests of the terms of the formula: ``num_df``, ``den_df``, ``F``, ``p``.

        A term is tested at the unweighted average over the categories that it interacts with, and
        where numeric predictors that it interacts with are zero (centre those): so it does not
        matter which category comes first. With empty cells or collinear columns the part of the
        hypothesis that is estimable is tested: ``num_df`` counts it, and where it is 0 the rest is
        NaN.

        Parameters
        ----------
        df
            As in ``fixed_effects``.
        """
        if self.design.spec.pooling == "none":
            raise UnsupportedModelError(
                "no pooling has no terms to test: each level has coefficients of its own. Test "
                "them under partial pooling, hp.varying_slope(...).reml().anova().",
                "no-terms",
            )
        return inference.anova(self.design, self.estimate, type_three(self.design), df)

    def confint(
        self,
        method: intervals.IntervalMethod = "profile",
        level: float = 0.95,
        *,
        quantities: Sequence[str] | None = None,
        simulations: int = 500,
        seed: int | None = None,
        cores: int | None = None,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Intervals of fixed effects, standard deviations and correlations.

        Index ``quantity`` (``beta[Days]``, ``sd_Subject[Days]``, ``sigma``), columns ``estimate``
        (of this fit), ``ci95_lb``, ``ci95_ub``. ``attrs`` of the table says how it was made.

        Parameters
        ----------
        method
            ``"profile"``: profile likelihood of ML, also for a REML fit, as lme4 does. An interval
            of a standard deviation begins at 0, and one of a correlation ends at -1 or 1, where
            the likelihood cannot exclude it. ``"bootstrap"``: percentiles of refits to responses
            simulated from this fit. ``"wald"``: estimate and standard error, of the fixed effects
            only, since those of standard deviations are far from normal. Least squares has its
            exact intervals (t, chi-squared) in place of profile and Wald.
        level
            Probability of the intervals.
        quantities
            Names of the rows that are wanted; None for all. A profile takes some twenty fits a row.
        simulations, seed, cores, progress
            Of the bootstrap. ``attrs`` holds the seed, and counts the refits that failed.

        References
        ----------
        Bates, Maechler, Bolker, Walker (2015), J. Stat. Softw. 67(1), section 5.
        """
        each = partial(in_threads, what="bootstrap", cores=cores, progress=progress)
        how = intervals.Simulations(simulations, seed, each)
        return intervals.confidence_intervals(
            self.design, self.estimate, method, level, quantities, how
        )

    def random_effects(self, conditional: bool = False) -> pd.DataFrame:
        """BLUPs of the levels: index (factor, level, term), columns ``estimate``, ``se``.

        Parameters
        ----------
        conditional
            False: ``se`` is the root of Henderson's prediction error variance Var(u_hat - u).
            True: the root of Var(u | y, theta, beta), lme4's condVar, which takes the fixed
            effects for known.

        References
        ----------
        Henderson (1975), Biometrics 31, 423-447.
        """
        tables = []
        for group in _pooled_groups(self.design, "random effects"):
            e = self.estimate.of(group.factor)
            se = root_of_diagonal(e.u_condvar if conditional else e.u_pev)
            tables.append(level_table(group, {"estimate": e.u, "se": se}))
        return pd.concat(tables)

    blup = random_effects

    def coefficients(self) -> pd.DataFrame:
        """Coefficients of each level (fixed plus random): columns ``estimate``, ``se``.

        With several factors those of a level of one factor where the others are at their average.
        NaN where the rows of a level cannot tell a coefficient (no pooling only).
        """
        tables = []
        for group in _any_groups(self.design, "coefficients"):
            e = self.estimate.of(group.factor)
            se = root_of_diagonal(e.coef_covariance)
            tables.append(level_table(group, {"estimate": e.coef, "se": se}))
        return pd.concat(tables)

    def coefficient_moments(self, factor: str) -> tuple[np.ndarray, np.ndarray]:
        """Estimates (J, q) and error covariances (J, q, q) of the coefficients of each level."""
        e = self.estimate.of(factor)
        return e.coef, e.coef_covariance

    def variance_components(self) -> pd.DataFrame:
        """Standard deviations and correlations, the residual sd last unless those are known.

        Index (factor, parameter, term, term_bis), columns ``estimate``, ``se``; ``se`` from the
        observed information, NaN on the boundary, where it means nothing.
        """
        e, table = self.estimate, spread_index(self.design)
        estimate: list[float] = []
        se: list[float] = []
        for group in self.design.groups:
            if group.is_pooled:
                own = e.of(group.factor)
                estimate += [*own.sd, *pair_values(group, own.corr)]
                se += [*own.sd_se, *pair_values(group, own.corr_se)]
        if self.design.has_sigma:
            estimate, se = [*estimate, e.sigma], [*se, e.sigma_se]
        table["estimate"], table["se"] = np.array(estimate), np.array(se)
        return table

    def icc(self) -> pd.DataFrame:
        """Intraclass correlations: index ``factor``, column ``icc``.

        A factor's share of what is random: its variance over the sum of all factors' and the
        residual one. With slopes it is stated at the mean of the columns that vary. Of a factor
        that is nested in another it is the share beyond the other's. Residual variances that
        differ over rows are averaged.
        """
        factors = [g.factor for g in _pooled_groups(self.design, "intraclass correlations")]
        index = pd.Index(factors, name="factor")
        return pd.DataFrame({"icc": self._partition.icc[0]}, index=index)

    def r2(self) -> pd.DataFrame:
        """Marginal and conditional R2: what fixed effects explain, and with the levels too.

        Index ``r2`` (``marginal``, ``conditional``), column ``r2``.

        References
        ----------
        Nakagawa, Schielzeth (2013), Methods Ecol. Evol. 4, 133-142.
        Johnson (2014), Methods Ecol. Evol. 5, 944-946 (with slopes).
        """
        return pd.DataFrame({"r2": self._partition.r2[0]}, index=_R2)

    def variance_partition(self) -> pd.DataFrame:
        """Where the variance comes from: ``variance`` and ``share`` of fixed effects, factors, residual.

        The variance of a factor with slopes is the mean over the rows of z'Sigma z.
        """
        parts = self._partition
        columns = {"variance": parts.variances[0], "share": parts.shares[0]}
        return pd.DataFrame(columns, index=pd.Index(parts.names, name="part"))

    @property
    def _partition(self) -> Partition:
        _check_has_parts(self.design)
        e = self.estimate
        return Partition.of_relative(
            self.design, e.beta[None], np.array([e.sigma]), e.relative_factor[None]
        )

    def principal_components(self) -> pd.DataFrame:
        """Principal components of each factor's covariance in units of sigma^2, largest first.

        Index (factor, component); columns ``sd`` (relative to sigma, as in lme4's rePCA), ``share``
        of the factor's variance, and the weight of each term. A component without variance is
        what makes a fit singular: the combination of terms that does not vary between levels.
        """
        tables = []
        for group in _pooled_groups(self.design, "principal components"):
            e = self.estimate.of(group.factor)
            covariance = np.nan_to_num(e.corr) * np.outer(e.sd, e.sd) / self.estimate.sigma**2
            values, vectors = np.linalg.eigh(covariance)
            values = np.maximum(values[::-1], 0.0)
            index = pd.MultiIndex.from_product(
                [[group.factor], np.arange(1, len(values) + 1)], names=["factor", "component"]
            )
            table = pd.DataFrame(vectors[:, ::-1].T, index=index, columns=list(group.terms))
            table.insert(0, "sd", np.sqrt(values))
            table.insert(1, "share", values / max(values.sum(), np.finfo(float).tiny))
            tables.append(table)
        return pd.concat(tables)

    def fitted(self) -> pd.Series:
        """Fitted values of the rows, with the user's index."""
        return pd.Series(self.estimate.fitted, index=self.design.rows, name="fitted")

    def residuals(self) -> pd.Series:
        """Response minus fitted values, with the user's index."""
        values = self.design.y - self.estimate.fitted
        return pd.Series(values, index=self.design.rows, name="residual")

    def predict(
        self,
        new_data: Any = None,
        *,
        levels: Levels | Mapping[str, Levels] = "known",
        kind: Kind = "mean",
        prob: float | None = None,
    ) -> pd.DataFrame:
        """Predictions for new rows, or for those of the fit.

        Parameters
        ----------
        new_data
            A table with the predictors and, unless ``levels`` says otherwise, the groups; other
            columns are ignored. None: the rows of the fit.
        levels
            What the levels of the groups stand for: one word, or a dict with a word for a factor.
            ``"known"``: levels of the fit, with their BLUPs. ``"new"``: those the fit does not
            know are new levels, with an estimate of zero and the variance between levels.
            ``"all new"``: so are those it knows. ``"population"``: an average level, whose
            deviation is zero. ``"average"``: no level in particular; the mean over the levels,
            and a response from any of them.
        kind
            ``"mean"``: the expected value. ``"response"``: a new observation, residual included
            (with weights or known_se their column is read).
        prob
            Probability of the interval; None: that of ArviZ's rcParams.

        Returns
        -------
        DataFrame
            With the index of ``new_data``: ``estimate``, ``se``, bounds of the normal interval.
            ``se`` is the root of the prediction error variance: fixed effects and BLUPs are
            estimated jointly (Henderson's equations), the standard deviations of the model are
            taken for known. NaN where no pooling cannot tell.
        """
        from hierpool.answers.estimates import predict

        return predict(self, new_data, levels, kind, prob)

    def __repr__(self) -> str:
        e = self.estimate
        lines = [
            f"BlupFit {self.status}",
            f"{self.design.spec.formula}   {e.method}, {_size(self.design)}",
            f"log-likelihood {e.loglik:.4f}, AIC {self.aic:.2f}, BIC {self.bic:.2f}",
        ]
        return printable("\n".join([*map(one_line, lines), "", *_printed_tables(self)]))

    def _repr_html_(self) -> str:
        return _as_html(self)


@dataclass(frozen=True, repr=False)
class PosteriorFit:
    """Draws from the posterior of a model, checked.

    Attributes
    ----------
    design, priors
        What was fitted.
    draws
        What ``datatree`` holds, as far as it has been needed.
    status
        Whether to trust it: one word, one sentence.
    info
        How it was made: engine, why, sampler, seed, versions, seconds.
    """

    design: Design
    priors: ModelPriors
    draws: xr.DataTree
    status: Status
    info: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def datatree(self) -> xr.DataTree:
        """An ordinary ArviZ DataTree.

        Groups posterior, sample_stats, observed_data, constant_data, log_likelihood; ``theta``
        holds the parameters in the coordinates of their priors. ``log_likelihood`` is the density
        of each row given all others and theta, coefficients integrated out, so that ``az.loo`` and
        ``az.compare`` are right on it; it is made at the first look.
        """
        if self.info.get("log_likelihood") == "stored" and (
            "log_likelihood" not in self.draws.children
        ):
            values = self.integrated.log_density_of_rows(self.theta.sigma, self.relative_factor)
            group = self._row_group(values, {"form": "integrated"})
            self.draws["log_likelihood"] = xr.DataTree(group)
        return self.draws

    @cached_property
    def _algebra(self) -> tuple[Integrated, ThetaMap]:
        if not self.is_integrable:
            raise UnsupportedModelError(
                "the coefficients of this model have a prior that is not normal, so they cannot be "
                "integrated out; use the draws in fit.datatree.",
                "not-integrable",
            )
        return integrate(self.design, self.priors)

    @property
    def is_integrable(self) -> bool:
        """Whether every coefficient has a normal prior, so that the algebra applies."""
        own = self.priors.own
        return self.priors.population.is_normal and (own is None or own.is_normal)

    @property
    def integrated(self) -> Integrated:
        """The model with its coefficients integrated out, for checks that start from theta."""
        return self._algebra[0]

    @cached_property
    def theta(self) -> Theta:
        """The draws of theta in the coordinates of their priors, chains one after the other."""
        group = self.draws["theta"].to_dataset()
        flat = {str(k): v.to_numpy().reshape(-1, *v.shape[2:]) for k, v in group.data_vars.items()}
        K = int(np.prod(self.n_draws))
        return Theta(
            flat.get("sigma", np.ones(K)),
            flat.get("sd", np.zeros((K, 0))),
            flat.get("corr_chol", np.zeros((K, 0, 0))),
        )

    @property
    def relative_factor(self) -> np.ndarray:
        """Shape (draws, q, q): Lambda of every draw, in working coordinates."""
        return self._algebra[1].relative_factor(self.theta)

    @property
    def n_draws(self) -> tuple[int, int]:
        """Chains and draws per chain."""
        sizes = self.draws["posterior"].sizes
        return sizes["chain"], sizes["draw"]

    def conditional_means(self) -> dict[str, np.ndarray]:
        """E[coefficients | y, theta] of every draw of theta: ``beta``, ``u``, ``coef``.

        Shapes (draws, p), (draws, J, q): averaged, they are posterior means with far less Monte
        Carlo error than the mean of the coefficients' own draws.
        """
        used = self.affordable_draws.ravel()
        return self.integrated.mean_coefficients(self.theta.sigma[used], self.relative_factor[used])

    @cached_property
    def posterior_means(self) -> dict[str, np.ndarray]:
        """Means of all coefficients: ``beta`` (p,), ``u_<factor>``, ``coef_<factor>`` (J, q).

        The one set of means that every table, prediction and contrast uses: averages of the
        conditional means over the draws of theta. Where the coefficients cannot be integrated out,
        or with several factors working at every draw is too expensive, averages of the
        coefficients' own draws; with one factor every so-many-th draw of theta has to do there.
        """
        K = int(np.prod(self.n_draws))
        step = 1
        if self.is_integrable:
            step = max(1, int(np.ceil(self.integrated.work_per_theta * float(K) / CHEAP)))
        if self.is_integrable and (step == 1 or len(self.design.groups) < 2):
            means = self._averages(np.arange(0, K, step))
        else:
            means = {k: v.mean(axis=0) for k, v in self._coefficient_draws().items()}
        padded = np.append(means.get("beta", np.zeros(0)), 0.0)
        for group in self.design.groups:
            if group.is_pooled:
                u = means[f"u_{group.factor}"]
                means[f"coef_{group.factor}"] = u + padded[group.population]
        return means

    def _averages(self, used: np.ndarray) -> dict[str, np.ndarray]:
        """Averages of the conditional means at some draws of theta, a block of draws at a time."""
        algebra, sigma, factor = self.integrated, self.theta.sigma[used], self.relative_factor[used]
        sums: dict[str, np.ndarray] = {}
        for some in algebra.blocks(len(used), 2 * algebra.n_deviations + len(self.design.terms)):
            for k, v in algebra.mean_coefficients(sigma[some], factor[some]).items():
                sums[k] = sums.get(k, np.zeros(v.shape[1:])) + v.sum(axis=0)
        return {k: v / len(used) for k, v in sums.items()}

    @cached_property
    def affordable_draws(self) -> np.ndarray:
        """Shape (chains, draws used): positions of the draws of theta that later questions use.

        All of them, unless working at one theta is so expensive (several factors, thousands of
        levels) that every so-many-th has to do.
        """
        chains, draws = self.n_draws
        every = np.arange(chains * draws).reshape(chains, draws)
        total = float(self.integrated.work_per_theta) * chains * draws
        return every[:, :: max(1, int(np.ceil(total / AFFORDABLE)))]

    def fixed_effects(self) -> pd.DataFrame:
        """Population coefficients: index ``term``; mean, median, sd, interval, ESS, R-hat."""
        from hierpool.checks.diagnostics import summary

        index = pd.Index(self.design.terms, name="term")
        if not len(index):
            return pd.DataFrame(index=index)
        table = summary(self.variable("beta"))
        return table.assign(mean=self.posterior_means["beta"]).set_index(index)

    def random_effects(self, diagnostics: bool = True) -> pd.DataFrame:
        """Deviations of the levels from the population: index (factor, level, term)."""
        groups = _pooled_groups(self.design, "random effects")
        return pd.concat([self._level_summary(g, "u", diagnostics) for g in groups])

    def coefficients(self, diagnostics: bool = True) -> pd.DataFrame:
        """Coefficients of each level: index (factor, level, term).

        With several factors those of a level of one factor where the others are at their average.
        """
        groups = _any_groups(self.design, "coefficients")
        return pd.concat([self._level_summary(g, "coef", diagnostics) for g in groups])

    def coefficient_moments(self, factor: str) -> tuple[np.ndarray, np.ndarray]:
        """Means (J, q) and covariances (J, q, q) of the coefficients of each level of a factor."""
        name, K = f"coef_{factor}", int(np.prod(self.n_draws))
        drawn = [self.variable(name).to_numpy()] if self._has(name) else []
        parts = drawn or (run[name] for run in self._runs_of_levels())
        covariances = []
        for values in parts:
            flat = values.reshape(K, *values.shape[2:])
            off = flat - flat.mean(axis=0)
            covariances.append(np.einsum("kjq,kjr->jqr", off, off, optimize=True) / (K - 1))
        return self.posterior_means[name], np.concatenate(covariances)

    def _level_summary(self, group: GroupDesign, key: str, diagnostics: bool) -> pd.DataFrame:
        from hierpool.checks.diagnostics import summary

        name = f"{key}_{group.factor}"
        if self._has(name):
            table = summary(self.variable(name), diagnostics)
        else:
            dims = ("chain", "draw", "level", "term")
            runs = (xr.DataArray(drawn[name], dims=dims) for drawn in self._runs_of_levels())
            table = pd.concat([summary(run, diagnostics) for run in runs], ignore_index=True)
        return table.assign(mean=self.posterior_means[name].ravel()).set_index(level_index(group))

    def _runs_of_levels(self) -> Iterator[dict[str, np.ndarray]]:
        """Coefficients that are too many to store, some levels at a time, (chains, draws, J, q)."""
        algebra, theta, factor = self.integrated, self.theta, self.relative_factor
        assert isinstance(algebra, IntegratedOne)  # of several factors all levels are kept
        beta = np.zeros((len(theta), 0))
        if self.design.terms:
            user = self.variable("beta").to_numpy().reshape(len(theta), -1)
            beta = algebra.coordinates.beta_from_user(user)
        for levels in algebra.level_runs():
            drawn = algebra.draw_levels(theta.sigma, factor, beta, levels, int(self.info["seed"]))
            yield {
                k: v.reshape(*self.n_draws, *v.shape[1:]) for k, v in drawn.items() if k != "beta"
            }

    def variance_components(self) -> pd.DataFrame:
        """Standard deviations and correlations, the residual sd last unless those are known.

        Index (factor, parameter, term, term_bis).
        """
        from hierpool.checks.diagnostics import summary

        index = spread_index(self.design).index
        parts = []
        for group in self.design.groups:
            if not group.is_pooled:
                continue
            parts.append(summary(self.variable(f"sd_{group.factor}")))
            if group.has_correlation:
                every = self.variable(f"corr_{group.factor}")
                for i, j in pair_positions(group):
                    parts.append(summary(every[..., i, j]))
        if self.design.has_sigma:
            parts.append(summary(self.variable("sigma")))
        if not parts:
            return pd.DataFrame(index=index)
        return pd.concat(parts, ignore_index=True).set_index(index)

    def prior_spread(self, draws: int = 20_000, seed: int = 0) -> xr.Dataset:
        """Standard deviations, correlations and sigma drawn from their priors, named as in the posterior.

        In the user's coding, where they have no formula of their own: the sd of an intercept at
        zero mixes the priors of the intercept at the mean and of the slope.
        """
        from hierpool.bayes.prior_predictive import prior_spread

        return prior_spread(self.design, self.priors, draws, seed)

    def icc(self) -> pd.DataFrame:
        """Intraclass correlations of each draw, summarised: index ``factor``.

        As ``BlupFit.icc``: a factor's share of what is random, at the mean of its columns.
        """
        factors = [g.factor for g in _pooled_groups(self.design, "intraclass correlations")]
        return self._summarised(self._partition.icc, pd.Index(factors, name="factor"))

    def r2(self) -> pd.DataFrame:
        """Marginal and conditional R2 of each draw, summarised; as ``BlupFit.r2``."""
        return self._summarised(self._partition.r2, _R2)

    def variance_partition(self) -> pd.DataFrame:
        """Shares of fixed effects, factors and residual in the variance, of each draw, summarised."""
        parts = self._partition
        return self._summarised(parts.shares, pd.Index(parts.names, name="part"))

    @property
    def _partition(self) -> Partition:
        _check_has_parts(self.design)
        K = int(np.prod(self.n_draws))

        def draws(name: str) -> np.ndarray:
            values = self.variable(name).to_numpy()
            return values.reshape(K, *values.shape[2:])

        beta = draws("beta") if self.design.terms else np.zeros((K, 0))
        if self.is_integrable:
            return Partition.of_relative(self.design, beta, self.theta.sigma, self.relative_factor)
        sigma = draws("sigma") if self.design.has_sigma else np.ones(K)
        Sigmas = []
        for group in self.design.groups:
            sd = draws(f"sd_{group.factor}")
            name = f"corr_{group.factor}"
            corr = draws(name) if group.has_correlation else np.eye(len(group.terms))
            Sigmas.append(corr * sd[:, :, None] * sd[:, None, :])
        return Partition.of(self.design, beta, sigma, Sigmas, [g.Z for g in self.design.groups])

    def _summarised(self, values: np.ndarray, index: pd.Index[Any]) -> pd.DataFrame:
        """Mean, median, sd and interval of draws (K, quantities)."""
        from hierpool.checks.diagnostics import summary

        shaped = values.reshape(*self.n_draws, -1)
        named = xr.DataArray(shaped, dims=("chain", "draw", "quantity"))
        return summary(named, diagnostics=False).set_index(index)

    def summary(self) -> pd.DataFrame:
        """Fixed effects, standard deviations and correlations in one table, one row a quantity."""
        fixed = self.fixed_effects()
        fixed.index = pd.Index([f"beta[{t}]" for t in fixed.index])
        spread = self.variance_components()
        spread.index = pd.Index([spread_name(*key) for key in spread.index])
        return pd.concat([fixed, spread]).rename_axis("quantity")

    def _has(self, name: str) -> bool:
        stored = self.draws["posterior"]
        return name in stored or f"u_{name.removeprefix('coef_')}" in stored

    def variable(self, name: str) -> xr.DataArray:
        """Draws of one variable of the posterior, dims (chain, draw, ...).

        ``coef_<factor>`` is made from ``u_<factor>`` and ``beta`` where it is too large to keep.
        """
        posterior = self.draws["posterior"].to_dataset()
        if name in posterior or not name.startswith("coef_"):
            return posterior[name]
        group = self.design.group(name.removeprefix("coef_"))
        u = posterior[f"u_{group.factor}"]
        padded = np.zeros((*u.shape[:2], len(self.design.terms) + 1))
        if self.design.terms:
            padded[..., :-1] = posterior["beta"].to_numpy()
        return (u + padded[:, :, None, group.population]).rename(name)

    def fitted(self) -> pd.Series:
        """Posterior means of the rows' expected values, with the user's index."""
        return pd.Series(
            _expected(self.design, self.posterior_means), index=self.design.rows, name="fitted"
        )

    def residuals(self) -> pd.Series:
        """Response minus fitted values, with the user's index."""
        values = self.design.y - self.fitted().to_numpy()
        return pd.Series(values, index=self.design.rows, name="residual")

    def _coefficient_draws(self) -> dict[str, np.ndarray]:
        posterior = self.draws["posterior"]
        names = ["beta"] if self.design.terms else []
        for group in self.design.groups:
            names.append(f"{'u' if group.is_pooled else 'coef'}_{group.factor}")
        out = {}
        for name in names:
            if name in posterior:
                values = posterior[name]
                out[name] = values.to_numpy().reshape(-1, *values.shape[2:])
        if self.info.get("levels") == "on request":
            runs = list(self._runs_of_levels())
            for key in runs[0]:
                every = np.concatenate([r[key] for r in runs], axis=2)
                out[key] = every.reshape(-1, *every.shape[2:])
        return out

    def predict(
        self,
        new_data: Any = None,
        *,
        levels: Levels | Mapping[str, Levels] = "known",
        kind: Kind = "mean",
        prob: float | None = None,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Predictions for new rows, or for those of the fit.

        Parameters
        ----------
        new_data
            A table with the predictors and, unless ``levels`` says otherwise, the groups; other
            columns are ignored. None: the rows of the fit.
        levels
            What the levels of the groups stand for: one word, or a dict with a word for a factor.
            ``"known"``: levels of the fit, with their own coefficients. ``"new"``: those the fit
            does not know are drawn anew from the distribution of the levels, one draw for all
            rows of a level and each draw of the posterior. ``"all new"``: so are those it knows.
            ``"population"``: an average level, whose deviation is zero. ``"average"``: no level
            in particular; the mean over the levels, and a response from any of them.
        kind
            ``"mean"``: the expected value. ``"response"``: a new observation, residual included
            (with weights or known_se their column is read).
        prob
            Probability of the interval; None: that of ArviZ's rcParams.
        seed
            Of new levels and residuals; None: that of the fit. A new level has the same draws
            whatever stands in the other rows.

        Returns
        -------
        DataFrame
            With the index of ``new_data``: ``mean``, ``median``, ``sd``, and the interval, named
            as in ``fixed_effects()``. ``mean`` is that of the conditional means, as in
            ``fitted()``: it has less Monte Carlo error than the mean of ``predict_draws()``.
        """
        from hierpool.answers.predictions import predict

        return predict(self, new_data, levels, kind, prob, seed)

    def predict_draws(
        self,
        new_data: Any = None,
        *,
        levels: Levels | Mapping[str, Levels] = "known",
        kind: Kind = "mean",
        seed: int | None = None,
    ) -> xr.DataArray:
        """What ``predict`` sums up: draws with dims (chain, draw, obs); arguments as there."""
        from hierpool.answers.predictions import predict_draws

        return predict_draws(self, new_data, levels, kind, seed)

    def posterior_predictive(self, seed: int | None = None) -> PosteriorFit:
        """The fit with a ``posterior_predictive`` group: one replicated response a draw."""
        from hierpool.answers.choices import check_seed

        rng = np.random.default_rng(None if seed is None else check_seed(seed))
        draws = self._coefficient_draws()
        expected = _expected(self.design, draws)
        noise = rng.standard_normal(expected.shape) * self._residual_sd
        return self._with_group("posterior_predictive", expected + noise)

    def with_log_likelihood(self, form: Literal["integrated", "conditional"]) -> PosteriorFit:
        """The fit with its ``log_likelihood`` group in another form.

        ``"integrated"``: the density of a row given all others and theta, which ``az.loo`` should
        read. ``"conditional"``: that given coefficients and theta, which ``az.loo_pit``,
        ``az.loo_expectations`` and ``az.psense`` pair with the coefficient draws; PSIS on it
        flatters no pooling.
        """
        if form == "integrated":
            values = self.integrated.log_density_of_rows(self.theta.sigma, self.relative_factor)
        elif form == "conditional":
            sd = self._residual_sd
            scaled = (self.design.y - _expected(self.design, self._coefficient_draws())) / sd
            values = -0.5 * np.log(2 * np.pi) - np.log(sd) - 0.5 * scaled**2
        else:
            raise ArgumentError(
                f"form={form!r}: choose 'integrated' or 'conditional'", "unknown-choice"
            )
        return self._with_group("log_likelihood", values, {"form": form})

    @property
    def _residual_sd(self) -> np.ndarray:
        """Shape (draws, n), or (draws, 1) where the rows are alike."""
        return np.asarray(self.theta.sigma[:, None] * self.design.relative_sd)

    def _with_group(
        self, name: str, values: np.ndarray, attrs: Mapping[str, str] | None = None
    ) -> PosteriorFit:
        tree = (self.draws if name == "log_likelihood" else self.datatree).copy()
        tree[name] = xr.DataTree(self._row_group(values, attrs or {}))
        return PosteriorFit(self.design, self.priors, tree, self.status, self.info)

    def _row_group(self, values: np.ndarray, attrs: Mapping[str, str]) -> xr.Dataset:
        """Draws of one number a row, shape (draws, n), with their labels."""
        chains, draws = self.n_draws
        labels = {
            "chain": np.arange(chains),
            "draw": np.arange(draws),
            OBS_DIM: row_labels(self.design),
        }
        dims = ("chain", "draw", OBS_DIM)
        return xr.Dataset({"y": (dims, values.reshape(chains, draws, -1))}, labels, attrs)

    def loo(
        self,
        by: str = "row",
        form: Literal["integrated", "conditional"] = "integrated",
        *,
        exact: bool = True,
    ) -> Any:
        """Leave-one-out score: an ``ELPDData`` that ``az.compare`` takes.

        Parameters
        ----------
        by
            ``"row"``: each row given all others (a new row of a known level). ``"group"`` or the
            name of a factor: all rows of a level, jointly, given all other levels (a new level).
        form
            ``"integrated"``: every coefficient integrated out. ``"conditional"``: the usual one,
            for comparison, by row only; it flatters no pooling.
        exact
            Score the points whose Pareto k is too high exactly, by sampling theta without them.

        Raises
        ------
        ArgumentError
            An unknown choice.
        UnsupportedModelError
            The coefficients cannot be integrated out.
        """
        from hierpool.checks import loo

        if form == "conditional" and by == "row":
            return loo.leave_one_row_out_conditional(self)
        if form != "integrated":
            raise ArgumentError(
                f"form={form!r} with by={by!r}: choose 'integrated', or 'conditional' by row",
                "unknown-choice",
            )
        refit = self._score_exactly if exact else None
        if by == "row":
            return loo.leave_one_row_out(self, refit)
        return loo.leave_one_group_out(self, loo.grouping_for(self.design, by), refit)

    def _score_exactly(self, rows: np.ndarray) -> float:
        from hierpool.bayes.leave_out import joint_log_density

        seed = int(self.info.get("seed", 0))
        return joint_log_density(self.design, self.priors, rows, seed).log_density

    def kfold(
        self,
        k: int = 10,
        by: str | None = None,
        *,
        seed: int | None = None,
        progress: bool = True,
    ) -> Any:
        """K-fold cross-validation: an ``ELPDData`` that ``az.compare`` takes.

        theta is drawn anew without each fold, in parallel threads, every coefficient integrated
        out.

        Parameters
        ----------
        k
            Number of folds.
        by
            None: rows in folds at random, each scored given the other folds. ``"group"`` or the
            name of a factor: whole levels in folds, the rows of each scored jointly, so that it
            compares with ``loo(by="group")``.
        seed
            Of the folds and of the draws; None: the same folds for every model of these rows.
        progress
            Show a bar on anything over a second.
        """
        from hierpool.bayes.refits import theta_without
        from hierpool.checks.diagnostics import proposal_pareto_k
        from hierpool.checks.kfold import kfold

        def refit(rows: np.ndarray, seed: int) -> tuple[Integrated, np.ndarray, np.ndarray, bool]:
            return theta_without(
                self.design,
                self.priors,
                rows,
                chains=4,
                draws=500,
                seed=seed,
                judge=lambda weights: not proposal_pareto_k(weights) > 0.7,
            )

        return kfold(self, k, by, seed, refit, progress)

    def loo_pit(self) -> xr.DataArray:
        """Probability integral transform of each row given all others; uniform if calibrated."""
        from hierpool.checks import loo

        return loo.loo_pit(self)

    def predictive_check(
        self,
        levels: Literal["new", "known"] = "new",
        by: Literal["data", "level"] = "data",
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Statistics of the response beside those of responses that the posterior predicts.

        Index (factor, statistic), or (factor, level, statistic). ``observed``; ``mean``,
        ``median``, ``sd`` and interval of the replicated ones; ``p``, the share of these that is
        larger: near 0 or 1 the model does not make data like these. The statistics: spread and
        extremes of level means and of slopes within levels, spread within levels, correlation of
        neighbours in time, extremes of rows; of a level its mean, its sd and its slopes.

        Parameters
        ----------
        levels
            ``"new"``: the levels are drawn anew from their distribution, so that it is judged as
            well (mixed predictive). ``"known"``: the levels of the fit with their own coefficients
            (posterior predictive); since these were fitted to the same rows, p says little of the
            levels and stays near one half. No pooling has no distribution of levels: they are
            always the known ones.
        by
            ``"data"``: statistics of all rows. ``"level"``: of each level.
        seed
            Of new levels and residuals; None: always the same.

        References
        ----------
        Gelman, Meng, Stern (1996), Stat. Sinica 6, 733-807.
        Marshall, Spiegelhalter (2003), Stat. Med. 22, 1649-1660 (mixed predictive).
        """
        from hierpool.checks import predictive

        return predictive.predictive_check(self, levels, by, seed)

    def level_coverage(self, prob: float | None = None) -> pd.DataFrame:
        """Each level predicted from all others, beside what it is.

        Index (factor, level). ``n``: its rows. ``observed``: mean of its response. ``mean``,
        ``sd`` and interval of that mean as all other levels predict it for a new level with such
        rows. ``pit``: where the observed mean is in that distribution, 0 to 1, uniform if
        calibrated. ``covered``: whether the interval holds it. ``rows_covered``: share of its
        rows that lie within intervals for a single row. Nothing is fitted again: draws of theta
        are weighted for each level left out.

        Parameters
        ----------
        prob
            Probability of the intervals; None: that of ArviZ's rcParams.

        Raises
        ------
        UnsupportedModelError
            No pooling, which says nothing of a new level, or several factors.
        """
        from hierpool.checks import level_coverage

        return level_coverage.level_coverage(self, prob)

    @property
    def log_marginal_likelihood(self) -> tuple[float, float]:
        """log p(y) and its Monte Carlo standard error (exact engine only)."""
        if "log_marginal_likelihood" not in self.info:
            raise UnsupportedModelError(
                "NUTS does not give the marginal likelihood; fit with engine='exact'.",
                "no-marginal-likelihood",
            )
        if not self.priors.is_proper:
            raise UnsupportedModelError(
                "a flat prior has no scale, so the marginal likelihood has none: give each "
                "coefficient a proper prior.",
                "no-marginal-likelihood",
            )
        value = self.info["log_marginal_likelihood"]
        return float(value), float(self.info["log_marginal_likelihood_error"])

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one NetCDF file (or a Zarr folder, by the suffix ``.zarr``)."""
        from hierpool.storage import save_fit

        save_fit(self, path)

    def __repr__(self) -> str:
        chains, draws = self.n_draws
        lines = [
            f"PosteriorFit {self.status}",
            f"{self.design.spec.formula}   {self.info.get('engine', '')}, {_size(self.design)}, "
            f"{chains} x {draws} draws",
        ]
        absent = [k for k in ("log_likelihood", "levels") if self.info.get(k) == "on request"]
        if absent:
            lines.append(f"too large to keep, made when asked for: {', '.join(absent)}")
        return printable("\n".join([*map(one_line, lines), "", *_printed_tables(self)]))

    def _repr_html_(self) -> str:
        return _as_html(self)


def _expected(design: Design, coefficients: Mapping[str, np.ndarray]) -> np.ndarray:
    """Expected response (..., n) from coefficients in the user's coding, leading dims kept."""
    beta = coefficients.get("beta")
    out = 0.0 if beta is None else np.einsum("np,...p->...n", design.X, beta)
    for group in design.groups:
        levels = coefficients[f"{'u' if group.is_pooled else 'coef'}_{group.factor}"]
        out = out + np.einsum("nq,...nq->...n", group.Z, levels[..., group.grouping.codes, :])
    return np.asarray(out + design.offset)


def _pooled_groups(design: Design, what: str) -> tuple[GroupDesign, ...]:
    groups = _any_groups(design, what)
    if not groups[0].is_pooled:
        raise UnsupportedModelError(
            f"no pooling has no {what}: its levels share no distribution to deviate from. "
            "Use coefficients().",
            "no-random-effects",
        )
    return groups


def _check_has_parts(design: Design) -> None:
    if design.spec.pooling == "none":
        raise UnsupportedModelError(
            "no pooling has no variance of levels: its levels share no distribution. Ask this of "
            "partial pooling, hp.varying_slope(...).",
            "no-random-effects",
        )


def _any_groups(design: Design, what: str) -> tuple[GroupDesign, ...]:
    if not design.groups:
        raise UnsupportedModelError(
            f"complete pooling has no {what} of levels: one line stands for all. Use fixed_effects().",
            "no-levels",
        )
    return design.groups


def _size(design: Design) -> str:
    groups = ", ".join(f"{g.n_levels} levels of {f}" for f, g in design.groupings.items())
    known = {"weights": design.spec.weights, "known_se": design.spec.known_se}
    named = ", ".join(f"{word} {column}" for word, column in known.items() if column)
    return ", ".join(filter(None, [f"{design.n} rows", groups, named]))


def _tables(fit: BlupFit | PosteriorFit) -> dict[str, pd.DataFrame]:
    if isinstance(fit, BlupFit):
        fixed = fit.fixed_effects(df="normal")[["estimate", "se"]]
    else:
        fixed = fit.fixed_effects()
    tables = {
        "Fixed effects": fixed,
        "Standard deviations and correlations": fit.variance_components(),
    }
    return {title: table for title, table in tables.items() if len(table)}


def _printed_tables(fit: BlupFit | PosteriorFit) -> list[str]:
    out = []
    with pd.option_context("display.width", 110, "display.max_columns", 20):
        for title, table in _tables(fit).items():
            out += [title, table.to_string(float_format=_number), ""]
    return out[:-1]


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"


def _as_html(fit: BlupFit | PosteriorFit) -> str:
    from html import escape

    lines = [escape(line) for line in repr(fit).split("\n\n", 1)[0].splitlines()]
    tables = [
        f"<h4>{escape(t)}</h4>{df.to_html(float_format=_number)}" for t, df in _tables(fit).items()
    ]
    return printable("<p>" + "<br>".join(lines) + "</p>" + "".join(tables))
