"""Breeding values: what related groups inherit, those without rows of their own included.

With A the relationship, o those with rows and a all: given u_o, the others have mean B u_o and
variance sigma_a^2 (A_aa - B A_oa), B = A_ao A_oo^-1. A breeding value's accuracy is its correlation
with the true one, sqrt(1 - PEV / (sigma_a^2 A_ii)); its square is the reliability.

References
----------
Mrode, Thompson (2014), Linear Models for the Prediction of Animal Breeding Values, 3rd ed., 3.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from scipy import linalg

from hierpool.algebra.choose import at_estimate
from hierpool.algebra.correlated.joint_factorisation import JointFactorisation
from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.related.factorisation import RelatedFactorisation
from hierpool.algebra.related.sparse_factorisation import SparseFactorisation
from hierpool.algebra.related.sparse_model import SparseLevels
from hierpool.answers import coefficient_draws
from hierpool.core.errors import ArgumentError, UnsupportedModelError, listed
from hierpool.core.fitted import Optimum, Posterior, check_fit
from hierpool.core.options import probability_of, takes_prob
from hierpool.core.relationship import LevelRelationship
from hierpool.core.schema import GroupSchema
from hierpool.draws.summary import normal_interval, summary

_DRAWS = 1000  # that sparse equations with one variance are solved for
_NUMBERS = 20_000_000  # draws times animals that are held at once


@takes_prob
def breeding_values(
    fit: IntegratedPosterior | Optimum,
    factor: str | None = None,
    *,
    term: str | None = None,
    top: float = 0.1,
    highest: bool = True,
    prob: float | None = None,
) -> pd.DataFrame:
    """What each related group inherits: of all in the pedigree or matrix, with rows or without.

    Parameters
    ----------
    fit
        Of a model with ``relationship=``.
    factor
        The related factor; None for the only one.
    term
        Which of the coefficients of ``(age | animal)``, ``"Intercept"`` or ``"age"``; None for the
        only one. The intercept is the value where age is 0.
    top
        Of a posterior: the share that counts as the best, for ``p_top``.
    highest
        Whether the largest values are the best.
    prob
        Probability of the interval; None: that of ``hp.options``.

    Returns
    -------
    DataFrame
        Index: the labels of the relationship. ``estimate`` and ``se`` of REML or ML (the root of the
        prediction error variance), ``mean`` and ``sd`` of a posterior; interval; ``accuracy`` and
        ``reliability`` (NaN where no variance is left to predict); ``n_rows``; ``inbreeding`` of a
        pedigree. Of a posterior also ``mean_rank``, 1 for the best, and ``p_top``, the probability of
        being among the best tenth.

    Raises
    ------
    UnsupportedModelError
        The model has no relationship.
    """
    check_fit(fit, "breeding_values")
    probability_of(prob)
    if not 0 < top < 1:
        raise ArgumentError(
            f"top={top!r}: a share between 0 and 1, e.g. 0.1 for the best tenth", "bad-probability"
        )
    group = _related(fit.design.schema.groups, factor)
    assert group.related is not None
    at = _term(group, term)
    if isinstance(fit, Posterior):
        values = _drawn(fit, group, at)
        spread = np.square(fit.variable(f"sd_{group.factor}").to_numpy()[..., at]).mean()
        table = _summed_up(values, spread * group.related.relationship.diagonal, prob)
        table = _with_ranks(table, values, top, highest)
    else:
        table = _of_optimum(fit, group, at, prob)
    table.index = pd.Index(group.related.relationship.labels, name=group.factor)
    rows = np.zeros(len(table), dtype=int)
    rows[group.related.places] = group.grouping.n_rows
    table["n_rows"] = rows
    if group.related.relationship.inbreeding is not None:
        table["inbreeding"] = group.related.relationship.inbreeding
    return table


def _related(groups: tuple[GroupSchema, ...], factor: str | None) -> GroupSchema:
    found = [g for g in groups if g.related is not None and factor in (None, g.factor)]
    if len(found) == 1:
        return found[0]
    names = [g.factor for g in groups if g.related is not None]
    if not names:
        raise UnsupportedModelError(
            "the groups of this model are independent: hp.Model(..., relationship={'animal': pedigree}) "
            "relates them. fit.random_effects() has the effects of independent groups",
            "no-relationship",
        )
    raise ArgumentError(f"factor={factor!r}: choose one of {listed(names)}", "unknown-choice")


def _term(group: GroupSchema, term: str | None) -> int:
    """Position of a coefficient."""
    if term in group.terms:
        return group.terms.index(term)
    if term is None and len(group.terms) == 1:
        return 0
    raise ArgumentError(
        f"term={term!r}: {group.factor!r} has the coefficients {listed(group.terms)}. Choose one, e.g. "
        f"term={group.terms[-1]!r}",
        "unknown-choice",
    )


@dataclass(frozen=True)
class _Others:
    """All labels given those with rows: B (M, J), and what is left of the variance (M,) or (M, M)."""

    related: LevelRelationship
    B: np.ndarray

    @classmethod
    def of(cls, related: LevelRelationship) -> _Others:
        own = related.relationship
        every = np.arange(len(own.labels))
        across = own.between(every, related.places)
        try:
            B = linalg.cho_solve((related.root, True), across.T).T
            lower = np.allclose(np.triu(related.root, 1), 0)
        except linalg.LinAlgError:
            lower = False
        if not lower:
            B = across @ np.linalg.pinv(related.covariance, hermitian=True)
        B[related.places] = np.eye(len(related.places))
        return cls(related, B)

    @property
    def diagonal(self) -> np.ndarray:
        """Shape (M,): variances of all."""
        return self.related.relationship.diagonal

    @property
    def left(self) -> np.ndarray:
        """Shape (M,): variances of all given those with rows."""
        own, M = self.related.relationship, len(self.B)
        taken = np.einsum("mj,mj->m", self.B, own.between(np.arange(M), self.related.places))
        left = np.maximum(self.diagonal - taken, 0.0)
        left[self.related.places] = 0.0
        return left

    def noise(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of those without rows, and n draws of what is left of them."""
        own = self.related.relationship
        out = np.setdiff1d(np.arange(len(self.B)), self.related.places)
        cov = own.between(out, out) - self.B[out] @ own.between(self.related.places, out)
        values, vectors = np.linalg.eigh(cov)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        return out, rng.standard_normal((n, len(out))) @ root.T


def _of_optimum(fit: Optimum, group: GroupSchema, term: int, prob: float | None) -> pd.DataFrame:
    design, e = fit.design, fit.estimate
    assert group.related is not None
    coordinates = Coordinates.from_design(design)
    at = at_estimate(design, coordinates, e)
    k = [g.factor for g in design.groups].index(group.factor)
    variance = e.of(group.factor).sd[term] ** 2
    if isinstance(at, SparseFactorisation):
        into = coordinates.zs[k].from_working
        estimate = (at.values(k).u @ into.T)[:, term]
        error = e.sigma**2 * at.error_variances(k, into)[:, term]
    else:
        assert isinstance(at, RelatedFactorisation | JointFactorisation)
        others = _Others.of(group.related)
        estimate = others.B @ e.of(group.factor).u[:, term]
        into = coordinates.zs[k].from_working[term]
        error = e.sigma**2 * at.variance_of_levels(k, others.B, into) + variance * others.left
    se = np.sqrt(np.maximum(error, 0.0))
    table = pd.DataFrame({"estimate": estimate, "se": se, **normal_interval(estimate, se, prob)})
    return _with_accuracy(table, error, variance * group.related.relationship.diagonal)


def _with_accuracy(table: pd.DataFrame, error: np.ndarray, variance: np.ndarray) -> pd.DataFrame:
    with np.errstate(invalid="ignore", divide="ignore"):
        reliability = np.where(variance > 0, np.clip(1 - error / variance, 0.0, 1.0), np.nan)
    table["accuracy"] = np.sqrt(reliability)
    table["reliability"] = reliability
    return table


def _drawn(fit: IntegratedPosterior, group: GroupSchema, term: int) -> np.ndarray:
    """Shape (chains, draws used, M): what all labels inherit, those without rows too."""
    assert group.related is not None
    n_chains, n_draws = fit.n_draws
    M, J = len(group.related.relationship.labels), group.grouping.n_levels
    step = -(-n_chains * n_draws * M // _NUMBERS)
    used = np.arange(n_chains * n_draws).reshape(n_chains, n_draws)[:, ::step]
    k = [g.factor for g in fit.design.schema.groups].index(group.factor)
    if fit.is_integrable and isinstance(fit.integrated, SparseLevels):
        # each used draw of theta has a draw of all labels: worked out anew, as nothing else has them
        affordable = _DRAWS if fit.integrated.is_single else fit.thinned_draws.size
        step = max(step, -(-len(fit.theta) // affordable))
        used = np.arange(n_chains * n_draws).reshape(n_chains, n_draws)[:, ::step]
        flat = used.ravel()
        beta = fit.integrated.coordinates.beta_from_user(coefficient_draws.beta_draws(fit)[flat])
        values = np.empty((len(flat), M))
        rng = np.random.default_rng([fit.seed, 1])
        for which, drawn in fit.integrated.coefficients(fit.working_theta[flat], beta, rng):
            values[which] = drawn[k][..., term]
        return values.reshape(n_chains, -1, M)
    others = _Others.of(group.related)
    own = coefficient_draws.level_draws(fit, group, np.arange(J))[..., term][used.ravel()]
    sd = coefficient_draws.flat(fit, f"sd_{group.factor}")[used.ravel(), term : term + 1]
    values = own @ others.B.T
    out, noise = others.noise(np.random.default_rng(fit.seed), len(values))
    values[:, out] += sd * noise
    return np.asarray(values.reshape(n_chains, -1, M))


def _summed_up(values: np.ndarray, variance: np.ndarray, prob: float | None) -> pd.DataFrame:
    table = summary(xr.DataArray(values, dims=("chain", "draw", "level")), False, prob)
    return _with_accuracy(table, values.var(axis=(0, 1)), variance)


def _with_ranks(table: pd.DataFrame, values: np.ndarray, top: float, highest: bool) -> pd.DataFrame:
    """Mean rank, and the probability of being among the best; a draw at a time."""
    M = values.shape[-1]
    total, best = np.zeros(M), np.zeros(M)
    n_best, ranks = max(1, round(top * M)), np.arange(1.0, M + 1)
    flat = values.reshape(-1, M)
    for drawn in flat:
        order = np.argsort(-drawn if highest else drawn, kind="stable")
        total[order] += ranks
        best[order[:n_best]] += 1
    table["mean_rank"], table["p_top"] = total / len(flat), best / len(flat)
    return table
