"""What checks, answers and pictures may ask of a fit: the protocols ``Fit``, ``Posterior``, ``Optimum``.

``fits.PosteriorFit`` and ``fits.LikelihoodFit`` are the two fits there are, and the floors below
``fits`` name these protocols in their place. Whether a fit holds draws is asked in one way,
``isinstance(fit, Posterior)``: it looks the members up and evaluates none of them.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
import pandas as pd
import xarray as xr

from hierpool.core.design import Design, Grouping
from hierpool.core.errors import ArgumentError
from hierpool.core.results import Estimate, Status


@runtime_checkable
class Fit(Protocol):
    """What a posterior and an optimum both say; columns of the tables differ."""

    @property
    def design(self) -> Design:
        """The rows that were fitted."""

    @property
    def status(self) -> Status:
        """Whether to trust it."""

    @property
    def residual_parameters(self) -> np.ndarray | None:
        """Shape (K, m): parameters of a residual structure, by draw; None without one."""

    def fixed_effects(self) -> pd.DataFrame:
        """Population coefficients: index ``term``."""

    def random_effects(self) -> pd.DataFrame:
        """Deviations of the levels: index (factor, level, term)."""

    def coefficients(self) -> pd.DataFrame:
        """Coefficients of the levels: index (factor, level, term)."""

    def coefficient_moments(self, factor: str) -> tuple[np.ndarray, np.ndarray]:
        """Means (J, q) and covariances (J, q, q) of the coefficients of each level of a factor."""

    def variance_components(self) -> pd.DataFrame:
        """Standard deviations and correlations: index (factor, parameter, term, term2)."""

    def variance_partition(self) -> pd.DataFrame:
        """Shares of fixed effects, factors and residual in the variance."""

    def icc(self) -> pd.DataFrame:
        """Intraclass correlations."""

    def r2(self) -> pd.DataFrame:
        """Marginal and conditional R2."""

    def residuals(self) -> pd.Series:
        """Response minus fitted values."""


@runtime_checkable
class Posterior(Fit, Protocol):
    """Draws from the posterior of a model. What starts from theta takes an ``IntegratedPosterior``."""

    @property
    def draws(self) -> xr.DataTree:
        """The groups that have been needed so far; ``posterior`` is always there."""

    @property
    def seed(self) -> int:
        """From which what is drawn later starts."""

    @property
    def keeps_levels(self) -> bool:
        """Whether coefficients of levels are among the draws."""

    def random_effects(self, diagnostics: bool = True) -> pd.DataFrame:
        """Deviations of the levels: index (factor, level, term)."""

    @property
    def fallback(self) -> str:
        """Why NUTS took the place of the exact engine; empty where it did not."""

    @property
    def n_draws(self) -> tuple[int, int]:
        """Chains, and draws of each."""

    @property
    def is_integrable(self) -> bool:
        """Whether the coefficients can be integrated out."""

    @property
    def posterior_means(self) -> dict[str, np.ndarray]:
        """``beta`` (p,), ``u_<factor>`` and ``coef_<factor>`` (J, q)."""

    @property
    def population_means(self) -> np.ndarray:
        """Shape (p,): ``beta`` of those."""

    @property
    def family_parameters(self) -> np.ndarray:
        """Shape (K, P): draws of the parameters of the response's family."""

    def variable(self, name: str) -> xr.DataArray:
        """Draws of one variable, dims (chain, draw, ...)."""

    def prior_spread(self) -> xr.Dataset:
        """Standard deviations, correlations and sigma drawn from their priors."""

    def every(self, step: int) -> Self:
        """The fit with every so-many-th draw."""

    def posterior_predictive(self, seed: int | None = None) -> Self:
        """The fit with a ``posterior_predictive`` group."""

    def with_log_likelihood(self, form: Literal["integrated", "conditional"]) -> Self:
        """The fit with its ``log_likelihood`` group in this form."""

    def loo(self, by: str | Grouping = "row", *, exact: bool = True) -> Any:
        """Leave-one-out score, an ``ELPDData`` of ArviZ."""

    def loo_pit(self) -> xr.DataArray:
        """Probability integral transform of each row given all others."""

    def loo_probabilities(self) -> xr.DataArray:
        """Probability of a success, or of each rating, predicted for each row from all others."""


@runtime_checkable
class Optimum(Fit, Protocol):
    """Estimates of REML, ML or least squares."""

    @property
    def method(self) -> str:
        """``"REML"``, ``"ML"`` or ``"least squares"``."""

    @property
    def estimate(self) -> Estimate:
        """Every number, in the user's coding."""

    @property
    def df_method(self) -> str:
        """How combinations of the fixed effects are tested."""

    def with_df(
        self, df: Literal["satterthwaite", "kenward-roger", "residual", "normal"]
    ) -> Optimum:
        """The same fit, with another method of degrees of freedom."""

    def covariance(self) -> np.ndarray:
        """Shape (p, p): covariance of the fixed effects, adjusted where ``df_method`` does so."""

    def degrees_of_freedom(self, combinations: np.ndarray) -> np.ndarray:
        """Shape (m,): of combinations (m, p) of the fixed effects."""

    def f_test(self, hypothesis: np.ndarray) -> tuple[int, float, float, float]:
        """num_df, den_df, F and p of (hypothesis) beta = 0, a matrix (r, p), by ``df_method``."""


def check_fit(given: object, function: str) -> None:
    """Raise unless it is a fit."""
    if not isinstance(given, Fit):
        raise ArgumentError(
            f"{function}() takes a fit, model.fit() or model.reml(); given: {type(given).__name__}.",
            "fit-needed",
        )
