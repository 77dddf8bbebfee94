"""Which variances the rows of a design identify, whatever the response.

The covariance of the rows is linear in the residual variance and in the free entries of the
factors' covariances: V = sigma^2 I + sum_k gamma_k M_k, with rows divided by their relative sds. The
data, with the fixed effects projected off, identify the parameters if and only if the matrices
P I P, P M_k P are linearly independent, with P the projection off the columns of X. This does not
depend on the parameters' values, nor on the units of columns. It is read from the matrix of inner
products tr(P M_k P M_l), which needs no array of rows times rows.

References
----------
Demidenko (2013), Mixed Models, 2nd ed., section 3.15.
Wang (2013), Stat. Probab. Lett. 83, 1161-1167.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import linalg

from hierpool.core.design import Design, GroupDesign
from hierpool.core.text import joined

FLAT = 1e-9  # eigenvalue of the scaled inner products below which a direction changes nothing
_PART = 1e-3  # share of a parameter in such a direction from which it takes part
INTERCEPT = "Intercept"
_ROWS_AT_ONCE = 50_000
_LEAST_RANK = 1e-8  # singular value of X, of the largest, from which its direction counts


class Component(NamedTuple):
    """A parameter of a factor's covariance: the factor, and the entries (row, column) it stands in."""

    factor: int
    entries: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Variances:
    """Inner products of what each variance parameter adds to the covariance of the rows.

    Attributes
    ----------
    components
        The free entries of the factors' covariances; the residual variance stands behind them
        where it is unknown.
    whole
        Shape (m, m): tr(M_k M_l).
    projected
        Shape (m, m): tr(P M_k P M_l), the fixed effects projected off.
    """

    components: tuple[Component, ...]
    whole: np.ndarray
    projected: np.ndarray

    @classmethod
    def of(cls, design: Design) -> Variances:
        """Those of a partially pooled design."""
        rows = _Rows.of(design)
        components = tuple(
            Component(f, tuple((block.start + a, block.start + b) for a, b in np.argwhere(E)))
            for f, group in enumerate(design.groups)
            for block in group.blocks
            for E in block.patterns
        )
        whole, projected = (
            rows.products(components, design.residual.has_sigma, off) for off in (0, 1)
        )
        return cls(components, whole, projected)

    def flat(self, which: list[int] | None = None) -> np.ndarray:
        """Shape (directions, m): moves of the parameters that change nothing the rows show.

        In units in which each parameter alone changes the covariance of the rows by one; of some
        of the parameters where ``which`` names their positions.
        """
        chosen = np.arange(len(self.whole)) if which is None else np.array(which)
        # Scaled twice before an eigenvalue is taken: by what a parameter does to V, so that units do not
        # matter, then by what is left of that after X, so that FLAT is a share of the same thing for all.
        size = np.sqrt(np.diag(self.whole)[chosen])
        size = np.where(size > 0, size, 1.0)
        inner = self.projected[np.ix_(chosen, chosen)] / np.outer(size, size)
        own = np.sqrt(np.maximum(np.diag(inner), 0.0))
        # What X takes up altogether is not scaled up again: its direction would be rounding.
        gone = own < np.sqrt(FLAT)
        scale = np.where(gone, 1.0, own)
        values, vectors = np.linalg.eigh(inner / np.outer(scale, scale))
        found = (vectors / scale[:, None]).T[values < FLAT]
        return np.asarray(found / np.abs(found).max(axis=1, initial=1e-300)[:, None])

    def taking_part(self) -> tuple[int, ...]:
        """Positions of the parameters that are not identified; none where the model is."""
        found = np.abs(self.flat())
        return tuple(int(k) for k in np.flatnonzero((found > _PART).any(axis=0)))

    def leaves_covariance(self) -> bool:
        """Whether no move along an unidentified direction changes the covariance of the rows."""
        size = np.sqrt(np.maximum(np.diag(self.whole), np.finfo(float).tiny))
        moves = self.flat()
        left = np.einsum("da,ab,db->d", moves, self.whole / np.outer(size, size), moves)
        return bool((left < 1e3 * FLAT).all())


@dataclass(frozen=True)
class _Rows:
    """Columns of each factor, in coordinates without units, and what X takes up of them.

    ``Z`` and ``codes`` have an entry a factor, and ``taken``, shapes (J, r, q): U'Z of each level, with
    U (n, r) an orthonormal basis of the columns of X. ``n_summed`` is the number of rows that they
    are, or stand in for.
    """

    Z: tuple[np.ndarray, ...]
    codes: tuple[np.ndarray, ...]
    n_levels: tuple[int, ...]
    taken: tuple[np.ndarray, ...]
    rank: int
    n_summed: int

    @classmethod
    def of(cls, design: Design) -> _Rows:
        residual, rows = design.residual, design.observations
        precision = np.square(1 / residual.relative_sds(len(rows.y)))
        unit = float(np.sqrt(precision.sum() / design.n))
        U = _basis(residual.whiten(rows.working_X(design.schema.coding)) / unit)
        Z = tuple(residual.whiten(_columns(group)) / unit for group in design.groups)
        codes = tuple(group.grouping.codes for group in design.groups)
        n_levels = tuple(group.grouping.n_levels for group in design.groups)
        parts = zip(codes, n_levels, Z, strict=True)
        taken = tuple(_sums(code, J, U, own) for code, J, own in parts)
        return cls(Z, codes, n_levels, taken, U.shape[1], design.n)

    def products(self, components: tuple[Component, ...], has_sigma: bool, off: int) -> np.ndarray:
        """Inner products of all parameters; ``off`` = 1 with the columns of X projected off."""
        m = len(components)
        out = np.zeros((m + has_sigma, m + has_sigma))
        blocks = {
            (f, g): self._squares(f, g, off) for f in range(len(self.Z)) for g in range(f + 1)
        }
        for i, r in enumerate(components):
            for j, s in enumerate(components[: i + 1]):
                T = blocks[r.factor, s.factor]
                each = (T[a, c, b, d] for a, b in r.entries for c, d in s.entries)
                out[i, j] = out[j, i] = sum(each)
            if has_sigma:
                own = self._diagonal(r.factor, off)
                out[m, i] = out[i, m] = sum(own[a, b] for a, b in r.entries)
        if has_sigma:
            out[m, m] = self.n_summed - off * self.rank
        return out

    def _diagonal(self, f: int, off: int) -> np.ndarray:
        taken = self.taken[f]
        return np.asarray(self.Z[f].T @ self.Z[f] - off * np.einsum("jra,jrb->ab", taken, taken))

    def _squares(self, f: int, g: int, off: int) -> np.ndarray:
        """Shape (q, s, q, s): [a, c, b, d] is the sum over pairs of levels of B[a, c] B[b, d].

        B is Z_f'Z_g of two levels, with X projected off: sparse, less a product of low rank.
        """
        K = self.n_levels[g]
        cells, place = np.unique(self.codes[f] * K + self.codes[g], return_inverse=True)
        B = _sums(place, len(cells), self.Z[f], self.Z[g])
        total = np.einsum("iac,ibd->acbd", B, B, optimize=True)
        if not off:
            return np.asarray(total)
        mine, other = self.taken[f], self.taken[g]
        # (B - low)(B - low) term by term. low has an entry for every pair of levels, B only for pairs
        # that share rows: cross terms need low there, and low low is two sums over one factor each.
        low = np.einsum("ira,irc->iac", mine[cells // K], other[cells % K], optimize=True)
        cross = np.einsum("iac,ibd->acbd", B, low, optimize=True)
        one, two = (np.einsum("jra,jsb->rsab", t, t, optimize=True) for t in (mine, other))
        both = np.einsum("rsab,rscd->acbd", one, two, optimize=True)
        return np.asarray(total - cross - cross.transpose(2, 3, 0, 1) + both)


def _basis(X: np.ndarray) -> np.ndarray:
    """Shape (n, r): an orthonormal basis of the columns of X (n, p).

    By the R factor alone, a block of rows at a time, in little memory where there are many; twice,
    since the basis is only as orthonormal as X is well conditioned the first time.
    """
    for least in (_LEAST_RANK, 0.0):
        R = np.zeros((0, X.shape[1]))
        for start in range(0, len(X), _ROWS_AT_ONCE):
            R = np.linalg.qr(np.vstack([R, X[start : start + _ROWS_AT_ONCE]]), mode="r")
        _, values, vectors = linalg.svd(R, full_matrices=False)
        counts = values > least * values.max(initial=0.0)
        X = X @ (vectors[counts].T / values[counts])
    return X


def _columns(group: GroupDesign) -> np.ndarray:
    """Columns of a factor, centred and scaled where its covariance leaves that free."""
    out = np.empty_like(group.Z)
    for block, coding in zip(group.blocks, group.schema.block_codings, strict=True):
        out[:, block.columns] = coding.work(group.Z[:, block.columns])
    return out


def _sums(codes: np.ndarray, J: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Shape (J, l, r): sums over the rows of each level of the products of two sets of columns."""
    out = np.empty((J, left.shape[1], right.shape[1]))
    for a, column in enumerate(left.T):
        for b, other in enumerate(right.T):
            out[:, a, b] = np.bincount(codes, column * other, J)
    return out


def not_identified_text(design: Design) -> str:
    """Which variances are not identified, and which results are valid anyway; empty if all are."""
    # structures and relationships: the curvature at the optimum tells
    is_plain = design.residual.structure is None
    is_plain = is_plain and all(group.schema.related is None for group in design.groups)
    if not is_plain or not any(group.is_pooled for group in design.groups):
        return ""
    variances = Variances.of(design)
    taking_part = variances.taking_part()
    if not taking_part:
        return ""
    residual = len(variances.components) in taking_part
    factors = sorted(
        {variances.components[k].factor for k in taking_part[: -1 if residual else None]}
    )
    what = named(design, residual, factors)
    if variances.leaves_covariance():
        held = usable(residual)
        return (
            f"{what} cannot be estimated separately. {held} {_advice(design, variances, factors)}"
        ).rstrip()
    return (
        f"after the fixed effects, nothing is left in the rows to estimate {what} from, and the "
        "standard errors of these fixed effects depend on it. Leave out one of the two."
    )


def named(design: Design, residual: bool, factors: Sequence[int]) -> str:
    """Words for the variances of some factors, and of the residual."""
    groups = [design.groups[f] for f in factors]
    parts = ["the residual"] if residual else []
    parts += [
        f"the {'variances' if len(g.terms) > 1 else 'variance'} of {g.factor}" for g in groups
    ]
    return joined(parts)


def usable(residual: bool) -> str:
    """What holds for every split of the variances, the residual one among them or not."""
    if residual:
        return (
            "The fixed effects, their standard errors and the log-likelihood are valid; these "
            "variances, the BLUPs and the fitted values are not."
        )
    return (
        "The fixed effects, their standard errors, the log-likelihood, the residual sd and the "
        "fitted values are valid; these variances and their BLUPs are not."
    )


def _advice(design: Design, variances: Variances, factors: Sequence[int]) -> str:
    """What to leave out so that the rest is identified; empty where neither way is enough."""
    groups, every = design.groups, variances.components
    residual = [] if len(every) == len(variances.whole) else [len(every)]
    for f in (f for f in factors if len(groups[f].terms) == 1 and len(groups) > 1):
        if not len(variances.flat([k for k, c in enumerate(every) if c.factor != f] + residual)):
            (term,), name = groups[f].terms, groups[f].factor
            out = f"({'1' if term == INTERCEPT else f'0 + {term}'} | {name})"
            return f"Without {out} the model is identified."
    whole = {f for f in factors if INTERCEPT in groups[f].terms}
    place = {f: groups[f].terms.index(INTERCEPT) for f in whole}
    kept = [
        k
        for k, c in enumerate(every)
        if c.factor not in whole or c.entries == ((place[c.factor],) * 2,)
    ]
    if not whole or len(variances.flat(kept + residual)):
        return ""
    simpler = joined([f"(1 | {groups[f].factor})" for f in sorted(whole)])
    return f"With {simpler} and no slopes the model is identified."
