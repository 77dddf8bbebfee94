"""Effects that only left-out rows have, integrated rather than as drawn.

The draws of all other quantities, phi, are weighted towards their posterior without the rows; an effect u
that nothing but these rows tells of must not take part in the weights. In place of

    p(y | phi, u) / p(y without the rows | phi)        with u as drawn given all rows

stands that ratio times p(u | phi) / h(u | phi), for a density h of one's choice: with any h the mean of the
inverse over the posterior is the same, 1 / p(rows | other rows), and with h the conditional posterior of u
the ratio no longer depends on u at all: it is then p(y | phi) / p(y without the rows | phi), u integrated.
h is the normal approximation of it: the precision of the rows from the curvature of the log-likelihood at
the mean of the draws, plus that of the prior; the centre regressed on phi over the draws.

References
----------
Gelfand, Dey (1994), J. R. Stat. Soc. B 56, 501-514 (a density of one's choice in the mean of an inverse).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from hierpool.core.theta import FamilyPoint, FamilyTheta

if TYPE_CHECKING:
    from hierpool.algebra.quadrature.model import QuadratureModel

MOST = 8  # effects of one set of rows; with more they stay as drawn
DRAWS_A_COLUMN = 10  # least draws for each column of the regression
STEP = 0.5  # of the curvature's differences, in posterior sds
RIDGE = 1e-9  # of the regression, for columns that say the same
LEAST_SD = 1e-8  # of an effect between groups


def log_ratio(
    model: QuadratureModel, point: FamilyPoint, codes: np.ndarray, n_levels: int
) -> np.ndarray:
    """Shape (levels, K): log p(u | phi) - log h(u | phi) of the effects that only a level's rows have.

    ``codes`` (n,) say which level each row is in; the K points are draws of one posterior. Zero for
    levels without such effects, and everywhere where the draws are too few to tell h.
    """
    out = np.zeros((n_levels, len(point)))
    sets = [s for s in _own_effects(model, codes, n_levels).items() if len(s[1]) <= MOST]
    phi = _columns(point)
    if not sets or len(point) < DRAWS_A_COLUMN * phi.shape[1]:
        return out
    precisions = _precisions_of_rows(model, point, [own for _, own in sets])
    for (level, own), precision in zip(sets, precisions, strict=True):
        # The first columns of phi are the effects: those of the level are no predictors of themselves.
        others = np.delete(phi, own, axis=1)
        others = np.hstack([np.ones((len(phi), 1)), others])
        u = point.effects[:, own] - model.rows.others.mean[own]
        out[level] = _of_set(u, _prior(model, point, own), precision, others)
    return out


def _own_effects(model: QuadratureModel, codes: np.ndarray, n_levels: int) -> dict[int, np.ndarray]:
    """By level, positions of the effects that only its rows have, of all factors but the integrated."""
    own: dict[int, list[np.ndarray]] = {}
    first = 0
    for f, group in enumerate(model.design.groups):
        if f == model.integrated:
            continue
        q, J = len(group.terms), group.grouping.n_levels
        low, high = np.full(J, n_levels), np.full(J, -1)
        np.minimum.at(low, group.codes, codes)
        np.maximum.at(high, group.codes, codes)
        for j in np.flatnonzero(low == high):
            own.setdefault(int(low[j]), []).append(first + j * q + np.arange(q))
        first += J * q
    return {level: np.concatenate(parts) for level, parts in own.items()}


def _columns(point: FamilyPoint) -> np.ndarray:
    """Shape (K, columns): effects, coefficients, parameters and roots, what varies of these scaled."""
    K = len(point)
    rest = np.hstack([point.beta, point.par, point.Lambda.reshape(K, -1)])
    rest = rest[:, np.ptp(rest, axis=0) > 0]
    columns = np.hstack([point.effects, rest])
    return np.asarray((columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), LEAST_SD))


def _prior(model: QuadratureModel, point: FamilyPoint, own: np.ndarray) -> np.ndarray:
    """Shape (K, m, m): prior covariance of some effects."""
    root = model.factors_of(point)[1]
    covariance = root @ np.swapaxes(root, -1, -2)
    level, column = _places(model)
    same = level[own][:, None] == level[own]
    found = covariance[:, column[own][:, None], column[own]] * same
    return np.asarray(found + LEAST_SD**2 * np.eye(len(own)))


def _places(model: QuadratureModel) -> tuple[np.ndarray, np.ndarray]:
    """Of each effect a number for its group, and its column among those of all factors."""
    level, column, first_level, first = [], [], 0, 0
    for f, group in enumerate(model.design.groups):
        if f == model.integrated:
            continue
        q, J = len(group.terms), group.grouping.n_levels
        level.append(first_level + np.repeat(np.arange(J), q))
        column.append(first + np.tile(np.arange(q), J))
        first_level, first = first_level + J, first + q
    return np.concatenate(level), np.concatenate(column)


def _precisions_of_rows(
    model: QuadratureModel, point: FamilyPoint, sets: list[np.ndarray]
) -> list[np.ndarray]:
    """For each set of m effects, shape (m, m): what the rows say of them, at the mean of the draws."""
    steps = STEP * np.maximum(point.effects.std(axis=0), LEAST_SD)
    moves = [_moves(own, steps, point.effects.shape[1]) for own in sets]
    effects = point.effects.mean(axis=0) + np.concatenate(moves)
    value = model.log_density_of_points(_at(_mean(point), effects))
    out, done = [], 0
    for own, some in zip(sets, moves, strict=True):
        m, h = len(own), steps[own]
        v = value[done : done + len(some)].reshape(m, m, 4)
        done += len(some)
        found = -(v[..., 0] + v[..., 3] - v[..., 1] - v[..., 2]) / (4 * h[:, None] * h)
        values, vectors = np.linalg.eigh((found + found.T) / 2)
        out.append((vectors * np.maximum(np.nan_to_num(values), 0.0)) @ vectors.T)
    return out


def _moves(own: np.ndarray, steps: np.ndarray, n_effects: int) -> np.ndarray:
    """Shape (4 m m, Q_B): both effects of each pair moved up or down."""
    moves = np.zeros((len(own), len(own), 4, n_effects))
    for i, a in enumerate(own):
        for j, b in enumerate(own):
            for k, (s, t) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
                moves[i, j, k, a] += s * steps[a]
                moves[i, j, k, b] += t * steps[b]
    return moves.reshape(-1, n_effects)


def _mean(point: FamilyPoint) -> FamilyPoint:
    """One point: the mean of the draws."""
    theta = FamilyTheta(
        point.sigma[:1], point.Lambda.mean(axis=0)[None], point.par.mean(axis=0)[None]
    )
    return FamilyPoint.at(theta, point.beta.mean(axis=0)[None], point.effects[:1])


def _at(one: FamilyPoint, effects: np.ndarray) -> FamilyPoint:
    """The point with other effects (K, Q_B)."""
    many = one[np.zeros(len(effects), dtype=np.intp)]
    return FamilyPoint.at(many, many.beta, effects)


def _of_set(
    u: np.ndarray, prior: np.ndarray, precision: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Shape (K,): log prior less log h of effects u (K, m).

    h is normal with precision P = precision of the rows + that of the prior, and the mean that rows
    centred at ``columns`` times coefficients have: P^-1 precision centre.
    """
    K, m = u.shape
    of_prior = np.linalg.inv(prior)
    whole = precision + of_prior
    root = np.linalg.cholesky(whole)
    share = np.linalg.solve(whole, np.broadcast_to(precision, whole.shape))
    # Standardised: root' u = root' share (coefficients columns) + noise of variance one.
    carried = np.swapaxes(root, -1, -2) @ share
    design = np.einsum("kab,kc->kabc", carried, columns).reshape(K * m, -1)
    response = np.einsum("kba,kb->ka", root, u).reshape(-1)
    products = design.T @ design
    ridge = RIDGE * np.trace(products) / len(products) * np.eye(len(products))
    coefficients = linalg.solve(products + ridge, design.T @ response, assume_a="pos")
    left = (response - design @ coefficients).reshape(K, m)
    # h must not be wider than what it stands for: its tails would dominate.
    scale = min(float(np.mean(left**2)), 1.0)
    log_h = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1) - 0.5 * m * np.log(scale)
    log_h -= 0.5 * (left**2).sum(axis=1) / scale
    log_prior = 0.5 * np.linalg.slogdet(of_prior)[1]
    log_prior -= 0.5 * np.einsum("ka,kab,kb->k", u, of_prior, u)
    return np.asarray(log_prior - log_h)
