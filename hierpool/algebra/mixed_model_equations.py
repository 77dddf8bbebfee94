"""What an optimum says of any combination of coefficients, and how sure that is.

Given theta, the errors of beta_hat and of u_hat are those of Henderson's mixed model equations; the
formula is that of ``algebra.factorisation``.

References
----------
Henderson (1975), Biometrics 31, 423-447.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hierpool.algebra.choose import at_estimate
from hierpool.algebra.combinations import Combinations
from hierpool.algebra.factorisation import Factorisation
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.unpooled import Unpooled
from hierpool.core.design import Design
from hierpool.core.results import Estimate


@dataclass(frozen=True)
class Henderson:
    """An optimum as the solution of the mixed model equations at its theta.

    Attributes
    ----------
    design, estimate
        What was fitted, and what came out.
    """

    design: Design
    estimate: Estimate

    @cached_property
    def _coordinates(self) -> Coordinates:
        return Coordinates.from_design(self.design)

    @cached_property
    def _at(self) -> Factorisation | Unpooled:
        return at_estimate(self.design, self._coordinates, self.estimate)

    def value(self, combinations: Combinations) -> np.ndarray:
        """Shape (m,): the estimates; a coefficient that is not estimable counts as zero."""
        if isinstance(self._at, Unpooled):
            return self._at.value(combinations)
        out = combinations.X @ self.estimate.beta
        for own, part in zip(self.estimate.factors, combinations.parts, strict=True):
            each = np.einsum("eq,eq->e", part.weights, own.u[part.levels])
            out = out + combinations.by_combination(part, each)
        return np.asarray(out)

    def variance(self, combinations: Combinations) -> np.ndarray:
        """Shape (m,): error variances; NaN for what is not estimable."""
        working = combinations.to_working(self._coordinates)
        return self.estimate.sigma**2 * self._at.variance(working)

    def between(self, factor: int, Z: np.ndarray) -> np.ndarray:
        """Shape (m,): z'Sigma z, variance between the levels of a factor in columns (m, q)."""
        at = self.design.group_columns[factor]
        root = (
            self._coordinates.zs[factor].from_working
            @ self.estimate.relative_covariance_factor[at, at]
        )
        return self.estimate.sigma**2 * np.square(Z @ root).sum(axis=1)
