"""Coefficients of the groups in the PyMC model, each term centred, non-centred or in between.

A centred term is sampled as what the data of a group are about: its own coefficient, with
everything in it that is the same for all rows of the group. The prior mean of that coefficient
takes the population's part and that of an outer factor, so that neither is sampled against the
average of the group's deviations (hierarchical centring). A non-centred term is sampled as
standard normals; a partial one as well, but samplers see them otherwise (``partly_centred``).

Symbols (factor with J levels and q columns, p population columns):
    root  (q, q)       lower triangular, deviations = root z for each level
    A     (J, k, p)    population part of the k centred coefficients of each level: A beta

References
----------
Gelfand, Sahu, Carlin (1995), Biometrika 82, 479-488.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hierpool.bayes.nuts.partly_centred import normals, sums
from hierpool.bayes.nuts.standardized import Standardized
from hierpool.bayes.parts.group_term import GroupTermPart
from hierpool.core.design import GroupDesign

LARGEST_WEIGHTS = 1_000_000  # levels times levels of two crossed factors that are averaged
EXACT = 1e-9  # largest residual of a standardised column that counts as none


@dataclass
class Mean:
    """The mean of the rows while it is put together.

    Attributes
    ----------
    X
        Shape (n, p): what of the population columns no group's coefficient has taken.
    beta
        Population coefficients of these columns; None without any.
    typical
        Shape (p,): where values of them may be looked for.
    y, precision
        Shape (n,): response less the offset; precision of a row in units of 1 / sigma^2.
    terms
        Of the groups: factor's codes, column (n,), coefficients (J,).
    """

    X: np.ndarray
    beta: Any
    typical: np.ndarray
    y: np.ndarray
    precision: np.ndarray
    terms: list[tuple[np.ndarray, np.ndarray, Any]] = field(default_factory=list)

    def taken(self, codes: np.ndarray, column: np.ndarray, n_levels: int) -> Any:
        """What coefficients of the factors before have in common for all rows of each level.

        They are averaged over the rows of the level, shape (J,): of an outer factor that is its
        coefficient itself, which stands in the mean no longer.
        """
        total: Any = 0.0
        for term in list(self.terms):
            before, own, values = term
            if not np.array_equal(own, column):
                continue
            above = _outer_levels(codes, before, n_levels)
            if above is not None:
                self.terms.remove(term)
                total = total + values[above]
            elif (weights := _weights(codes, before, n_levels)) is not None:
                average = pt.dot(weights, values)
                self.terms.append((codes, -column, average))
                total = total + average
        return total

    def seen(
        self, Z: np.ndarray, codes: np.ndarray, n_levels: int, sigma: Any
    ) -> tuple[np.ndarray, Any]:
        """Z'WZ (J, q, q), and Z'W over sigma of what the terms before leave of the response."""
        ZW, q = Z * self.precision[:, None], Z.shape[1]
        at_typical = self.y - self.X @ self.typical
        h = sums(ZW, codes, n_levels, at_typical[:, None])[..., 0]
        used = np.flatnonzero((self.X != 0).any(axis=0))
        if len(used):
            cross = sums(ZW, codes, n_levels, self.X[:, used]).reshape(-1, len(used))
            h = h - pt.dot(cross, self.beta[used] - self.typical[used]).reshape((n_levels, q))
        for before, column, values in self.terms:
            there = values[before] * column
            each = [pt.zeros(n_levels)[codes].inc(there * ZW[:, k]) for k in range(q)]
            h = h - pt.stack(each, axis=-1)
        return sums(ZW, codes, n_levels, Z), h / sigma

    def total(self) -> Any:
        """Shape (n,), or 0."""
        used = np.flatnonzero((self.X != 0).any(axis=0))
        total: Any = pt.dot(self.X[:, used], self.beta[used]) if len(used) else 0.0
        for codes, column, values in self.terms:
            total = total + column * values[codes]
        return total


def coefficients(
    group: GroupDesign,
    parts: Sequence[GroupTermPart],
    root: Any,
    sigma: Any,
    mean: Mean,
    words: Sequence[str],
) -> Any:
    """Deviations (J, q) in the coordinates of the priors, which enter the mean of the rows.

    Parameters
    ----------
    group, parts
        The factor's columns, and the blocks of their priors.
    root
        Shape (q, q), lower triangular.
    sigma
        Residual sd; 1 where those of the rows are known.
    mean
        Of the rows; is changed.
    words
        Shape (q,): "centered", "noncentered" or "partial"; no "partial" beside "centered".
    """
    codes = group.grouping.codes
    Z = np.hstack([b.coding.centre(group.Z[:, b.columns]) for b in parts])
    if group.schema.related is not None:  # standard normals, whatever the words
        z = pm.Normal(f"z_{group.factor}", 0.0, 1.0, dims=(group.factor, f"{group.factor}_term"))
        deviations = pt.dot(group.schema.related.root, pt.dot(z, root.T))
        mean.terms += [(codes, Z[:, k], deviations[:, k]) for k in range(Z.shape[1])]
        return deviations
    if "centered" not in words:
        if "partial" in words:
            S, h = mean.seen(Z, codes, group.grouping.n_levels, sigma)
            partial = [word == "partial" for word in words]
            each = normals(group.factor, group.terms, partial, root / sigma, S, h)
            z = pt.stack(each, axis=-1)
        else:
            dims = (group.factor, f"{group.factor}_term")
            z = pm.Normal(f"z_{group.factor}", 0.0, 1.0, dims=dims)
        deviations = pt.dot(z, root.T)
        mean.terms += [(codes, Z[:, k], deviations[:, k]) for k in range(Z.shape[1])]
        return deviations
    return _mixed(group, parts, root, mean, words, Z)


def _mixed(
    group: GroupDesign,
    parts: Sequence[GroupTermPart],
    root: Any,
    mean: Mean,
    words: Sequence[str],
    Z: np.ndarray,
) -> Any:
    """The same, term by term: each given those before it."""
    codes, n_levels = group.grouping.codes, group.grouping.n_levels
    centred = [k for k, word in enumerate(words) if word == "centered"]
    A, mean.X = population_share(mean.X, Z, codes, n_levels, centred)
    scales, mapped = _typical_sds(parts, len(words)), any(b.coding.is_centred for b in parts)
    own = f"coef_{group.factor}{'_centred' * mapped}"
    pairs = {(b.columns.start + i, b.columns.start + j) for b in parts for i, j in b.pairs}
    deviations: list[Any] = []
    normals: list[Any] = []
    for k, term in enumerate(group.terms):
        label = term.replace("/", "|")  # a slash is a path to xarray's DataTree
        given = sum(root[k, j] * normals[j] for j in range(k) if (k, j) in pairs)
        if words[k] == "noncentered":
            z = pm.Normal(f"z_{group.factor}[{label}]", 0.0, 1.0, dims=group.factor)
            deviation = given + root[k, k] * z
            values = deviation
        else:
            part = A[:, centred.index(k)]
            common = _times(part, mean.beta) + mean.taken(codes, Z[:, k], n_levels)
            seen = Standardized(part @ mean.typical, np.full(n_levels, scales[k]))
            values = pm.Normal(
                f"{own}[{label}]", common + given, root[k, k], dims=group.factor, transform=seen
            )
            deviation = values - common
            z = (deviation - given) / root[k, k]
        normals.append(z)
        deviations.append(deviation)
        mean.terms.append((codes, Z[:, k], values))
    return pt.stack(deviations, axis=-1)


def population_share(
    X: np.ndarray, Z: np.ndarray, codes: np.ndarray, n_levels: int, centred: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """A (J, k, p), and the columns X without Z A.

    A column that is a combination of those of the level, with weights of the level's own, goes
    into its coefficients. Of any other, its mean in the level goes to the level's constant.
    """
    size = np.abs(X).max(axis=0, initial=0.0)
    size[size == 0] = 1.0
    full = _as_combinations(X, Z, codes, n_levels, size)
    rest = X - np.einsum("nq,nqp->np", Z, full[codes])
    constant = np.flatnonzero((np.ptp(Z, axis=0) == 0) & (Z[0] != 0))
    for column in np.flatnonzero(np.abs(rest).max(axis=0, initial=0.0) > EXACT * size):
        full[:, :, column] = 0.0
        if len(constant):
            average = np.bincount(codes, X[:, column], n_levels) / np.bincount(codes)
            full[:, constant[0], column] = average / Z[0, constant[0]]
    A = full[:, list(centred)]
    A[np.abs(A) < EXACT * size / np.abs(Z).max()] = 0.0
    rest = X - np.einsum("nk,nkp->np", Z[:, list(centred)], A[codes])
    rest[:, np.abs(rest).max(axis=0, initial=0.0) <= EXACT * size] = 0.0
    return A, rest


def _as_combinations(
    X: np.ndarray, Z: np.ndarray, codes: np.ndarray, n_levels: int, size: np.ndarray
) -> np.ndarray:
    """Shape (J, q, p): X from Z in each level, by the same column or by least squares."""
    p, q = X.shape[1], Z.shape[1]
    full = np.zeros((n_levels, q, p))
    width = np.abs(Z).max(axis=0)
    width[width == 0] = 1.0
    others = []
    for i in range(p):
        same = [k for k in range(q) if np.abs(X[:, i] - Z[:, k]).max() <= EXACT * size[i]]
        if same:
            full[:, same[0], i] = 1.0
        else:
            others.append(i)
    if others:
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=n_levels))[:-1]
        for j, rows in enumerate(np.split(order, ends)):
            found = np.linalg.lstsq(Z[rows] / width, X[np.ix_(rows, others)])[0]
            full[j][:, others] = found / width[:, None]
    return full


def _times(part: np.ndarray, beta: Any) -> Any:
    """Shape (J,), or a scalar where all levels have the same: part (J, p) times beta."""
    used = np.flatnonzero((part != 0).any(axis=0))
    if not len(used):
        return 0.0
    if (part == part[0]).all():
        return pt.dot(part[0, used], beta[used])
    return pt.dot(part[:, used], beta[used])


def _outer_levels(codes: np.ndarray, outer: np.ndarray, n_levels: int) -> np.ndarray | None:
    """Shape (J,): the outer factor's level that each level lies in; None if some lie in several."""
    above = np.zeros(n_levels, dtype=int)
    above[codes] = outer
    return above if np.array_equal(above[codes], outer) else None


def _weights(codes: np.ndarray, before: np.ndarray, n_levels: int) -> np.ndarray | None:
    """Shape (J, levels before): shares of the rows of each level; None if that is too large."""
    n_before = int(before.max()) + 1
    if n_levels * n_before > LARGEST_WEIGHTS:
        return None
    weights = np.zeros((n_levels, n_before))
    np.add.at(weights, (codes, before), 1.0)
    return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0))


def _typical_sds(parts: Sequence[GroupTermPart], q: int) -> np.ndarray:
    """Shape (q,): what one deviation may be; 1 where it is in units of sigma."""
    if parts[0].decov is not None:
        return np.ones(q)
    priors = [part.sd[at] for part in parts for at in part.sd_index]
    return np.array([float(prior.distribution.ppf(0.5)) for prior in priors])
