"""LikelihoodFit: estimates, standard errors and BLUPs of REML, ML or least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hierpool.algebra.variance_partition import Partition
from hierpool.core.arguments import takes_groups
from hierpool.core.design import Design
from hierpool.core.errors import NoMethodError, UnsupportedModelError
from hierpool.core.options import takes_prob
from hierpool.core.printable import one_line, printable
from hierpool.core.results import (
    CONDITIONAL_MODE,
    Estimate,
    Status,
    level_table,
    pair_values,
    residual_entries,
    root_of_diagonal,
    variance_component_index,
)
from hierpool.core.theta import WorkingTheta
from hierpool.core.threads import in_threads
from hierpool.fits.response_draws import latent_sd
from hierpool.fits.shared import (
    R2_INDEX,
    WRITTEN,
    any_groups,
    as_html,
    check_has_parts,
    pooled_groups,
    printed_tables,
    size_in_words,
    titled_tables,
)
from hierpool.formula.contrasts import type_three
from hierpool.reml import inference, intervals
from hierpool.reml.f_tests import Uncertainty

_OF_POSTERIORS = {
    "save": "Keep its formula and data, or its tables as CSV",
    "summary": "Print the fit, or use fixed_effects() and variance_components()",
    "predict_draws": "Use predict()",
    "datatree": "Use fixed_effects() and the other tables",
    "loo": "Compare fits with aic, bic or hp.lrt",
}

if TYPE_CHECKING:
    from hierpool.answers.new_data import Kind, RowGroups
    from hierpool.answers.response_scale import Scale
    from hierpool.core.fitted import Optimum


@dataclass(frozen=True, repr=False)
class LikelihoodFit:
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

    def __getattr__(self, name: str) -> Any:
        if name in _OF_POSTERIORS:
            raise NoMethodError(
                f"a {self.method} fit has no {name}: it belongs to a posterior, model.fit(), which "
                f"has draws. {_OF_POSTERIORS[name]}, or fit the posterior",
                "posterior-only",
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def method(self) -> str:
        """Which fit it is: "REML", "ML" or "least squares"; ML of a family is told in ``status``."""
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

    @takes_prob
    def fixed_effects(
        self, df: inference.Df | None = None, prob: float | None = None
    ) -> pd.DataFrame:
        """Population coefficients: ``estimate``, ``se``, ``df``, ``t``, ``p`` and an interval.

        Parameters
        ----------
        df
            None: ``df_method``, the same as in ``anova``, ``hp.marginal_means``, ``hp.slopes``,
            ``hp.contrast`` and ``hp.term_effects``: Kenward and Roger's for REML where it applies,
            else Satterthwaite's. ``"kenward-roger"``: as pbkrtest, for REML fits only; standard
            errors are adjusted upwards too. ``"satterthwaite"``: as lmerTest, from the curvature
            of the criterion, with plain standard errors; a variance that is estimated as zero
            counts as known. ``"residual"``: rows minus
            coefficients, too many if groups differ. ``"normal"``: infinite, and the column is
            called ``z``. Least squares always uses its residual df. If residual sds are known and
            nothing else is estimated, df are infinite.
        prob
            Probability of the interval; None: that of ``hp.options``. It is in the names of the
            columns, ``ci95_lb`` and ``ci95_ub``. Of a family tests are normal.

        Returns
        -------
        DataFrame
            Index ``term``. The printed table and ``attrs["df_method"]`` name the method.

        Raises
        ------
        UnsupportedModelError
            Kenward and Roger's method for a fit that is not REML, or with several factors that
            have more than 4,000 random effects.

        References
        ----------
        Kuznetsova, Brockhoff, Christensen (2017), J. Stat. Softw. 82(13).
        Kenward, Roger (1997), Biometrics 53, 983-997.
        """
        method, how = self._tests_by(df)
        statistic = "z" if df == "normal" or self.design.family is not None else "t"
        table = inference.coefficients(self.design, self.estimate.beta, how, statistic, prob)
        return self._told("Fixed effects", method, table)

    def anova(self, df: inference.Df | None = None) -> pd.DataFrame:
        """Type III F tests of the terms of the formula: ``num_df``, ``den_df``, ``F``, ``p``.

        A term is tested at the unweighted average over the categories with which it interacts,
        and at zero of the numeric predictors with which it interacts (centre those). The test
        does not depend on the reference category. With empty cells or collinear columns, the
        estimable part of the hypothesis is tested: ``num_df`` counts it, and if it is 0 the other
        columns are NaN.

        Parameters
        ----------
        df
            As in ``fixed_effects``. The printed table and ``attrs["df_method"]`` name the method.
        """
        if self.design.spec.pooling == "none":
            raise UnsupportedModelError(
                "no pooling has no common terms to test: each group has its own coefficients. "
                "Test them under partial pooling, hp.varying_slope(...).reml().anova().",
                "no-terms",
            )
        method, how = self._tests_by(df)
        table = inference.anova(self.estimate.beta, how, type_three(self.design))
        return self._told("Type III tests of the terms", method, table)

    def _tests_by(self, df: inference.Df | None) -> tuple[str, Uncertainty]:
        """The method and how sure the fixed effects are by it; None for the usual one."""
        return self._tests if df is None else inference.chosen(self.design, self.estimate, df)

    def _told(self, title: str, df_method: str, table: pd.DataFrame) -> pd.DataFrame:
        """A table of tests that names their method."""
        from hierpool.answers.effects_table import EffectsTable

        head = [f"{title} on {self.design.spec.response}, {self.method}", f"df: {df_method}"]
        return EffectsTable.of(table, head, (), df_method=df_method)

    @cached_property
    def _tests(self) -> tuple[str, Uncertainty]:
        return inference.usual(self.design, self.estimate)

    @property
    def df_method(self) -> str:
        """How coefficients, terms, marginal means, slopes and contrasts are tested by default.

        "Kenward-Roger" for REML, "Satterthwaite" for ML, for residual structures that are not linear
        in their covariances and where the former would need a table that is too large, "residual"
        for least squares, "normal" where residual sds are known and nothing else is estimated.
        """
        return self._tests[0]

    def with_df(self, df: inference.Df) -> LikelihoodFit:
        """The same fit with another method of degrees of freedom in all of its tables.

        ``hp.marginal_means``, ``hp.slopes``, ``hp.contrast`` and ``hp.effects`` take it too.

        Parameters
        ----------
        df
            As in ``fixed_effects``.

        Raises
        ------
        UnsupportedModelError
            The method is not available for this fit.
        """
        other = replace(self)
        vars(other)["_tests"] = inference.chosen(self.design, self.estimate, df)
        return other

    def covariance(self) -> np.ndarray:
        """Shape (p, p): covariance of the fixed effects, adjusted where ``df_method`` does so."""
        return self._tests[1].covariance

    def degrees_of_freedom(self, combinations: np.ndarray) -> np.ndarray:
        """Shape (m,): df of t tests of combinations (m, p) of the fixed effects, by ``df_method``.

        NaN where a combination is zero.
        """
        how, beta = self._tests[1], self.estimate.beta
        return np.array(
            [how.test(L[None], beta).den_df if L.any() else np.nan for L in combinations]
        )

    def f_test(self, hypothesis: np.ndarray) -> tuple[int, float, float, float]:
        """num_df, den_df, F and p of (hypothesis) beta = 0, by ``df_method``.

        Parameters
        ----------
        hypothesis
            Shape (r, p): r independent combinations of the fixed effects.
        """
        test = self._tests[1].test(hypothesis, self.estimate.beta)
        return test.num_df, test.den_df, test.F, test.p

    @takes_prob
    def confint(
        self,
        method: intervals.IntervalMethod | None = None,
        prob: float | None = None,
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
            None: ``"profile"``, but ``"wald"`` for no pooling of a family. ``"profile"``: profile
            likelihood of ML, also for a REML fit, as lme4 does. An interval of a standard deviation
            begins at 0, and one of a correlation ends at -1 or 1, where the likelihood cannot exclude
            it. ``"bootstrap"``: percentiles of refits to responses simulated from this fit.
            ``"wald"``: estimate and standard error, of Gaussian responses for the fixed effects only.
            Of families those of standard deviations and shapes are on the log scale, of correlations
            on Fisher's, of probabilities on the logit scale. Gaussian least squares has its exact
            intervals (t, chi-squared) in place of profile and Wald.
        prob
            Probability of the intervals; None: that of ``hp.options``.
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
        if method is None:
            is_unpooled = self.design.spec.pooling == "none"
            method = "wald" if is_unpooled and self.design.family is not None else "profile"
        return intervals.confidence_intervals(
            self.design, self.estimate, method, prob, quantities, how
        )

    def random_effects(self, conditional: bool = False) -> pd.DataFrame:
        """BLUPs of the groups: index (factor, level, term), columns ``estimate``, ``se``.

        Parameters
        ----------
        conditional
            False: ``se`` is the root of Henderson's prediction error variance Var(u_hat - u).
            True: the root of Var(u | y, theta, beta), lme4's condVar, which treats the fixed
            effects as known.

        References
        ----------
        Henderson (1975), Biometrics 31, 423-447.
        """
        tables = []
        for group in pooled_groups(self.design.schema, "random effects"):
            e = self.estimate.of(group.factor)
            se = root_of_diagonal(e.u_condvar if conditional else e.u_pev)
            tables.append(level_table(group, {"estimate": e.u, "se": se}))
        table = pd.concat(tables)
        if self.design.family is not None:
            table.attrs["blup"] = CONDITIONAL_MODE
        return table

    blup = random_effects

    def coefficients(self) -> pd.DataFrame:
        """Coefficients of each group (fixed plus random): columns ``estimate``, ``se``.

        With several factors, those of a group of one factor for average groups of the others.
        NaN if a coefficient is not estimable from the rows of the group (no pooling only).
        """
        tables = []
        for group in any_groups(self.design.schema, "coefficients"):
            e = self.estimate.of(group.factor)
            se = root_of_diagonal(e.coef_covariance)
            tables.append(level_table(group, {"estimate": e.coef, "se": se}))
        return pd.concat(tables)

    def coefficient_moments(self, factor: str) -> tuple[np.ndarray, np.ndarray]:
        """Estimates (J, q) and error covariances (J, q, q) of the coefficients of each level."""
        from hierpool.answers.arguments import choose_group

        e = self.estimate.of(choose_group(self.design.schema, factor).factor)
        return e.coef, e.coef_covariance

    def variance_components(self) -> pd.DataFrame:
        """Standard deviations and correlations, the residual sd last unless those are known.

        Index (factor, parameter, term, term2), columns ``estimate``, ``se``; ``se`` from the
        observed information, NaN on the boundary, where it means nothing.
        """
        e, table = self.estimate, variance_component_index(self.design.schema)
        estimate: list[float] = []
        se: list[float] = []
        for group in self.design.schema.groups:
            if group.is_pooled:
                own = e.of(group.factor)
                estimate += [*own.sd, *pair_values(group, own.corr)]
                se += [*own.sd_se, *pair_values(group, own.corr_se)]
        if self.design.residual.has_sigma:
            estimate, se = [*estimate, e.sigma], [*se, e.sigma_se]
        structure = self.design.residual.structure
        if structure is not None and e.residual_parameters is not None:
            found = structure.reported(e.residual_parameters[None], np.array([e.sigma]))
            errors = _like(found, e.residual_se)
            for _, name, at in residual_entries(self.design.schema):
                estimate.append(float(found[name][(0, *at)]))
                se.append(float(errors[name][(0, *at)]))
        if e.family is not None:
            estimate, se = [*estimate, *e.par], [*se, *e.family.par_se]
        table["estimate"], table["se"] = np.array(estimate), np.array(se)
        return table

    def icc(self) -> pd.DataFrame:
        """Intraclass correlations: index ``factor``, column ``icc``.

        The variance of a factor divided by the sum of the variances of all factors and the
        residual variance. With slopes it is evaluated at the mean of the varying columns. For a
        nested factor it is its own share, without the outer factor. Residual variances that
        differ between rows are averaged.
        """
        factors = [g.factor for g in pooled_groups(self.design.schema, "intraclass correlations")]
        index = pd.Index(factors, name="factor")
        return pd.DataFrame({"icc": self._partition.icc[0]}, index=index)

    def r2(self) -> pd.DataFrame:
        """Marginal R2 of the fixed effects, and conditional R2 of fixed and random effects.

        Index ``r2`` (``marginal``, ``conditional``), column ``r2``.

        References
        ----------
        Nakagawa, Schielzeth (2013), Methods Ecol. Evol. 4, 133-142.
        Johnson (2014), Methods Ecol. Evol. 5, 944-946 (with slopes).
        """
        return pd.DataFrame({"r2": self._partition.r2[0]}, index=R2_INDEX)

    def variance_partition(self) -> pd.DataFrame:
        """Where the variance comes from: ``variance`` and ``share`` of fixed effects, factors, residual.

        The variance of a factor with slopes is the mean over the rows of z'Sigma z.
        """
        parts = self._partition
        columns = {"variance": parts.variances[0], "share": parts.shares[0]}
        return pd.DataFrame(columns, index=pd.Index(parts.names, name="part"))

    @property
    def _partition(self) -> Partition:
        check_has_parts(self.design.schema)
        e = self.estimate
        theta = e.working_theta
        if self.design.family is not None:  # the residual is that of the latent scale
            sigma = latent_sd(self.design, self.design.family, e.par[None])
            theta = WorkingTheta(sigma, e.relative_covariance_factor[None] / sigma[:, None, None])
        return Partition.from_theta(self.design, e.beta[None], theta)

    def principal_components(self) -> pd.DataFrame:
        """Principal components of each factor's covariance in units of sigma^2, largest first.

        Index (factor, component); columns ``sd`` (relative to sigma, as in lme4's rePCA), ``share``
        of the factor's variance, and the weight of each term. In a singular fit, a component with
        zero variance is the combination of terms that does not vary between groups.
        """
        tables = []
        for group in pooled_groups(self.design.schema, "principal components"):
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
        """Fitted values of the rows, with the user's index.

        Of a family the expected response at the conditional modes, for a binomial response the
        probability: what ``lme4`` gives.
        """
        rows = self.design.check_rows("fit.fitted()", WRITTEN).index
        return pd.Series(self.estimate.fitted, index=rows, name="fitted")

    @property
    def residual_parameters(self) -> np.ndarray | None:
        """Shape (1, m): parameters of a residual structure; None without one."""
        own = self.estimate.residual_parameters
        return None if own is None else own[None]

    def residuals(self) -> pd.Series:
        """Response minus fitted values, with the user's index.

        Of a binomial response successes less trials times the fitted probability; ratings count from 1.
        """
        family = self.design.family
        first = 1.0 if family is not None and family.has_thresholds else 0.0
        self.design.check_rows("fit.residuals()", WRITTEN)
        values = self.design.y + first - self.design.trials * self.estimate.fitted
        return pd.Series(values, index=self.design.rows, name="residual")

    @takes_prob
    @takes_groups
    def predict(
        self,
        new_data: Any = None,
        *,
        groups: RowGroups = "own",
        kind: Kind = "mean",
        scale: Scale = "response",
        prob: float | None = None,
    ) -> pd.DataFrame:
        """Predictions for new rows, or for those of the fit.

        Parameters
        ----------
        new_data, groups, kind, scale, prob
            As in ``PosteriorFit.predict``. Groups of the fit have their BLUPs. New groups have
            random effects of zero, with the variance between groups.

        Returns
        -------
        DataFrame
            With the index of ``new_data``: ``estimate``, ``se``, bounds of the normal interval.
            ``se`` is the root of the prediction error variance: fixed effects and BLUPs are
            estimated jointly (Henderson's equations), and the standard deviations of the model are
            treated as known. NaN if not estimable under no pooling. What is back-transformed has
            its estimate and bounds transformed, so that the estimate of a logarithm is a geometric
            mean, and ``se`` by the delta method. Of families ``se`` has the uncertainty of all that is
            estimated and, for known groups, the variance of their effects given that; means of new
            groups are averaged over the random effects.
        """
        from hierpool.answers.estimates import predict

        return predict(self, new_data, groups, kind, scale, prob)

    @property
    def _titled_tables(self) -> dict[str, pd.DataFrame]:
        return titled_tables(
            self.fixed_effects(df="normal")[["estimate", "se"]], self.variance_components()
        )

    def __repr__(self) -> str:
        e = self.estimate
        lines = [
            f"LikelihoodFit {self.status}",
            f"{self.design.spec.formula}   {e.method}, {size_in_words(self.design.schema)}",
            f"log-likelihood {e.loglik:.4f}, AIC {self.aic:.2f}, BIC {self.bic:.2f}",
        ]
        return printable(
            "\n".join([*map(one_line, lines), "", *printed_tables(self._titled_tables)])
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self).split("\n\n", 1)[0], self._titled_tables)


if TYPE_CHECKING:  # what the floors below ask of an optimum, this one answers
    _protocol: type[Optimum] = LikelihoodFit


def _like(found: dict[str, np.ndarray], flat: np.ndarray | None) -> dict[str, np.ndarray]:
    """Numbers one after the other, in the shapes of these arrays."""
    sizes = np.cumsum([0, *(v.size for v in found.values())])
    flat = np.full(sizes[-1], np.nan) if flat is None else flat
    return {
        name: flat[a : a + v.size].reshape(v.shape)
        for (name, v), a in zip(found.items(), sizes, strict=False)
    }
