"""Linear dependence of columns: plain arrays, no labels but the names.

X: columns, shape (n, k). codes: level of each row, shape (n,). Columns are centred and scaled
first, so that a predictor at 1e9 with small steps is judged by its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hierpool.core.coding import Coding, stable_mean
from hierpool.core.estimable import Beyond

TOLERANCE = 1e-7  # part of a column that must be new, relative to its sd; as in R's lm
SHOWN = 1e-6  # part of a column from which another counts as one that it is made of
LOOSE = 1e-6  # the same of a new row, which may be rounded otherwise
ROUNDING = 16 * np.finfo(float).eps  # what a number of size 1 may hold of rounding


@dataclass(frozen=True)
class Own:
    """Columns that can have a separate coefficient for each group of a factor.

    Attributes
    ----------
    columns
        Positions of the columns that are estimable within at least one group, in order.
    estimable
        Shape (levels, len(columns)): whether it is estimable from the rows of the group alone.
    """

    columns: tuple[int, ...]
    estimable: np.ndarray

    @property
    def inestimable(self) -> np.ndarray:
        """Shape (len(columns),): number of groups in which the coefficient is not estimable."""
        return np.asarray((~self.estimable).sum(axis=0))


def own_columns(X: np.ndarray, codes: np.ndarray, n_levels: int) -> Own:
    """Columns not in the span of those before them, within at least one level.

    Gram-Schmidt in each level at once: a basis vector is one column of n numbers with unit norm,
    or zero, in each level.
    """
    units, noise = _comparable(X)
    tolerance = np.maximum(TOLERANCE, noise * np.sqrt(len(X)))
    chosen: list[int] = []
    estimable: list[np.ndarray] = []
    basis: list[np.ndarray] = []

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(codes, weights=values, minlength=n_levels)

    for k in range(X.shape[1]):
        rest = units[:, k].copy()
        for vector in basis * 2:  # twice: the second pass removes what rounding left
            rest -= total(vector * rest)[codes] * vector
        norm = np.sqrt(total(rest**2))
        new = norm > tolerance[k]
        if not new.any():
            continue
        chosen.append(k)
        estimable.append(new)
        basis.append(rest * np.where(new, 1 / np.where(new, norm, 1.0), 0.0)[codes])
    shape = (n_levels, len(chosen))
    return Own(tuple(chosen), np.array(estimable, dtype=bool).T.reshape(shape))


@dataclass(frozen=True)
class Span:
    """Which columns of a text are kept, and what the kept ones imply for the others.

    Attributes
    ----------
    kept, dropped
        Positions, in order: a column is dropped if those before it, or a zero, explain it.
    made_of
        Of each dropped column the kept ones that it is made of; empty where it is 0 in every row.
    constant
        Shape (kept,): a with (kept columns) a = 1; zeros where no constant is in their span.
    first
        Position among the kept columns of the one in whose place the constant stands; -1 for none.
    means, scales
        Shape (kept + dropped,): of the kept columns, then of the dropped ones.
    weights
        Shape (kept, dropped): the dropped columns from the kept ones, centred and scaled.
    tolerance
        Shape (dropped,): by how much rows of the model may differ from that.
    """

    kept: tuple[int, ...]
    dropped: tuple[int, ...] = ()
    made_of: tuple[tuple[int, ...], ...] = ()
    constant: np.ndarray = field(default_factory=lambda: np.zeros(0))
    first: int = -1
    means: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scales: np.ndarray = field(default_factory=lambda: np.ones(0))
    weights: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    tolerance: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, X: np.ndarray) -> Span:
        """The span of columns (n, k), in their order."""
        X = np.asfortranarray(X)
        kept = _independent(X)
        dropped = [k for k in range(X.shape[1]) if k not in set(kept)]
        if not dropped:
            return cls(tuple(kept))
        coding, both = Coding.from_columns(X[:, kept]), X[:, [*kept, *dropped]]
        first = -1
        if coding.has_constant:
            first = int(np.argmax(np.abs(coding.constant) * np.abs(X[:, kept]).max(axis=0)))
        means, scales, noise = _size(both, coding.has_constant)
        span = cls(tuple(kept), tuple(dropped), (), coding.constant, first, means, scales)
        known, wanted = span._units(both)
        weights = np.linalg.lstsq(known, wanted)[0] if kept else np.zeros((0, len(dropped)))
        weights[:, ~X[:, dropped].any(axis=0)] = 0.0
        near = np.sqrt(len(X)) * np.maximum(TOLERANCE, noise.max(initial=0.0))
        tolerance = np.full(len(dropped), max(LOOSE, 10 * near))
        span = replace(span, weights=weights, tolerance=tolerance)
        return replace(span, made_of=tuple(span._made_of(X, at) for at in range(len(dropped))))

    @classmethod
    def of_multiples(cls, X: np.ndarray) -> Span:
        """The span of columns (n, k) of which none goes but zeros and multiples of one before it.

        For uncorrelated coefficients: a combination of several columns adds a variance of its own.
        """
        kept: list[int] = []
        made_of: dict[int, tuple[int, ...]] = {}
        ratios: dict[int, float] = {}
        for k, own in enumerate(X.T):
            found = ((j, _ratio(own, X[:, j])) for j in kept)
            j, ratio = next(((j, r) for j, r in found if r), (-1, 0.0))
            if j < 0 and own.any():
                kept.append(k)
            else:
                made_of[k], ratios[k] = (j,) if j >= 0 else (), ratio
        size = np.abs(X).max(axis=0)
        size[size == 0] = 1.0
        weights = np.zeros((len(kept), len(made_of)))
        for at, (k, parts) in enumerate(made_of.items()):
            for j in parts:
                weights[kept.index(j), at] = ratios[k] * size[j] / size[k]
        return cls(
            tuple(kept),
            tuple(made_of),
            tuple(made_of.values()),
            constant=np.zeros(len(kept)),
            means=np.zeros(X.shape[1]),
            scales=size[[*kept, *made_of]],
            weights=weights,
            tolerance=np.full(len(made_of), LOOSE),
        )

    def _made_of(self, X: np.ndarray, at: int) -> tuple[int, ...]:
        """The kept columns behind one dropped."""
        weights, kept = self.weights[:, at], list(self.kept)
        size = np.abs(X[:, [*kept, self.dropped[at]]]).max(axis=0)
        if not size[-1]:
            return ()
        own = -self.null_space[kept, at]
        counts = np.where(self.constant != 0, np.abs(own) * size[:-1] / size[-1], np.abs(weights))
        return tuple(k for k, c in zip(kept, counts, strict=True) if c > SHOWN)

    def _units(self, both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kept and dropped columns, centred at the rows of the model and scaled."""
        r = len(self.kept)
        one = both[:, :r] @ self.constant
        units = (both - one[:, None] * self.means) / self.scales
        if self.first >= 0:
            units[:, self.first] = one
        return units[:, :r], units[:, r:]

    @property
    def null_space(self) -> np.ndarray:
        """Shape (columns, dropped): what coefficients may change by and leave every row the same."""
        r = len(self.kept)
        own = self.weights * self.scales[r:] / self.scales[:r, None]
        level = self.means[r:]
        if self.first >= 0:
            level = level + own[self.first] * self.scales[self.first]
            own[self.first] = 0.0
        own += self.constant[:, None] * (level - self.means[:r] @ own)
        out = np.zeros((r + len(self.dropped), len(self.dropped)))
        out[list(self.kept)] = -own
        out[list(self.dropped)] = np.eye(len(self.dropped))
        return out

    def beyond(self, X: np.ndarray, names: Sequence[str]) -> Beyond:
        """What rows (m, k) hold of the dropped columns beyond what the kept ones imply."""
        r = len(self.kept)
        both = X[:, [*self.kept, *self.dropped]]
        known, own = self._units(both)
        excess = own - known @ self.weights
        size = np.abs(own) + np.abs(known) @ np.abs(self.weights)
        one = np.abs(both[:, :r] @ self.constant)
        raw = (np.abs(both) + one[:, None] * np.abs(self.means)) / self.scales
        rounding = ROUNDING * (raw[:, r:] + raw[:, :r] @ np.abs(self.weights))
        varies = [len(parts) > 0 for parts in self.made_of]
        slack = self.tolerance * (size + varies) + rounding
        return Beyond(tuple(names[k] for k in self.dropped), excess, slack)


def _ratio(own: np.ndarray, other: np.ndarray) -> float:
    """What one column is times the other; 0 where it is no multiple."""
    at = int(np.argmax(np.abs(other)))
    ratio = float(own[at] / other[at])
    rest = np.abs(own - ratio * other).max()
    return ratio if rest <= ROUNDING * np.abs(own).max() else 0.0


def _size(X: np.ndarray, centre: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (0 where nothing is centred), sd and rounding of each column; of a constant its size."""
    largest = np.abs(X).max(axis=0, initial=0.0)
    means = stable_mean(X) if centre else np.zeros(X.shape[1])
    sd = np.sqrt(((X - means) ** 2).mean(axis=0))
    fixed = sd <= ROUNDING * largest
    scales = np.where(fixed, np.where(largest == 0, 1.0, largest), sd)
    return means, scales, np.where(fixed, ROUNDING, ROUNDING * largest / scales)


def _comparable(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns centred where a constant is in their span, with sd 1; and each one's rounding."""
    X = np.asfortranarray(X)
    means, scales, noise = _size(X, Coding.from_columns(X).has_constant)
    fixed = (X[:1] == X).all(axis=0)
    return np.where(fixed, X, X - means) / scales, noise


def _independent(X: np.ndarray) -> list[int]:
    """Columns not in the span of those before them, in the user's order.

    Not by pivoting, as R's lm does: so it is the later column that goes. The rank of the first j
    columns is that of the same beside a constant, all centred, less one until the constant is in
    their own span.
    """
    n, k = X.shape
    constant = Coding.from_columns(X).constant
    units, noise = _comparable(X)
    units = units / np.sqrt(n)
    tolerance = np.maximum(TOLERANCE, np.maximum.accumulate(noise))
    one = np.full((n, int(constant.any())), 1 / np.sqrt(n))
    if _is_full(X, units, noise, constant, one):
        return list(range(k))
    basis = np.zeros((n, min(n, k) + one.shape[1]))
    basis[:, : one.shape[1]] = one
    r, kept, is_whole = one.shape[1], [], not constant.any()
    late: list[int] = []  # what might have been the column that completes the constant
    for j in range(k):
        rest = units[:, j].copy()
        for _ in range(2):  # the second pass removes what rounding left
            rest -= basis[:, :r] @ (basis[:, :r].T @ rest)
        norm = float(np.linalg.norm(rest))
        if norm > tolerance[j] and r < basis.shape[1]:
            basis[:, r] = rest / norm
            r += 1
            kept.append(j)
        elif not is_whole and X[:, j].any():
            is_whole = Coding.from_columns(X[:, [*kept, j]]).has_constant
            (kept if is_whole else late).append(j)
    return kept if is_whole else sorted([*kept, *late[-1:]])


def _is_full(
    X: np.ndarray, units: np.ndarray, noise: np.ndarray, constant: np.ndarray, one: np.ndarray
) -> bool:
    """Whether no column is in the span of the others; the diagonal of R is what each one adds."""
    n, k = X.shape
    order = list(range(k))
    if constant.any():  # the span is the same with the constant in place of one column of it
        first = int(np.argmax(np.abs(constant) * np.abs(X).max(axis=0)))
        order.remove(first)
        noise = np.r_[ROUNDING, noise[order]]
    if k > n:
        return False
    remainder = np.abs(np.diag(np.linalg.qr(np.c_[one, units[:, order]], mode="r")))
    return bool((remainder > np.maximum(TOLERANCE, np.maximum.accumulate(noise))).all())
