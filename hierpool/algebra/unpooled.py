"""No pooling by least squares: values and error variances of combinations of coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierpool.algebra.combinations import Combinations
from hierpool.algebra.moments import Coordinates, Moments, Rows
from hierpool.algebra.sweep import SweptLevels, swept_inverse
from hierpool.core.design import Design

_IN_SPAN = (
    1e-4  # part of a combination outside the span of the rows beyond which it is not estimable
)


@dataclass(frozen=True)
class Unpooled:
    """Each level's coefficients by least squares: the limit of an infinite covariance.

    No identity is added to Z'Z, whose inverse is a generalised one.

    Attributes
    ----------
    coordinates, moments
        Working coordinates, and cross-products in them.
    swept
        Generalised inverses of the levels' blocks.
    left, inverse
        Shapes (p, p): what the levels leave of the common columns, and its generalised inverse.
    """

    coordinates: Coordinates
    moments: Moments
    swept: SweptLevels
    left: np.ndarray
    inverse: np.ndarray

    @classmethod
    def from_design(cls, design: Design, coordinates: Coordinates) -> Unpooled:
        """Of a design without pooling."""
        m = Moments.from_rows(Rows.from_design(design, coordinates))
        swept, C = SweptLevels.from_cross_products(m.A[m.design_of]), m.C[m.design_of]
        left = m.XX - np.einsum("jap,jab,jbr->pr", C, swept.inverse, C)
        # Pivots are compared with XX, before the levels were taken off: what is constant within levels
        # leaves rounding, and must count as aliased.
        return cls(coordinates, m, swept, left, swept_inverse(left, np.diag(m.XX))[0])

    def value(self, combinations: Combinations) -> np.ndarray:
        """Shape (m,): estimates of combinations in the user's coding; not estimable ones count as 0."""
        m, x, (z,) = self.moments, self.coordinates.x, self.coordinates.zs
        C = m.C[m.design_of]
        right = m.Xy - np.einsum("jap,jab,jb->p", C, self.swept.inverse, m.b)
        beta = self.inverse @ right
        own = np.einsum("jab,jb->ja", self.swept.inverse, m.b - C @ beta)
        (given,), t = combinations.parts, combinations.to_working(self.coordinates)
        (part,) = t.parts
        constant = given.weights @ z.constant * (not x.has_constant)
        each = np.einsum("eq,eq->e", part.weights, own[part.levels])
        each = each + self.coordinates.y_shift * constant
        shift = self.coordinates.y_shift * (combinations.X @ x.constant)
        return np.asarray(t.X @ beta + shift + np.bincount(part.which, each, len(t)))

    def variance(self, t: Combinations) -> np.ndarray:
        """Shape (m,): error variances in working coordinates; NaN for what is not estimable."""
        (part,), m = t.parts, self.moments
        design, z = m.design_of[part.levels], part.weights
        solved = np.einsum("eab,eb->ea", self.swept.inverse[part.levels], z)
        # A A^- z = z if and only if the level's rows determine z'u; else z'A^- z is not its variance.
        told = _is_same(np.einsum("eab,eb->ea", m.A[design], solved), z)
        left = t.X - t.by_combination(part, np.einsum("eap,ea->ep", m.C[design], solved))
        own = np.bincount(part.which, np.einsum("ea,ea->e", z, solved), len(t))
        through = left @ self.inverse
        variance = own + np.einsum("mp,mp->m", left, through)
        known = np.bincount(part.which, ~told, len(t)) == 0
        known &= _is_same(through @ self.left, left, np.abs(t.X).max(axis=1, initial=0.0))
        return np.where(known, variance, np.nan)


def _is_same(made: np.ndarray, wanted: np.ndarray, scale: np.ndarray | float = 0.0) -> np.ndarray:
    """Shape (m,): whether rows (m, k) agree."""
    size = np.maximum(np.abs(wanted).max(axis=1, initial=0.0), scale)
    return np.abs(made - wanted).max(axis=1, initial=0.0) <= _IN_SPAN * size
