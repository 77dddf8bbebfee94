"""Densities of a model whose response is not Gaussian, summed over dense grids of its deviations.

Nothing is merged, adapted or compiled here but the family's own log density.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special

import hierpool as hp
from hierpool.algebra.gaussian import BetaPrior
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.quadrature.model import QuadratureModel
from hierpool.core.design import Design
from hierpool.core.families.family import Family
from hierpool.core.families.table import FAMILIES
from hierpool.core.spec import ResidualTerm
from hierpool.core.theta import FamilyPoint, FamilyTheta

NODES = {0: 1, 1: 4001, 2: 161, 3: 41}
FARTHEST = {1: 20.0, 2: 8.0, 3: 8.0}
PAR = {
    "negbinomial": [[1.3], [0.4], [30.0]],
    "student": [[0.7, 4.0], [1.5, 1.2], [0.4, 30.0]],
    "gamma": [[2.0], [0.6], [9.0]],
    "beta": [[4.0], [1.5], [20.0]],
    "ordinal": [[-0.7, 0.3, 1.1], [-0.1, 0.1, 2.0], [-2.0, 0.0, 0.4]],
    "zero_inflated_poisson": [[0.2], [0.05], [0.6]],
    "zero_inflated_negbinomial": [[1.3, 0.2], [0.4, 0.05], [9.0, 0.6]],
    "hurdle_poisson": [[0.3], [0.1], [0.6]],
    "hurdle_negbinomial": [[1.3, 0.3], [0.4, 0.1], [9.0, 0.6]],
}


def family_of(name: str) -> Family:
    """The family, its link the usual one unless it is written behind a colon."""
    name, _, link = name.partition(":")
    return FAMILIES[name](link)


def response(name: str, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A response that the family can have, and trials."""
    trials = np.ones(n)
    if name == "bernoulli":
        return (rng.uniform(size=n) < 0.4).astype(float), trials
    if name == "binomial":
        trials = rng.integers(1, 9, n).astype(float)
        return rng.binomial(trials.astype(int), 0.3).astype(float), trials
    if name == "student":
        return rng.standard_t(2, n), trials
    if name == "gamma":
        return rng.gamma(1.5, 1.0, n), trials
    if name == "beta":
        return rng.beta(1.2, 2.0, n), trials
    if name == "ordinal":
        return rng.integers(0, 4, n).astype(float), trials
    counts = rng.poisson(rng.gamma(1.0, 2.0, n)).astype(float)
    return np.where(rng.uniform(size=n) < 0.2, 0.0, counts), trials


@dataclass(frozen=True)
class Case:
    """A model at three points, and the judge of it."""

    model: QuadratureModel
    gamma: np.ndarray
    theta: FamilyTheta

    @property
    def point(self) -> FamilyPoint:
        return self.model.point(self.gamma, self.theta)

    def predictor(self, k: int) -> np.ndarray:
        """Shape (n,): without the integrated factor."""
        m, point = self.model, self.point
        eta = m.coordinates.x.work(m.design.X) @ point.beta[k] + m.design.offset
        first = 0
        for f, group in enumerate(m.design.groups):
            if f != m.integrated:
                size = group.grouping.n_levels * len(group.terms)
                u = point.effects[k, first : first + size].reshape(-1, len(group.terms))
                Z = m.coordinates.zs[f].work(group.Z)
                eta = eta + (Z * u[group.codes]).sum(axis=1)
                first += size
        return eta

    def nodes(self, level: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of a level, their weighted log densities (rows, nodes), and log prior and width (nodes,)."""
        m, design = self.model, self.model.design
        codes = np.zeros(design.n, int)
        T = np.zeros((design.n, 0))
        if m.integrated >= 0:
            group, own = design.groups[m.integrated], design.group_columns[m.integrated]
            Z, codes = m.coordinates.zs[m.integrated].work(group.Z), group.codes
            T = Z @ self.theta.Lambda[k][own, own]
        v, log_width = grid(m.q)
        rows = np.flatnonzero(codes == level)
        eta = self.predictor(k)[rows, None] + T[rows] @ v.T
        at = m.rows.place[rows]
        par = np.tile(self.theta.par[k], (v.shape[0], 1))
        value = m.family.log_density(design.y[rows], eta.T, par, m.rows.trials[at]).T
        prior = -0.5 * (v**2).sum(axis=1) - 0.5 * m.q * np.log(2 * np.pi) + log_width
        return rows, value * m.rows.unit[at][:, None], prior

    @property
    def n_levels(self) -> int:
        return len(self.model.rows.level_of)

    def level(self, level: int, k: int) -> float:
        _, values, prior = self.nodes(level, k)
        return float(special.logsumexp(values.sum(axis=0) + prior))

    def total(self, k: int) -> float:
        return sum(self.level(j, k) for j in range(self.n_levels))

    def rows(self, k: int) -> np.ndarray:
        """Shape (n,): log densities of rows given the other rows of their level."""
        out = np.empty(self.model.design.n)
        for j in range(self.n_levels):
            rows, values, prior = self.nodes(j, k)
            whole = values.sum(axis=0) + prior
            left = special.logsumexp(whole - values, axis=1)
            out[rows] = special.logsumexp(whole) - left
        return out


def grid(q: int) -> tuple[np.ndarray, float]:
    """Nodes (M, q) and the log volume of their cells."""
    if q == 0:
        return np.zeros((1, 0)), 0.0
    axis = np.linspace(-FARTHEST[q], FARTHEST[q], NODES[q])
    v = np.stack(np.meshgrid(*[axis] * q, indexing="ij"), axis=-1).reshape(-1, q)
    return v, q * np.log(axis[1] - axis[0])


def made(
    name: str,
    formula: str = "y ~ x + (1 | g)",
    sd: float = 0.8,
    n: int = 24,
    data: pd.DataFrame | None = None,
    weights: np.ndarray | None = None,
    seed: int = 1,
) -> Case:
    """A small model of a family: four levels of g, one of a single row; three levels of h."""
    rng = np.random.default_rng(seed)
    family = family_of(name)
    y, trials = response(family.name, rng, n)
    g = np.r_[np.zeros(1), rng.integers(1, 4, n - 1)].astype(int)
    frame = pd.DataFrame(
        {
            "y": y,
            "g": [f"g{c}" for c in g],
            "h": [f"h{c}" for c in rng.integers(0, 3, n)],
            "x": rng.normal(size=n).round(1),
            "w": rng.normal(size=n).round(1),
        }
    )
    if data is not None:
        frame = frame.assign(**{c: data[c].to_numpy() for c in data})
    design = _design(formula, frame, family, trials, weights)
    p, coordinates = design.X.shape[1], Coordinates.from_design(design)
    prior = BetaPrior(np.zeros(p), 0.5 * np.eye(p))
    model = QuadratureModel.from_design(design, coordinates, prior)
    Q = sum(len(group.terms) for group in design.groups)
    Lambda = np.zeros((3, Q, Q))
    for own in design.group_columns:
        size = own.stop - own.start
        Lambda[:, own, own] = np.tril(rng.uniform(0.2, 1.0, (3, size, size))) * sd
    par = np.array(PAR.get(family.name, np.zeros((3, 0))), dtype=float)
    gamma = 0.4 * rng.normal(size=(3, model.n_gamma))
    return Case(model, gamma, FamilyTheta(np.ones(3), Lambda, par))


def _design(
    formula: str,
    frame: pd.DataFrame,
    family: Family,
    trials: np.ndarray,
    weights: np.ndarray | None,
) -> Design:
    """The design of a model; of responses that are all alike no model could be made."""
    noise = np.random.default_rng(0).normal(size=len(frame))
    design = hp.Model(formula, frame.assign(y=noise)).design.with_response(frame["y"].to_numpy())
    rows = replace(design.observations, trials=trials, residual_values=weights)
    schema = replace(design.schema, family=family)
    if weights is not None:
        schema = replace(schema, spec=replace(schema.spec, residual=ResidualTerm("family", "w")))
    return replace(design, schema=schema, observations=rows)
