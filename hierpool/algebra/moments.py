"""Moments: what the rows of a design amount to.

Every likelihood of a Gaussian model needs the rows only through cross-products. They are taken in
working coordinates: columns centred where a constant is in their span and scaled to sd 1, response
shifted by its mean. Sums taken raw and centred afterwards would lose every digit at an offset of
1e8.

Symbols (working coordinates, factor with J levels and q columns, p population columns):
    A  (J, q, q)  Z_j'Z_j        C  (J, q, p)  Z_j'X_j        b  (J, q)  Z_j'y_j
    XX (p, p)     Xy (p,)        yy            n rows
Design compression: levels with equal (A, C) share one factorisation. Of their b the sum and the
R factor of the stacked rows are kept, never the Gram matrix (where a level has fewer rows than q
the Gram loses eps / sigma^4).

Weights: each row is divided by its residual sd in units of sigma (``Residual.relative_sd``), here and
nowhere else; from there on all residuals have the sd sigma. Densities of the rows so divided become
those of the response by ``log_sd``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import linalg

from hierpool.core.coding import Coding
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import UnsupportedModelError, listed
from hierpool.core.schema import Schema
from hierpool.core.summed_rows import Shares

_MANY_DESIGNS = 10_000
_KEY_DIGITS = 11  # designs equal to this many digits of their largest entry are one design


@dataclass(frozen=True)
class Coordinates:
    """Working coordinates of a design: where its cross-products are taken.

    Attributes
    ----------
    x
        Coding of the population columns.
    zs
        Coding of each factor's columns, in the order of the design's groups.
    y_shift
        Subtracted from the response; 0 where no constant is in the span of any block.
    """

    x: Coding
    zs: tuple[Coding, ...]
    y_shift: float

    @classmethod
    def from_design(cls, design: Design) -> Coordinates:
        """Coordinates for a design."""
        return cls.from_schema(design.schema)

    @classmethod
    def from_schema(cls, schema: Schema) -> Coordinates:
        """Coordinates for the rows that a schema speaks of."""
        x, zs = schema.coding, tuple(group.coding for group in schema.groups)
        own = zs[0] if zs and not schema.groups[0].is_pooled else None
        owner = x if x.has_constant else own
        if owner is own and own is not None and own.has_constant and schema.terms:
            # No pooling: the common columns are centred too; their means move to the intercepts.
            means = schema.column_means
            x = Coding(np.zeros_like(means), means, x.scales)
        has_constant = owner is not None and owner.has_constant and schema.family is None
        return cls(x, zs, schema.response_scale.mean if has_constant else 0.0)

    @property
    def z(self) -> Coding | None:
        """Coding of the one factor's columns; None without group terms."""
        if len(self.zs) > 1:
            raise ValueError("several factors have a coding each: use zs")
        return self.zs[0] if self.zs else None

    @property
    def u_to_working(self) -> np.ndarray:
        """Shape (Q, Q), block diagonal over the factors: working u from the user's."""
        return linalg.block_diag(*(z.to_working for z in self.zs)) if self.zs else np.zeros((0, 0))

    @property
    def u_from_working(self) -> np.ndarray:
        """Shape (Q, Q), block diagonal over the factors: the user's u from the working one."""
        if not self.zs:
            return np.zeros((0, 0))
        return linalg.block_diag(*(z.from_working for z in self.zs))

    def beta_to_user(self, beta: np.ndarray) -> np.ndarray:
        """Population coefficients (..., p) in the user's coding."""
        return beta @ self.x.from_working.T + self.y_shift * self.x.constant

    def beta_from_user(self, beta: np.ndarray) -> np.ndarray:
        """Population coefficients (..., p) in working coordinates."""
        return (beta - self.y_shift * self.x.constant) @ self.x.to_working.T

    def u_to_user(self, u: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """Level deviations (..., J, q), or own coefficients for no pooling, in the user's coding.

        ``beta`` (..., p), in working coordinates, matters only where the constant is in Z alone.
        """
        assert self.z is not None
        user = (u.reshape(-1, u.shape[-1]) @ self.z.from_working.T).reshape(u.shape)
        return user + self.u_shift(beta)[..., None, :]

    def u_shift(self, beta: np.ndarray) -> np.ndarray:
        """Shape (..., q): what own coefficients in the user's coding have beside ``from_working`` u."""
        assert self.z is not None
        if self.x.has_constant:
            return np.zeros((*beta.shape[:-1], len(self.z.constant)))
        moved = self.y_shift - (beta / self.x.scales) @ self.x.means
        return np.asarray(moved[..., None] * self.z.constant)


def single_group(design: Design) -> GroupDesign | None:
    """The design's one factor, None where it has none; an error where it has several."""
    if len(design.groups) > 1:
        names = listed(g.factor for g in design.groups)
        raise UnsupportedModelError(
            f"{design.spec.formula} has {len(design.groups)} grouping factors ({names}), and this "
            "function takes one. Keep the terms of one factor.",
            "one-factor-only",
        )
    return design.groups[0] if design.groups else None


class RowsOverSd:
    """Rows that were divided by their residual sds: densities of theirs as those of the response."""

    y: np.ndarray
    sd: np.ndarray | float
    shares: Shares | None

    @property
    def log_sd(self) -> np.ndarray:
        """Shape (n,): what log densities of the response are less than those of these rows."""
        if self.shares is not None:
            return self.shares.log_sd
        return np.broadcast_to(np.log(self.sd), self.y.shape)

    @property
    def n_summed(self) -> int:
        """Number of rows of the table that they are, or stand in for."""
        return len(self.y) if self.shares is None else self.shares.n

    @property
    def mean_precision(self) -> float:
        """Mean of 1 / sd^2 over the rows of the table."""
        precision = np.square(1 / np.asarray(self.sd))
        total = precision.mean() if self.shares is None else precision.sum() / self.shares.n
        return float(total)

    def n_by_level(self, codes: np.ndarray, n_levels: int) -> np.ndarray:
        """Shape (levels,): rows of the table of each level."""
        if self.shares is None:
            return np.bincount(codes, minlength=n_levels)
        return self.shares.by_level(codes, n_levels)

    def to_response_density(self, log_density: np.ndarray, which: Any = slice(None)) -> np.ndarray:
        """Log densities (..., rows) of these rows as those of the response; changed in place."""
        log_sd = self.log_sd[which]
        if log_sd.any():
            log_density -= log_sd
        return log_density


@dataclass(frozen=True)
class Rows(RowsOverSd):
    """The rows in working coordinates, each divided by its residual sd in units of sigma.

    Attributes
    ----------
    y, X, Z
        The rows so divided; the offset is off y. Z has no column without a factor.
    codes
        Level of each row; all zero without a factor.
    sd
        Shape (n,): what each row was divided by; the number 1 where nothing was.
    shares
        What each row stands for; None where it is a row of a table.
    """

    y: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    codes: np.ndarray
    sd: np.ndarray | float = 1.0
    shares: Shares | None = None

    @classmethod
    def from_design(cls, design: Design, coordinates: Coordinates) -> Rows:
        """Rows of a design."""
        group, residual, rows = single_group(design), design.residual, design.observations
        sd, whiten = residual.relative_sd, residual.whiten
        y = whiten(rows.shifted_response(coordinates.y_shift))
        X = whiten(rows.working_X(coordinates.x))
        if group is None or coordinates.z is None:
            none = np.zeros((len(y), 0)), np.zeros(len(y), dtype=np.intp)
            return cls(y, X, *none, sd, rows.shares)
        Z = whiten(rows.working_Z(group.factor, coordinates.z))
        return cls(y, X, Z, group.grouping.codes, sd, rows.shares)

    def take(self, which: np.ndarray) -> Rows:
        """Some of the rows, by position."""
        sd = np.broadcast_to(self.sd, self.y.shape)[which]
        shares = None if self.shares is None else self.shares.take(which)
        return Rows(self.y[which], self.X[which], self.Z[which], self.codes[which], sd, shares)

    @property
    def without_levels(self) -> Rows:
        """The same rows without columns that vary."""
        none = np.zeros((len(self.y), 0)), np.zeros(len(self.y), dtype=np.intp)
        return Rows(self.y, self.X, *none, self.sd, self.shares)

    def residuals(self, beta: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Shape (n,): residuals of the response at coefficients (p,) and (J, q)."""
        left = self.y - self.X @ beta
        if self.Z.shape[1]:
            left = left - np.einsum("nq,nq->n", self.Z, u[self.codes])
        return left * self.sd


@dataclass(frozen=True)
class Moments:
    """Cross-products of a design, with equal level designs compressed.

    Attributes
    ----------
    n
        Number of rows.
    XX, Xy, yy
        Totals, shapes (p, p), (p,), ().
    A, C
        Unique level designs, shapes (U, q, q) and (U, q, p).
    b
        Shape (J, q), one row a level.
    n_rows
        Shape (J,): rows of each level.
    design_of
        Shape (J,): which unique design each level has.
    counts
        Shape (U,): levels of each unique design.
    b_sum, b_root
        Shapes (U, q) and (U, q, r): sum of the b of a design's levels, and a root with
        b_root b_root' = sum of b b'.
    log_sd
        Sum of the log residual sds of the rows in units of sigma: 0 without weights.
    """

    n: int
    XX: np.ndarray
    Xy: np.ndarray
    yy: float
    A: np.ndarray
    C: np.ndarray
    b: np.ndarray
    n_rows: np.ndarray
    design_of: np.ndarray
    counts: np.ndarray
    b_sum: np.ndarray
    b_root: np.ndarray
    log_sd: float = 0.0

    @property
    def p(self) -> int:
        """Number of population columns."""
        return len(self.Xy)

    @property
    def q(self) -> int:
        """Number of the factor's columns."""
        return int(self.b.shape[1])

    @property
    def n_levels(self) -> int:
        """Number of levels; 0 without a factor."""
        return len(self.b)

    @property
    def has_many_designs(self) -> bool:
        """Whether loops over the designs are compiled also for a single value of theta.

        Of fewer numpy's are as fast, and the compiled ones would first have to be loaded.
        """
        return len(self.counts) >= _MANY_DESIGNS

    @cached_property
    def by_design(self) -> tuple[np.ndarray, np.ndarray]:
        """The levels, shape (J,), those of a design together; and where each begins, (U + 1,)."""
        order = np.argsort(self.design_of, kind="stable").astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        return order, starts

    @cached_property
    def columns(self) -> np.ndarray:
        """Shape (U, q, p + 1 + r): C, b_sum and b_root side by side, as the kernels read them."""
        parts = [self.C, self.b_sum[..., None], self.b_root]
        return np.ascontiguousarray(np.concatenate(parts, axis=2))

    @classmethod
    def from_rows(cls, rows: Rows, *, shared: bool = True) -> Moments:
        """Cross-products of rows in working coordinates.

        ``shared``: levels with equal columns are one design; else each is its own, which is found
        sooner where the sums are used once.
        """
        X, Z, y, codes = rows.X, rows.Z, rows.y, rows.codes
        p, q = X.shape[1], Z.shape[1]
        n_levels = int(codes.max()) + 1 if q and len(codes) else 0
        products = by_level(Z, np.hstack([Z, X, y[:, None]]), codes, n_levels)
        A, C, b = products[..., :q], products[..., q : q + p], products[..., -1]
        n_rows = rows.n_by_level(codes, n_levels) if q else np.zeros(0, dtype=np.intp)
        precision = np.broadcast_to(rows.sd, y.shape) ** -2.0
        total = np.bincount(codes, precision, n_levels) if q else np.zeros(0)
        unique = design_of = np.arange(n_levels)
        counts, sums, roots = np.ones(n_levels, dtype=np.intp), b, b[..., None]
        if shared or not n_levels:
            unique, design_of, counts = _unique_designs(A, C, total / np.maximum(n_rows, 1))
            sums, roots = _sum_by(b, design_of, len(unique)), _roots(b, design_of, counts)
        return cls(
            n=rows.n_summed,
            XX=X.T @ X,
            Xy=X.T @ y,
            yy=float(y @ y),
            A=A[unique],
            C=C[unique],
            b=b,
            n_rows=n_rows,
            design_of=design_of,
            counts=counts,
            b_sum=sums,
            b_root=roots,
            log_sd=float(rows.log_sd.sum()),
        )

    @classmethod
    def from_design(cls, design: Design) -> Moments:
        """Cross-products of a design, in its own working coordinates."""
        return cls.from_rows(Rows.from_design(design, Coordinates.from_design(design)))


def by_level(Z: np.ndarray, W: np.ndarray, codes: np.ndarray, n_levels: int) -> np.ndarray:
    """Shape (J, q, w): Z_j'W_j for every level."""
    out = np.empty((n_levels, Z.shape[1], W.shape[1]))
    for k in range(Z.shape[1]):
        for m in range(W.shape[1]):
            out[:, k, m] = np.bincount(codes, weights=Z[:, k] * W[:, m], minlength=n_levels)
    return out


def _unique_designs(
    A: np.ndarray, C: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First level of each unique (A, C), the design of each level, and the levels per design.

    ``weight`` (J,) is the mean weight of a level's rows, which may differ by many powers of ten.
    """
    n_levels = len(A)
    if n_levels == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0, np.intp)
    # Compared as if the mean weight were one, with its log beside: at a common scale all levels of small
    # weight would round to one key.
    weight = np.where(weight > 0, weight, 1.0)
    flat = np.hstack([A.reshape(n_levels, -1), C.reshape(n_levels, -1)]) / weight[:, None]
    flat = np.hstack([flat / max(np.abs(flat).max(), 1e-300), np.log(weight)[:, None]])
    key = np.round(flat, _KEY_DIGITS) + 0.0
    _, first, inverse, counts = np.unique(
        key, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    return first, inverse.reshape(-1), counts


def _sum_by(b: np.ndarray, design_of: np.ndarray, n_designs: int) -> np.ndarray:
    """Shape (U, q): sums of the rows of b over the levels of each design."""
    out = np.zeros((n_designs, b.shape[1]))
    np.add.at(out, design_of, b)
    return out


def _roots(b: np.ndarray, design_of: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Shape (U, q, r): transposed R factors of the stacked b of each design, padded with zeros."""
    q = b.shape[1]
    width = int(min(counts.max(initial=0), q))
    out = np.zeros((len(counts), q, width))
    order, starts = np.argsort(design_of, kind="stable"), np.cumsum(counts) - counts
    alone = counts == 1
    if width:
        out[alone, :, 0] = b[order[starts[alone]]]
    for u in np.flatnonzero(~alone):
        rows = order[starts[u] : starts[u] + counts[u]]
        # Up to q rows are a root themselves; of more, QR makes one without forming their Gram matrix.
        root = b[rows] if len(rows) <= q else np.linalg.qr(b[rows], mode="r")
        out[u, :, : len(root)] = root.T
    return out
