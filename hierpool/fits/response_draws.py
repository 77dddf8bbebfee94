"""Responses of the rows of a fit, given draws of its coefficients and of theta."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hierpool.algebra.correlated.residuals import drawn as drawn_residuals
from hierpool.core.design import Design
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.families.family import Family

_NUMBERS = 4_000_000  # draws x rows x ratings at once


def linear_predictor(design: Design, coefficients: Mapping[str, np.ndarray]) -> np.ndarray:
    """Linear predictor (..., n) from coefficients in the user's coding, leading dims kept."""
    beta = coefficients.get("beta")
    out = 0.0 if beta is None else np.einsum("np,...p->...n", design.X, beta)
    for group in design.groups:
        levels = coefficients[group.level_variable]
        out = out + np.einsum("nq,...nq->...n", group.Z, levels[..., group.grouping.codes, :])
    return np.asarray(out + design.offset)


@dataclass(frozen=True)
class ResponseDraws:
    """K draws of everything that the response depends on, in the user's coding.

    Attributes
    ----------
    design
        The rows.
    coefficients
        ``beta`` (K, p) and the coefficients of the levels, by name.
    sigma
        Shape (K,): residual sd of a Gaussian response.
    par
        Shape (K, P): parameters of the family.
    phi
        Shape (K, m): parameters of a residual structure; None without one.
    """

    design: Design
    coefficients: Mapping[str, np.ndarray]
    sigma: np.ndarray
    par: np.ndarray
    phi: np.ndarray | None = None

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Runs of draws with the linear predictors of the rows, shape (k, n)."""
        family = self.design.family
        per_draw = self.design.n * max(1, family.n_categories if family else 1)
        step, K = max(1, _NUMBERS // per_draw), len(self.sigma)
        for first in range(0, K, step):
            run = slice(first, first + step)
            some = {name: values[run] for name, values in self.coefficients.items()}
            eta = linear_predictor(self.design, some)
            if eta.ndim == 1:  # no coefficients at all
                eta = np.broadcast_to(eta, (len(self.sigma[run]), self.design.n))
            yield run, eta

    def mean(self) -> np.ndarray:
        """Shape (n,): expected response per trial, averaged over the draws."""
        family, total = self.design.family, np.zeros(self.design.n)
        for run, eta in self._blocks():
            total += (eta if family is None else family.mean(eta, self.par[run])).sum(axis=0)
        return np.asarray(total / len(self.sigma))

    def replicated(self, rng: np.random.Generator) -> np.ndarray:
        """Shape (K, n): a new response of each row at each draw."""
        family = self.design.family
        if family is None:
            expected = linear_predictor(self.design, self.coefficients)
            noise = rng.standard_normal((len(self.sigma), self.design.n))
            return np.asarray(expected + drawn_residuals(self.design, self.sigma, self.phi, noise))
        drawn = [
            family.draw(eta, self.par[run], self.design.trials, rng) for run, eta in self._blocks()
        ]
        return np.concatenate(drawn)

    def log_density(self) -> np.ndarray:
        """Shape (K, n): log density of each row's response given coefficients and theta."""
        design, family = self.design, self.design.family
        if family is None:
            sd = design.residual.sd(self.sigma)
            scaled = (design.y - linear_predictor(design, self.coefficients)) / sd
            return np.asarray(-0.5 * np.log(2 * np.pi) - np.log(sd) - 0.5 * scaled**2)
        weights = 1.0 if design.row_weights is None else design.row_weights
        found = [
            family.log_density(design.y, eta, self.par[run], design.trials)
            for run, eta in self._blocks()
        ]
        return np.asarray(weights * np.concatenate(found))


def latent_sd(design: Design, family: Family, par: np.ndarray) -> np.ndarray:
    """Shape (K,): sd of the response on the scale of the linear predictor.

    Raises
    ------
    UnsupportedModelError
        A family whose response has no variance on that scale.
    """
    mean = float(np.average(design.observations.y, weights=design.row_counts))
    found = family.latent_variance(par, mean)
    if found is None:
        raise UnsupportedModelError(
            f"a {family.name} response has no variance on the scale of its linear predictor, so there "
            "are no shares of variance. The standard deviations are in variance_components()",
            "no-latent-variance",
        )
    return np.sqrt(found)
