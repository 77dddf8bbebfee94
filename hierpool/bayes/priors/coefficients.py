"""Priors of coefficients: fixed effects, and the coefficients of each group in no pooling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hierpool.algebra.triangular import solve_lower
from hierpool.bayes.priors.meaning import PLAIN, Meaning
from hierpool.bayes.priors.power import scaled_prior
from hierpool.bayes.priors.prior import Prior, PriorRow
from hierpool.core.coding import Coding
from hierpool.core.errors import listed

INTEGRABLE = {"Normal", "Flat", "MvNormal"}  # families under which coefficients integrate out


@dataclass(frozen=True)
class CoefficientPriors:
    """Independent priors of a block's coefficients, in the coordinates of ``coding``.

    Used for the population coefficients and for the own coefficients of no pooling.
    """

    coding: Coding
    terms: tuple[str, ...]
    priors: tuple[Prior, ...]

    @property
    def is_normal(self) -> bool:
        """Whether every prior is normal or flat, so that the coefficients can be integrated out."""
        return all(p.family in INTEGRABLE for p in self.priors)

    @property
    def joint(self) -> Prior | None:
        """The joint normal prior of all coefficients, if there is one; it stands at each term."""
        joint = bool(self.priors) and self.priors[0].family == "MvNormal"
        return self.priors[0] if joint else None

    @property
    def n_flat(self) -> int:
        """How many coefficients have a flat prior."""
        return sum(p.family == "Flat" for p in self.priors)

    @property
    def mean(self) -> np.ndarray:
        """Shape (k,): prior means, 0 where flat (normal and flat priors only)."""
        if self.joint is not None:
            return np.array(self.joint.parameters["mu"])
        return np.array([0.0 if p.family == "Flat" else p.parameters["mu"] for p in self.priors])

    @property
    def sd(self) -> np.ndarray:
        """Shape (k,): prior sds, infinite where flat (normal and flat priors only)."""
        if self.joint is not None:
            return np.sqrt(np.diag(self.joint.parameters["cov"]))
        return np.array(
            [np.inf if p.family == "Flat" else p.parameters["sigma"] for p in self.priors]
        )

    @property
    def precision_root(self) -> np.ndarray:
        """Shape (k, k): R with R'R the prior precision, zero rows where flat."""
        if self.joint is None:
            return np.diag(1 / self.sd)
        scale = self.sd
        root = np.linalg.cholesky(np.array(self.joint.parameters["cov"]) / np.outer(scale, scale))
        return solve_lower(root, np.diag(1 / scale))

    def marginal(self, index: int) -> Prior:
        """Prior of one coefficient by itself."""
        if self.joint is None:
            return self.priors[index]
        return Prior("Normal", mu=self.mean[index], sigma=self.sd[index])

    def power_scaled(self, power: float) -> CoefficientPriors:
        """The same with each prior raised to a power."""
        return replace(self, priors=tuple(scaled_prior(p, power) for p in self.priors))

    def table(
        self,
        variable: str,
        response: str,
        common: tuple[str, ...] = (),
        meaning: Meaning = PLAIN,
    ) -> list[PriorRow]:
        """Rows of the printed table; ``common``: other columns, at their means where these are."""
        rows = []
        for k, (term, a) in enumerate(zip(self.terms, self.coding.constant, strict=True)):
            prior = self.marginal(k)
            text = f"{prior}, jointly" if self.joint is not None else str(prior)
            where = where_stated(self.coding, self.terms, common)
            if a:
                said = meaning.of_level(f"{response}{where}", prior)
            else:
                said = meaning.of_change(response, term, prior)
            rows.append(PriorRow(f"{variable}[{term}]", text, said))
        return rows


def where_stated(coding: Coding, terms: tuple[str, ...], common: tuple[str, ...] = ()) -> str:
    """Values of the predictors at which the prior of an intercept is stated."""
    if coding.is_centred:
        return " at the mean of the predictors"
    others = [t for t, a in zip(terms, coding.constant, strict=True) if not a]
    at_zero = f" where {listed(others, most=3).replace("'", '')} is 0" if others else ""
    at_mean = f" at the mean of {listed(common, most=3).replace("'", '')}" if common else ""
    return at_zero + (" and" if at_zero and at_mean else "") + at_mean
