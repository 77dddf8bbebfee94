"""A PyMC model of theta and the residual scales of groups alone, every coefficient integrated out.

Of groups that differ in their residual sd beside random effects of others the exact engine cannot draw
theta, which has a scale for each group. NUTS draws it from this model, in which no coefficient is
sampled: no funnel between the sds of few groups and their effects, and a third of the steps. It is the
full model of ``pymc_model`` with its normal coefficients integrated out; they are drawn from their
conditionals afterwards.

Rows of one level of the main factor (that with most coefficients) and of one residual sd are a cell,
with constant cross-products and a weight w = exp(-2 log sd). With Z of the main factor, root its
covariance's, and C = [X, columns of the other factors, y]:

    F F' = root'A root + I      A = sum w Z'Z       H = sum w Z'C       T = sum w C'C      by level
    T - sum K'K                 K = F^-1 root'H

and the coefficients of the other factors and of X are one dense block, as in ``algebra.gaussian``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from hierpool.algebra.gaussian import LOG_2PI
from hierpool.bayes.nuts.pymc_model import covariance_root, one_prior
from hierpool.bayes.nuts.residual_structure import free_variables
from hierpool.bayes.parts.group_term import GroupTermPart
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.core.design import Design, GroupDesign
from hierpool.core.results import coords

MOST_NUMBERS = 2_000_000  # of cross-products, above which sampling all coefficients is faster


@dataclass(frozen=True)
class Cells:
    """Rows by level of the main factor and residual sd.

    Attributes
    ----------
    main
        Position of the main factor.
    others
        Positions of the other factors.
    of_class
        Shape (J, m): class of the sd of each cell of a level; the number of classes where there are
        fewer cells.
    ZZ, ZC, CC
        Shapes (J, m, q, q), (J, m, q, N + 1) and (J, m, N + 1, N + 1): cross-products.
    counts
        Shape (classes,): rows.
    """

    main: int
    others: tuple[int, ...]
    of_class: np.ndarray
    ZZ: np.ndarray
    ZC: np.ndarray
    CC: np.ndarray
    counts: np.ndarray

    @classmethod
    def from_design(cls, design: Design, priors: ModelPriors) -> Cells | None:
        """None where there would be too many numbers."""
        structure, groups = design.residual.structure, design.groups
        assert structure is not None
        sizes = [g.grouping.n_levels * len(g.terms) for g in groups]
        main = int(np.argmax(sizes))
        others = tuple(k for k in range(len(groups)) if k != main)
        N = len(design.terms) + sum(sizes[k] for k in others)
        codes = groups[main].grouping.codes
        J = groups[main].grouping.n_levels
        pairs = codes * structure.n_classes + structure.classes
        cells, cell = np.unique(pairs, return_inverse=True)
        if len(cells) * (N + 1) ** 2 > MOST_NUMBERS:
            return None
        of_level = cells // structure.n_classes
        place = np.arange(len(cells)) - np.searchsorted(of_level, of_level)
        m = int(place.max()) + 1
        of_class = np.full((J, m), structure.n_classes)
        of_class[of_level, place] = cells % structure.n_classes
        Z, C = _columns(design, priors, main, others)
        every = np.hstack([Z, C])
        q = Z.shape[1]
        products = np.zeros((J, m, every.shape[1], every.shape[1]))
        order = np.argsort(cell, kind="stable")
        for k, rows in enumerate(np.split(order, np.cumsum(np.bincount(cell))[:-1])):
            products[of_level[k], place[k]] = every[rows].T @ every[rows]
        counts = np.bincount(structure.classes, minlength=structure.n_classes)
        ZZ, ZC, CC = (
            np.ascontiguousarray(part)
            for part in (products[..., :q, :q], products[..., :q, q:], products[..., q:, q:])
        )
        return cls(main, others, of_class, ZZ, ZC, CC, counts)


def _columns(
    design: Design, priors: ModelPriors, main: int, others: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Z of the main factor (n, q), and [X, columns of the levels of the others, y] (n, N + 1).

    In the priors' coordinates, divided by what is known of the rows' sds; y less the prior mean.
    """
    block, rows = priors.population, design.observations
    X = block.coding.centre(rows.X) if design.terms else np.zeros((design.n, 0))
    made = [X]
    for k in others:
        group = design.groups[k]
        hot = np.eye(group.grouping.n_levels)[group.grouping.codes]
        Z = _centred(group, priors.of_factor(group.factor))
        made.append(np.einsum("nj,nq->njq", hot, Z).reshape(design.n, -1))
    y = rows.y_less_offset - (X @ block.mean if design.terms else 0.0)
    found = np.hstack([*made, y[:, None]])
    own = design.groups[main]
    Z = _centred(own, priors.of_factor(own.factor))
    known = design.residual.over_known_sd
    return known(Z), known(found)


def _centred(group: GroupDesign, parts: Sequence[GroupTermPart]) -> np.ndarray:
    return np.hstack([part.coding.centre(group.Z[:, part.columns]) for part in parts])


def build(design: Design, priors: ModelPriors, cells: Cells) -> pm.Model:
    """PyMC model of theta, variables named as in the full model; no coefficient, no response.

    The log density of the rows, up to the response's log known sds, is the potential
    ``log_likelihood_of_theta``.
    """
    part, structure = priors.residual_structure, design.residual.structure
    assert part is not None
    assert structure is not None
    assert priors.sigma is not None
    with pm.Model(coords=coords(design.schema)) as model:
        sigma = one_prior("sigma", priors.sigma)
        roots = [covariance_root(g, priors.of_factor(g.factor), sigma) for g in design.groups]
        _, log_sds = free_variables(structure, part, sigma, one_prior)
        density = _log_density(design, priors, cells, sigma, roots, log_sds)
        pm.Potential("log_likelihood_of_theta", density)
    return model


def _log_density(
    design: Design, priors: ModelPriors, cells: Cells, sigma: Any, roots: list[Any], log_sds: Any
) -> Any:
    J, m = cells.of_class.shape
    weights = pt.concatenate([pt.exp(-2 * log_sds), pt.zeros(1)])[cells.of_class] / sigma**2
    by_level = weights[:, :, None, None]
    A, H = (by_level * cells.ZZ).sum(axis=1), (by_level * cells.ZC).sum(axis=1)
    size = cells.CC.shape[-1]
    T = pt.dot(weights.reshape((J * m,)), cells.CC.reshape(J * m, size * size))
    half_det, K = _eliminated(A, H, roots[cells.main], cells.ZZ.shape[-1])
    left = T.reshape((size, size)) - sum(pt.dot(k.T, k) for k in K)
    of_rest, squares = _rest(design, priors, cells, roots, left)
    known = np.broadcast_to(np.log(design.residual.known_sd), (design.n,)).sum()
    log_det_rows = 2 * pt.dot(cells.counts, log_sds) + 2 * design.n * pt.log(sigma) + 2 * known
    constant = (design.n - priors.population.n_flat) * LOG_2PI
    return -0.5 * (constant + log_det_rows + 2 * half_det + of_rest + squares)


def _eliminated(A: Any, H: Any, root: Any, q: int) -> tuple[Any, list[Any]]:
    """Half the log det of root'A root + I over the levels, and K, column by column (J, N + 1).

    Cholesky factors entry by entry, each entry of all levels at once.
    """
    M = pt.dot(pt.dot(A, root).transpose(0, 2, 1), root) + np.eye(q)
    right = [sum(root[b, a] * H[:, b] for b in range(q)) for a in range(q)]
    F: dict[tuple[int, int], Any] = {}
    K: list[Any] = []
    half_det = 0.0
    for a in range(q):
        for b in range(a):
            x = M[:, a, b]
            for d in range(b):
                x = x - F[a, d] * F[b, d]
            F[a, b] = x / F[b, b]
        x = M[:, a, a]
        for d in range(a):
            x = x - F[a, d] ** 2
        F[a, a] = pt.sqrt(x)
        half_det = half_det + 0.5 * pt.log(x).sum()
        row = right[a]
        for b in range(a):
            row = row - F[a, b][:, None] * K[b]
        K.append(row / F[a, a][:, None])
    return half_det, K


def _rest(
    design: Design, priors: ModelPriors, cells: Cells, roots: list[Any], left: Any
) -> tuple[Any, Any]:
    """Log det of the dense block over that of its prior, and the squares that are left of y."""
    block, p = priors.population, len(design.terms)
    P0 = block.precision_root.T @ block.precision_root if p else np.zeros((0, 0))
    pieces = [np.eye(p)] if p else []
    for k in cells.others:
        J = design.groups[k].grouping.n_levels
        pieces.append(pt.linalg.kron(np.eye(J), roots[k]))
    N = cells.CC.shape[-1] - 1
    if not N:
        return 0.0, left[0, 0]
    B = pt.linalg.block_diag(*pieces) if len(pieces) > 1 else pieces[0]
    prior = np.eye(N)
    prior[:p, :p] = P0
    S = pt.dot(B.T, pt.dot(left[:N, :N], B)) + prior
    L = pt.linalg.cholesky(S)
    half = pt.linalg.solve_triangular(L, pt.dot(B.T, left[:N, N]), lower=True)
    positive = np.linalg.eigvalsh(P0) if p else np.zeros(0)
    positive = np.sort(positive)[block.n_flat :] if p else positive
    log_det = 2 * pt.log(pt.diag(L)).sum() - np.log(positive).sum()
    return log_det, left[N, N] - (half**2).sum()
