"""The count inside of zero-inflated and hurdle distributions: Poisson, or negative binomial."""

from __future__ import annotations

import numpy as np
from scipy import special

from hierpool.core.families import codes
from hierpool.core.families.counts import negbinomial_constant
from hierpool.core.families.family import column
from hierpool.core.families.negbinomial import drawn_negbinomial, negbinomial_cdf
from hierpool.core.families.poisson import drawn_poisson


class PoissonInside:
    """Poisson counts with means ``mu`` (K, n); ``par`` (K, P) has nothing for them."""

    def _of_count(self, y: np.ndarray, par: np.ndarray) -> np.ndarray:
        """What the log density of a count has beside the predictor's part."""
        return np.asarray(-special.gammaln(y + 1))

    def _log_zero(self, mu: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Log probability of a zero."""
        return -mu

    def _spread(self, mu: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Variance."""
        return mu

    def _cdf(self, y: np.ndarray, mu: np.ndarray, par: np.ndarray) -> np.ndarray:
        return np.asarray(special.pdtr(y, mu))

    def _draw(self, mu: np.ndarray, par: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return drawn_poisson(mu, rng)


class NegbinomialInside:
    """Negative binomial counts with means ``mu`` (K, n); the first column of ``par`` is their shape."""

    def _of_count(self, y: np.ndarray, par: np.ndarray) -> np.ndarray:
        """What the log density of a count has beside the predictor's part."""
        return negbinomial_constant(y, column(par, 0))

    def _log_zero(self, mu: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Log probability of a zero."""
        a = np.minimum(column(par, 0), codes.LARGEST_SHAPE)
        return np.asarray(-a * np.log1p(mu / a))

    def _spread(self, mu: np.ndarray, par: np.ndarray) -> np.ndarray:
        """Variance."""
        return np.asarray(mu + mu**2 / column(par, 0))

    def _cdf(self, y: np.ndarray, mu: np.ndarray, par: np.ndarray) -> np.ndarray:
        return negbinomial_cdf(y, mu, column(par, 0))

    def _draw(self, mu: np.ndarray, par: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return drawn_negbinomial(mu, column(par, 0), rng)
