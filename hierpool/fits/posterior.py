"""PosteriorFit: draws from a posterior, and every question that can be put to them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import xarray as xr
from scipy import special

from hierpool.algebra.correlated.residuals import mean_variance
from hierpool.algebra.marginal_model import LevelsOnRequest, MarginalModel
from hierpool.algebra.variance_partition import Partition
from hierpool.answers import coefficient_draws
from hierpool.answers.coefficient_draws import levels_on_request
from hierpool.bayes.parts.scalar import ScalarPart
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.run import LARGEST_STORED, JudgedRun, SamplerSettings
from hierpool.bayes.theta import ThetaMap, integrate, integrate_family
from hierpool.core.arguments import check_choice, check_seed, is_word, takes_groups
from hierpool.core.design import Design, Grouping
from hierpool.core.errors import ArgumentError, DataError, UnsupportedModelError
from hierpool.core.group_nouns import counted, nouns
from hierpool.core.options import takes_prob
from hierpool.core.printable import one_line, printable
from hierpool.core.results import (
    OBS_DIM,
    row_labels,
)
from hierpool.core.theta import ResidualTheta, ScaleTheta, Theta, WorkingTheta
from hierpool.fits import posterior_tables
from hierpool.fits.record import FitRecord
from hierpool.fits.response_draws import ResponseDraws, latent_sd, linear_predictor
from hierpool.fits.shared import (
    R2_INDEX,
    WRITTEN,
    any_groups,
    as_html,
    check_has_parts,
    laplace_told,
    pooled_groups,
    printed_tables,
    size_in_words,
    titled_tables,
)

if TYPE_CHECKING:
    from os import PathLike

    from hierpool.algebra.integrated_posterior import IntegratedPosterior
    from hierpool.answers.new_data import Kind, RowGroups
    from hierpool.answers.response_scale import Scale
    from hierpool.bayes.exact.leave_out import Whole as WholeOfTheta
    from hierpool.bayes.exact.theta_proposal import ThetaProposal
    from hierpool.bayes.nuts.parameterization import Seen
    from hierpool.bayes.quadrature.leave_out import Whole
    from hierpool.checks.accuracy.loo import Refit
    from hierpool.checks.findings.boundary import WithPriors


AFFORDABLE = 4e10  # operations that a question to a posterior may take
ALWAYS_THIN_BELOW_FLOPS = (
    1e10  # and those that a table of means may take, before it is made of draws alone
)
AFFORDABLE_ON_REQUEST = (
    4e8  # either, of levels too many to store: some seconds, of 400 draws or more
)


@dataclass(frozen=True, repr=False)
class PosteriorFit(FitRecord):
    """Draws from the posterior of a model, checked, and every question that can be put to them.

    Attributes
    ----------
    design, priors, status, info
        As in ``FitRecord``.
    draws
        What ``datatree`` holds, as far as it has been needed.
    """

    @classmethod
    def from_run(cls, design: Design, priors: ModelPriors, run: JudgedRun) -> PosteriorFit:
        """The fit of a model that an engine has drawn."""
        fit = cls(design, priors, run.tree, run.status, run.info)
        vars(fit)["_proposal"] = run.proposal
        return fit

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
            values = self.integrated.log_density_of_rows(self.working_theta)
            group = self._row_group(values, {"form": "integrated"})
            self.draws["log_likelihood"] = xr.DataTree(group)
        return self.draws

    @cached_property
    def _algebra(self) -> tuple[Any, ThetaMap]:
        if not self.is_integrable:
            why = "the coefficients of this model have a prior that is not normal"
            if self.design.schema.is_only_sampled:
                why = "related groups of a family that is not Gaussian have no closed form"
            raise UnsupportedModelError(
                f"{why}, so they cannot be integrated out; use the draws in fit.datatree.",
                "not-integrable",
            )
        if self.design.family is not None:
            return integrate_family(self.design, self.priors)
        return integrate(self.design, self.priors)

    @property
    def is_integrable(self) -> bool:
        """Whether the algebra applies: every coefficient has a normal prior.

        Related groups of a family that is not Gaussian are beyond it.
        """
        return self.priors.is_integrable and not self.design.schema.is_only_sampled

    @property
    def integrated(self) -> MarginalModel:
        """The model with its coefficients integrated out, for checks that start from theta.

        Of a response that is not Gaussian a ``QuadratureModel``, which answers for points of theta
        and beta.
        """
        return cast("MarginalModel", self._algebra[0])

    @cached_property
    def theta(self) -> Theta:
        """The draws of theta in the coordinates of their priors, chains one after the other."""
        group = self.draws["theta"].to_dataset()
        flat = {str(k): v.to_numpy().reshape(-1, *v.shape[2:]) for k, v in group.data_vars.items()}
        return Theta(int(np.prod(self.n_draws)), flat)

    @cached_property
    def efficiency(self) -> float:
        """Mean effective size of the draws of theta over their number."""
        from hierpool.checks.accuracy.loo import relative_efficiency

        return relative_efficiency(self)

    @cached_property
    def residual_parameters(self) -> np.ndarray | None:
        """Shape (K, m): draws of the parameters of a residual structure; None without one."""
        own = self.priors.residual_structure
        return None if own is None else own.phi(self.theta)

    @cached_property
    def working_theta(self) -> WorkingTheta:
        """The draws of theta as the algebra takes them, chains one after the other.

        Of a response that is not Gaussian they have the draws of beta with them, and those of the
        coefficients of factors that are not integrated.
        """
        model, theta_map = self._algebra
        if self.design.family is None:
            theta = theta_map.working(self.theta)
            if not self.design.scale_factor or self.design.samples_scales:
                return theta
            beta = model.coordinates.beta_from_user(coefficient_draws.beta_draws(self))
            return ScaleTheta.at(cast("ResidualTheta", theta), beta)
        u = {
            g.factor: coefficient_draws.flat(self, g.level_variable)
            for k, g in enumerate(self.design.groups)
            if k != model.integrated
        }
        return model.point_of_draws(
            theta_map.of_family(self.theta), coefficient_draws.beta_draws(self), u
        )

    @property
    def point_log_density(self) -> np.ndarray:
        """Shape (draws,): log p(y | beta, theta) of a family, its largest factor integrated out."""
        return np.asarray(self._algebra[0].log_density_of_points(self.working_theta))

    @property
    def n_draws(self) -> tuple[int, int]:
        """Chains and draws per chain."""
        sizes = self.draws["posterior"].sizes
        return sizes["chain"], sizes["draw"]

    @property
    def seed(self) -> int:
        """Seed of the draws, from which what is drawn later starts."""
        return int(self.info.get("seed", 0))

    @property
    def keeps_levels(self) -> bool:
        """Whether coefficients of levels are among the draws; else they are drawn when asked for."""
        return self.info.get("levels") != "on request"

    @cached_property
    def dear_levels(self) -> dict[str, np.ndarray] | None:
        """Draws of all coefficients of levels, kept once they were asked for; None where not so.

        They are kept where they take long to draw, and are not too many.
        """
        algebra = None if self.keeps_levels else self.integrated
        if not (isinstance(algebra, LevelsOnRequest) and algebra.draws_are_dear):
            return None
        if int(np.prod(self.n_draws)) * algebra.n_random_effects > LARGEST_STORED:
            return None
        beta = algebra.coordinates.beta_from_user(coefficient_draws.beta_draws(self))
        (run,) = algebra.level_runs()
        drawn = algebra.draw_levels(self.working_theta, beta, run, self.seed)
        return {name: values for name, values in drawn.items() if name != "beta"}

    @property
    def fallback(self) -> str:
        """Why NUTS took the place of the exact engine; empty where it did not."""
        return str(self.info.get("reason") or "")

    def every(self, step: int) -> PosteriorFit:
        """The fit with every so-many-th draw of each chain."""
        fewer = self.draws.isel(draw=slice(None, None, step), missing_dims="ignore")
        return replace(self, draws=fewer)

    @property
    def family_parameters(self) -> np.ndarray:
        """Shape (K, P): draws of the family's parameters, thresholds where all predictors are 0."""
        return coefficient_draws.family_parameters(self)

    def conditional_means(self) -> dict[str, np.ndarray]:
        """E[coefficients | y, theta] of every draw of theta: ``beta``, ``u``, ``coef``.

        Shapes (draws, p), (draws, J, q): averaged, they are posterior means with far less Monte
        Carlo error than the mean of the coefficients' own draws.
        """
        used = self.thinned_draws.ravel()
        return self.integrated.mean_coefficients(self.working_theta[used])

    @cached_property
    def posterior_means(self) -> dict[str, np.ndarray]:
        """Means of all coefficients: ``beta`` (p,), ``u_<factor>``, ``coef_<factor>`` (J, q).

        The one set of means that every table, prediction and contrast uses: averages of the
        conditional means over the draws of theta. Where the coefficients cannot be integrated out,
        or with several factors working at every draw is too expensive, averages of the
        coefficients' own draws; with one factor every so-many-th draw of theta has to do there.
        """
        K, step = int(np.prod(self.n_draws)), self._means_step
        if self.is_integrable and (
            step == 1 or len(self.design.groups) < 2 or not self.keeps_levels
        ):
            means = self._averages(np.arange(0, K, step))
            if step > 1 and self.design.family is not None:
                means["beta"] = self.population_means
        else:
            means = {k: v.mean(axis=0) for k, v in self._coefficient_draws().items()}
        padded = np.append(means.get("beta", np.zeros(0)), 0.0)
        for group in self.design.groups:
            if group.is_pooled:
                u = means[f"u_{group.factor}"]
                means[f"coef_{group.factor}"] = u + padded[group.population]
        return means

    @cached_property
    def population_means(self) -> np.ndarray:
        """Shape (p,): ``beta`` of ``posterior_means``, without a look at the levels if it needs none.

        The coefficients of a family are among what is sampled: all of their draws are averaged where
        not every draw can be asked about the levels.
        """
        step = self._means_step
        if step > 1 and self.design.family is not None:
            return np.asarray(coefficient_draws.beta_draws(self).mean(axis=0))
        if self._has_many_levels and "posterior_means" not in vars(self):
            used = np.arange(0, int(np.prod(self.n_draws)), step)
            return np.asarray(self.integrated.mean_beta(self.working_theta[used]).mean(axis=0))
        return self.posterior_means["beta"]

    @property
    def _has_many_levels(self) -> bool:
        """Whether a Gaussian fit has more levels than it can keep draws of."""
        return self.design.family is None and self.is_integrable and not self.keeps_levels

    @property
    def _means_step(self) -> int:
        """Every so-many-th draw of theta has to do for means given theta."""
        if not self.is_integrable:
            return 1
        work = self.integrated.flops_per_theta * float(np.prod(self.n_draws))
        limit = AFFORDABLE_ON_REQUEST if self._has_many_levels else ALWAYS_THIN_BELOW_FLOPS
        return max(1, int(np.ceil(work / limit)))

    def _averages(self, used: np.ndarray) -> dict[str, np.ndarray]:
        """Averages of the conditional means at some draws of theta, a block of draws at a time."""
        algebra, theta = self.integrated, self.working_theta[used]
        sums: dict[str, np.ndarray] = {}
        for some in algebra.blocks(
            len(used), 2 * algebra.n_random_effects + len(self.design.terms)
        ):
            for k, v in algebra.mean_coefficients(theta[some]).items():
                sums[k] = sums.get(k, np.zeros(v.shape[1:])) + v.sum(axis=0)
        return {k: v / len(used) for k, v in sums.items()}

    @cached_property
    def thinned_draws(self) -> np.ndarray:
        """Shape (chains, draws used): positions of the draws of theta that later questions use.

        All of them, unless working at one theta is so expensive (several factors, thousands of
        levels) that every so-many-th has to do.
        """
        chains, draws = self.n_draws
        every = np.arange(chains * draws).reshape(chains, draws)
        total = float(self.integrated.flops_per_theta) * chains * draws
        limit = AFFORDABLE_ON_REQUEST if self._has_many_levels else AFFORDABLE
        return every[:, :: max(1, int(np.ceil(total / limit)))]

    def fixed_effects(self) -> pd.DataFrame:
        """Population coefficients: index ``term``; mean, median, sd, interval, ESS, R-hat."""
        return posterior_tables.fixed_effects(self)

    def random_effects(self, diagnostics: bool = True) -> pd.DataFrame:
        """Deviations of the groups from the fixed effects: index (factor, level, term)."""
        groups = pooled_groups(self.design.schema, "random effects")
        return posterior_tables.of_levels(self, groups, "u", diagnostics)

    def coefficients(self, diagnostics: bool = True) -> pd.DataFrame:
        """Coefficients of each group, fixed plus random: index (factor, level, term).

        With several factors, those of a group of one factor for average groups of the others.
        """
        groups = any_groups(self.design.schema, "coefficients")
        return posterior_tables.of_levels(self, groups, "coef", diagnostics)

    def coefficient_moments(self, factor: str) -> tuple[np.ndarray, np.ndarray]:
        """Means (J, q) and covariances (J, q, q) of the coefficients of each level of a factor."""
        from hierpool.answers.arguments import choose_group

        name = choose_group(self.design.schema, factor).factor
        return self.posterior_means[f"coef_{name}"], posterior_tables.covariances(self, name)

    def variance_components(self) -> pd.DataFrame:
        """Standard deviations and correlations, the residual sd last unless those are known.

        Index (factor, parameter, term, term2). A shape or precision whose prior is one of
        1 / sqrt(shape) has no posterior mean, since its inverse may be zero: mean and sd are NaN.
        """
        return posterior_tables.variance_components(self, self._without_mean)

    def prior_spread(self, draws: int = 20_000, seed: int = 0) -> xr.Dataset:
        """Standard deviations, correlations and sigma drawn from their priors, named as in the posterior.

        They are in the user's coding, in which these priors have no closed form: the sd of an
        intercept at zero mixes the priors of the intercept at the mean and of the slope.
        """
        from hierpool.bayes.simulate import prior_spread

        return prior_spread(self.design, self.priors, draws, seed)

    def icc(self) -> pd.DataFrame:
        """Intraclass correlations of each draw, summarised: index ``factor``.

        As ``LikelihoodFit.icc``: the share of a factor in the random variance, at the mean of its
        columns.
        """
        factors = [g.factor for g in pooled_groups(self.design.schema, "intraclass correlations")]
        return posterior_tables.of_quantities(
            self, self._partition.icc, pd.Index(factors, name="factor")
        )

    def r2(self) -> pd.DataFrame:
        """Marginal and conditional R2 of each draw, summarised; as ``LikelihoodFit.r2``."""
        return posterior_tables.of_quantities(self, self._partition.r2, R2_INDEX)

    def variance_partition(self) -> pd.DataFrame:
        """Shares of fixed effects, factors and residual in the variance, of each draw, summarised."""
        parts = self._partition
        return posterior_tables.of_quantities(
            self, parts.shares, pd.Index(parts.names, name="part")
        )

    @property
    def _partition(self) -> Partition:
        check_has_parts(self.design.schema)
        K = int(np.prod(self.n_draws))

        def draws(name: str) -> np.ndarray:
            values = self.variable(name).to_numpy()
            return values.reshape(K, *values.shape[2:])

        beta = draws("beta") if self.design.terms else np.zeros((K, 0))
        if self.is_integrable and self.design.family is None:
            return Partition.from_theta(self.design, beta, self.working_theta)
        sigma = draws("sigma") if self.design.residual.has_sigma else np.ones(K)
        if self.design.family is not None:
            par = coefficient_draws.family_parameters(self)
            sigma = latent_sd(self.design, self.design.family, par)
        Sigmas = []
        for group in self.design.groups:
            sd = draws(f"sd_{group.factor}")
            name = f"corr_{group.factor}"
            corr = draws(name) if group.has_correlation else np.eye(len(group.terms))
            Sigmas.append(corr * sd[:, :, None] * sd[:, None, :])
        left = mean_variance(self.design, sigma, self.residual_parameters)
        return Partition.from_covariances(
            self.design, beta, left, Sigmas, [g.Z for g in self.design.groups]
        )

    def summary(self) -> pd.DataFrame:
        """Fixed effects, standard deviations and correlations in one table, one row a quantity."""
        return posterior_tables.summary(self, self._without_mean)

    @property
    def _without_mean(self) -> tuple[str, ...]:
        """Parameters of the family with a density at infinity that no mean survives."""
        parts = [p for p in self.priors.parts if isinstance(p, ScalarPart)]
        return tuple(part.name for part in parts if part.prior.of == "1/sqrt")

    def variable(self, name: str) -> xr.DataArray:
        """Draws of one variable of the posterior, dims (chain, draw, ...).

        ``coef_<factor>`` is made from ``u_<factor>`` and ``beta`` where it is too large to keep.

        Raises
        ------
        DataError
            The draws of these levels are too large to be kept (code ``levels-not-kept``).
        """
        posterior = self.draws["posterior"].to_dataset()
        own = [
            g.factor for g in self.design.groups if name in (f"u_{g.factor}", f"coef_{g.factor}")
        ]
        if own and not self.keeps_levels and name not in posterior:
            many = counted(self.design.group(own[0]).grouping.n_levels, own[0])
            raise DataError(
                f"the draws of {many} are too large to keep: fit.random_effects(diagnostics=False) and "
                "fit.coefficients(diagnostics=False) sum them up, and "
                f"hp.slopes or fit.predict take single {nouns(own[0])}",
                "levels-not-kept",
            )
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
        self.design.check_rows("fit.fitted()", WRITTEN)
        if self.design.family is None:
            values = linear_predictor(self.design, self.posterior_means)
        else:
            values = self._responses.mean()
        return pd.Series(values, index=self.design.rows, name="fitted")

    def residuals(self) -> pd.Series:
        """Response minus fitted values, with the user's index.

        Of a binomial response successes less trials times the fitted probability; ratings count from 1.
        """
        family = self.design.family
        first = 1.0 if family is not None and family.has_thresholds else 0.0
        self.design.check_rows("fit.residuals()", WRITTEN)
        values = self.design.y + first - self.design.trials * self.fitted().to_numpy()
        return pd.Series(values, index=self.design.rows, name="residual")

    def _coefficient_draws(self) -> dict[str, np.ndarray]:
        posterior = self.draws["posterior"]
        names = ["beta"] if self.design.terms else []
        for group in self.design.groups:
            names.append(group.level_variable)
        out = {}
        for name in names:
            if name in posterior:
                values = posterior[name]
                out[name] = values.to_numpy().reshape(-1, *values.shape[2:])
        if not self.keeps_levels:
            runs = [run for _, run in levels_on_request(self)]
            out |= {name: np.concatenate([run[name] for run in runs], axis=1) for name in runs[0]}
        return out

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
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Predictions for new rows, or for those of the fit.

        Parameters
        ----------
        new_data
            A table with the predictors and, if ``groups`` needs them, the grouping columns; other
            columns are ignored. None: the rows of the fit.
        groups
            For which groups. ``"own"``: that of the row, which must be in the fit, with its own
            coefficients. ``"average"``: an average group, whose random effects are zero.
            ``"new"``: new groups, drawn from the distribution of the groups, once for each
            posterior draw; rows of one label are one group, and without the grouping column each
            row is one. ``"allow new"``: as ``"own"``, and groups that are not in the fit are new.
            ``{"boar": "b7"}``: this group in all rows. A dict may also have these words,
            ``{"plate": "new", "sample": "average"}``; factors that it does not name are ``"own"``.
        kind
            ``"mean"``: the expected value; of a binomial response the probability, of ratings the
            mean rating, the first being 1. ``"response"``: a new observation, residual included
            (weights or known_se are read from the table; trials of a binomial response too, which
            no other kind needs). ``"probability"``: of each rating of ``family="ordinal"``, with
            ``rating`` as the last level of the index.
        scale
            ``"response"``: in the units that were measured: with log(y), log2, log10, log1p or
            sqrt on the left side of the formula, predictions are back-transformed. Any other left
            side is not transformed. Of a family probabilities, rates, means. ``"linear"``: on the
            scale of the left side; of a family the linear predictor.
        prob
            Probability of the interval; None: that of ``hp.options``.
        seed
            Of new groups and residuals; None: that of the fit. The draws of a new group do not
            depend on the other rows.

        Returns
        -------
        DataFrame
            With the index of ``new_data``: ``mean``, ``median``, ``sd``, and the interval, named
            as in ``fixed_effects()``. ``mean`` is that of the conditional means, as in
            ``fitted()``: it has less Monte Carlo error than the mean of ``predict_draws()``.
            Back-transformed, it is the mean of the transformed draws; of families whose link is not
            the identity the mean over all new groups where groups are new.
        """
        from hierpool.answers.predictions import predict

        return predict(self, new_data, groups, kind, scale, prob, seed)

    @takes_groups
    def predict_draws(
        self,
        new_data: Any = None,
        *,
        groups: RowGroups = "own",
        kind: Kind = "mean",
        scale: Scale = "response",
        seed: int | None = None,
    ) -> xr.DataArray:
        """What ``predict`` sums up: draws with dims (chain, draw, obs); arguments as there."""
        from hierpool.answers.predictions import predict_draws

        return predict_draws(self, new_data, groups, kind, scale, seed)

    def posterior_predictive(self, seed: int | None = None) -> PosteriorFit:
        """The fit with a ``posterior_predictive`` group: one replicated response a draw."""
        rng = np.random.default_rng(None if seed is None else check_seed(seed))
        return self._with_group("posterior_predictive", self._responses.replicated(rng))

    def with_log_likelihood(self, form: Literal["integrated", "conditional"]) -> PosteriorFit:
        """The fit with its ``log_likelihood`` group in another form.

        ``"integrated"``: the density of a row given all others and theta, which ``az.loo`` should
        read. ``"conditional"``: that given coefficients and theta, which ``az.loo_pit``,
        ``az.loo_expectations`` and ``az.psense`` pair with the coefficient draws; PSIS on it
        flatters no pooling.
        """
        if form == "integrated":
            values = self.integrated.log_density_of_rows(self.working_theta)
        elif form == "conditional":
            values = self._responses.log_density()
        else:
            raise ArgumentError(
                f"form={form!r}: choose 'integrated' or 'conditional'", "unknown-choice"
            )
        return self._with_group("log_likelihood", values, {"form": form})

    @property
    def _responses(self) -> ResponseDraws:
        """Responses of the rows given every draw of the coefficients and theta."""
        par = coefficient_draws.family_parameters(self)
        phi = self.residual_parameters
        return ResponseDraws(self.design, self._coefficient_draws(), self.theta.sigma, par, phi)

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
        by: str | Grouping = "row",
        form: Literal["integrated", "conditional"] = "integrated",
        *,
        exact: bool = True,
        ahead: bool = False,
    ) -> Any:
        """Leave-one-out score: an ``ELPDData`` that ``az.compare`` takes; computed once.

        Parameters
        ----------
        by
            ``"row"``: each row given all others (a new observation of a known group).
            ``"group"`` or the name of a factor: all rows of a group jointly, given all other
            groups (a new group). Factors of other models of the same rows are given as
            ``other.design.groupings[factor]``.
        form
            ``"integrated"``: all coefficients integrated out. ``"conditional"``: the form of most
            packages, for comparison, by row only; it is too high for no pooling.
        exact
            Score points with a high Pareto k exactly, by sampling theta without them.
        ahead
            With the factor of correlated residuals, ``by="pig"``: each row given the earlier rows of
            its group and all other groups. The rows of a group add up to the group's score.

        Raises
        ------
        ArgumentError
            An unknown choice.
        UnsupportedModelError
            The coefficients cannot be integrated out.
        """
        from hierpool.checks.accuracy import loo

        check_choice("form", form, ("integrated", "conditional"))
        is_by_row = is_word(by) and by == "row"
        if form == "conditional" and is_by_row:
            return loo.leave_one_row_out_conditional(self)
        if form != "integrated":
            raise ArgumentError(
                f"form={form!r} with by={by!r}: choose 'integrated', or 'conditional' by row",
                "unknown-choice",
            )
        if ahead:
            return self._one_step_ahead(by, self._score_exactly if exact else None)
        refit = self._score_exactly if exact else None
        grouping = None if is_by_row else loo.grouping_for(self.design, by)
        scored = ("row" if grouping is None else grouping.factor, exact)
        if scored not in self._scores:
            self._scores[scored] = (
                loo.leave_one_row_out(self, refit, self._more_draws)
                if grouping is None
                else loo.leave_one_group_out(self, grouping, refit, self._more_draws)
            )
        return copy.copy(self._scores[scored])

    def _one_step_ahead(self, by: str | Grouping, refit: Refit | None) -> Any:
        from hierpool.checks.accuracy import loo

        if is_word(by) and by == "row":
            raise ArgumentError(
                f"ahead=True leaves out the later rows of a group: by={self.design.residual_factor!r}",
                "unknown-choice",
            )
        grouping = loo.grouping_for(self.design, by)
        return loo.one_step_ahead(self, grouping, refit)

    @cached_property
    def _scores(self) -> dict[tuple[str, bool], Any]:
        """Leave-one-out scores that were asked for, by what is left out and whether exactly."""
        return {}

    def _score_exactly(self, rows: np.ndarray) -> float:
        if self.design.family is not None:
            from hierpool.bayes.quadrature import leave_out

            own = (self.design, self.priors, rows, self.seed, self._whole.evidence)
            return leave_out.joint_log_density(*own).log_density
        if self.design.samples_scales:
            rest, theta, _ = self._theta_without(rows, self.seed)
            density = self.integrated.density_of_sets(rest, theta, [rows])[0]
            return float(special.logsumexp(density) - np.log(len(density)))
        from hierpool.bayes.exact.leave_out import joint_log_density

        known = self._whole_of_theta
        return joint_log_density(self.design, self.priors, rows, self.seed, known).log_density

    @cached_property
    def _whole_of_theta(self) -> WholeOfTheta:
        """log p(y), and the proposal for theta, for all that are left out exactly."""
        from hierpool.bayes.exact.leave_out import whole

        return whole(self.design, self.priors, self.seed, self._proposal)

    @cached_property
    def _proposal(self) -> ThetaProposal | None:
        """The proposal that theta was drawn from, where this fit was drawn just now; None otherwise.

        It is what ``leave_out.whole_proposal`` makes of the same seed.
        """
        return None

    @cached_property
    def _whole(self) -> Whole:
        """log p(y), and more draws than the posterior has, of a family."""
        from hierpool.bayes.quadrature.leave_out import whole

        return whole(self.design, self.priors, self.seed)

    def _more_draws(self) -> tuple[WorkingTheta, float] | None:
        """More draws of theta and beta than the posterior has, and their efficiency, of a family."""
        if self.design.family is None or not self._whole.is_trusted:
            return None
        return self._whole.points, self._whole.efficiency

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
            name of a factor: whole groups in folds, the rows of each group scored jointly, as in
            ``loo(by="group")``.
        seed
            Of the folds and of the draws; None: the same folds for every model of these rows.
        progress
            Show a bar on anything over a second.
        """
        from hierpool.checks.accuracy.kfold import kfold

        return kfold(self, k, by, seed, self._theta_without, progress)

    def _theta_without(
        self, rows: np.ndarray, seed: int
    ) -> tuple[MarginalModel, WorkingTheta, bool]:
        """The model of the other rows, draws of theta given them, whether these can be trusted."""
        from hierpool.bayes.exact.refit_with_priors import theta_without
        from hierpool.draws.summary import proposal_pareto_k

        def judge(weights: np.ndarray) -> bool:
            return not proposal_pareto_k(weights) > 0.7

        own = self.design, self.priors, rows
        if self.design.family is not None:
            from hierpool.bayes.quadrature.refit import points_without

            found = points_without(*own, chains=4, draws=500, seed=seed, judge=judge)
            return cast("tuple[MarginalModel, WorkingTheta, bool]", found)
        if self.design.samples_scales:
            from hierpool.bayes.nuts import refit

            return refit.theta_without(*own, *self._as_sampled(seed))
        return theta_without(*own, chains=4, draws=500, seed=seed, judge=judge)

    def _as_sampled(self, seed: int) -> tuple[SamplerSettings, Seen]:
        """How NUTS drew this posterior, to do it again without some rows; beta looked for where it is."""
        from hierpool.bayes.nuts.parameterization import Near, Seen

        chains, draws = self.n_draws
        sampler, tune = str(self.info["sampler"]), int(self.info["tune"])
        settings = SamplerSettings(draws, tune, chains, None, seed, sampler, None, False, {})
        by_term, near = self.info["parameterization"], None
        if self.design.terms:
            beta = coefficient_draws.beta_draws(self)
            near = Near(beta.mean(axis=0), np.atleast_2d(np.cov(beta, rowvar=False)))
        return settings, Seen(by_term, near)

    def loo_probabilities(self) -> xr.DataArray:
        """Probability of a success predicted for each row from all others, dims (obs,).

        Of ``family="bernoulli"`` and ``"binomial"``; of ratings (``family="ordinal"``) that of
        each rating, dims (obs, rating). Coefficients are integrated out, and rows with a high
        Pareto k are predicted by draws without them.

        Raises
        ------
        UnsupportedModelError
            The response has no probabilities to predict.
        """
        from hierpool.checks.accuracy import loo

        return loo.loo_probabilities(self, lambda rows: self._theta_without(rows, self.seed)[1])

    def loo_pit(self) -> xr.DataArray:
        """Probability integral transform of each row given all others; uniform if calibrated."""
        from hierpool.checks.accuracy import loo

        return loo.loo_pit(self)

    def predictive_check(
        self,
        levels: Literal["new", "known"] = "new",
        by: Literal["data", "level"] = "data",
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Statistics of the data compared with the posterior predictive distribution.

        Index (factor, statistic), or (factor, level, statistic). ``observed``; ``mean``,
        ``median``, ``sd`` and interval of replicated data; ``p``, the share of these that is
        larger. If ``p`` is near 0 or 1, data simulated from the model do not reproduce the
        statistic. The statistics are the sd and extremes of group means and of slopes within
        groups, the sd within groups, the correlation of neighbours in time, and extremes of rows;
        for a single group its mean, its sd and its slopes.

        Parameters
        ----------
        levels
            ``"new"``: groups are drawn from their distribution, which is checked too (mixed
            predictive). ``"known"``: the groups of the fit with their own coefficients (posterior
            predictive). These were fitted to the same rows, so p is uninformative about the
            groups and near one half. No pooling always uses the known groups, because it has no
            distribution of groups.
        by
            ``"data"``: statistics of all rows. ``"level"``: of each group.
        seed
            Of new groups and residuals; None: always the same.

        References
        ----------
        Gelman, Meng, Stern (1996), Stat. Sinica 6, 733-807.
        Marshall, Spiegelhalter (2003), Stat. Med. 22, 1649-1660 (mixed predictive).
        """
        from hierpool.checks.accuracy import replicated

        return replicated.predictive_check(self, levels, by, seed)

    @takes_prob
    def level_coverage(self, prob: float | None = None) -> pd.DataFrame:
        """Predictions of each group's mean from all other groups, compared with its observed mean.

        Index (factor, level). ``n``: number of rows. ``observed``: mean of the response.
        ``mean``, ``sd`` and interval of the prediction for a new group with these rows. ``pit``:
        position of the observed mean in its prediction, 0 to 1, uniform if calibrated.
        ``covered``: whether the interval contains it. ``rows_covered``: share of the rows within
        their own intervals. Nothing is refitted: draws of theta are reweighted for each group
        left out.

        Parameters
        ----------
        prob
            Probability of the intervals; None: that of ``hp.options``.

        Raises
        ------
        UnsupportedModelError
            No pooling, which cannot predict new groups; several factors; residuals correlated
            across the groups.
        """
        from hierpool.checks.accuracy import level_coverage

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
                "a flat prior is improper, so the marginal likelihood is not defined: give each "
                "coefficient a proper prior.",
                "no-marginal-likelihood",
            )
        value = self.info["log_marginal_likelihood"]
        return float(value), float(self.info["log_marginal_likelihood_error"])

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one NetCDF file (or a Zarr folder, by the suffix ``.zarr``)."""
        from hierpool.fits.storage import save_record

        whole = self.datatree
        save_record(FitRecord(self.design, self.priors, whole, self.status, self.info), path)

    @property
    def _titled_tables(self) -> dict[str, pd.DataFrame]:
        return titled_tables(self.fixed_effects(), self.variance_components())

    def __repr__(self) -> str:
        (chains, draws), schema = self.n_draws, self.design.schema
        engine, size = self.info.get("engine", ""), size_in_words(schema)
        lines = [
            f"PosteriorFit {self.status}",
            f"{schema.spec.formula}   {engine}, {size}, {chains} x {draws} draws",
        ]
        lines += filter(None, [laplace_told(self.info)])
        absent = [k for k in ("log_likelihood", "levels") if self.info.get(k) == "on request"]
        if absent:
            lines.append(f"too large to store, computed on request: {', '.join(absent)}")
        return printable(
            "\n".join([*map(one_line, lines), "", *printed_tables(self._titled_tables)])
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self).split("\n\n", 1)[0], self._titled_tables)


def load_fit(path: str | PathLike[str]) -> PosteriorFit:
    """A fit as ``fit.save`` wrote it; everything is in memory afterwards.

    Raises
    ------
    StorageError
        There is no such file, it is not a fit of hierpool or a damaged one, or another version of
        hierpool wrote it.
    MissingPackageError
        The package for this kind of file is not installed.
    """
    from hierpool.fits.storage import load_record

    found = load_record(path)
    return PosteriorFit(found.design, found.priors, found.draws, found.status, found.info)


if TYPE_CHECKING:  # what the floors below ask of a posterior, this one answers
    _protocols: tuple[type[IntegratedPosterior], type[WithPriors]] = (PosteriorFit, PosteriorFit)
