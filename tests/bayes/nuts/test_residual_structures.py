"""The PyMC model of a residual structure is what the exact engine integrates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import linalg, stats

import hierpool as hp
from hierpool.algebra.correlated.whitening import noise
from hierpool.bayes.exact.target import LogPosterior
from hierpool.bayes.nuts import pymc_model
from hierpool.bayes.parts.residual_structure import CORRELATION, SPREAD
from hierpool.bayes.theta import root_of
from tests.bayes.nuts.test_pymc_model import (
    N_POINTS,
    Points,
    evaluate,
    log_prior,
    population,
)
from tests.laws.test_residual_structures import STRUCTURES, correlation, made, table

QUICK = ("us(time | pig)", False)


def cases() -> list[Any]:
    """Each structure alone or beside random effects, in turn."""
    every = [(s, k % 2 == 0) for k, s in enumerate(STRUCTURES)] + [("us(time | pig)", False)]
    every += [(sigma, True) for sigma in ("~ diet", "~ w", "~ log(w)")]
    every += [("(1 | diet) + (1 | time)", True)]
    return [
        pytest.param(
            (s, group),
            id=f"{s}{'+u' * group}",
            marks=() if (s, group) == QUICK else pytest.mark.slow,
        )
        for s, group in dict.fromkeys(every)
    ]


def model_of(case: tuple[str, bool]) -> hp.Model:
    how, group = case
    if how.startswith("("):  # a factor around the groups, and one that crosses them
        return hp.Model(f"y ~ time + {how}", table(), residual="ar1(time | pig)", weights="w")
    if how.startswith("~"):
        return hp.Model("y ~ time + (time | pig)", table(), sigma=how, weights="w")
    return made(how, group, weights="w")


def log_conditional(p: Points, theta, phi: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """log p(beta, z | theta, y) as one dense normal; z are standard normals of the levels."""
    X, c = population(p)
    d, block, s = p.design, p.priors.population, p.design.residual.structure
    out = []
    for k in range(N_POINTS):
        T, m0, precision0 = X, block.mean, block.precision_root.T @ block.precision_root
        own = c[k]
        for g, at in zip(d.groups, d.group_columns, strict=True):
            parts = p.priors.of_factor(g.factor)
            Z = np.hstack([part.coding.centre(g.Z[:, part.columns]) for part in parts])
            one_hot = np.eye(g.grouping.n_levels)[g.codes]
            wide = np.einsum("nj,nq->njq", one_hot, Z @ roots[k, at, at]).reshape(d.n, -1)
            T = np.hstack([T, wide])
            m0 = np.concatenate([m0, np.zeros(wide.shape[1])])
            precision0 = linalg.block_diag(precision0, np.eye(wide.shape[1]))
            own = np.concatenate([own, p[f"z_{g.factor}"][k].ravel()])
        sd = np.exp(s.log_sds(phi)[k])[s.classes] * d.residual.known_sd * theta.sigma[k]
        V = np.outer(sd, sd) * correlation(s, phi[k])
        precision = T.T @ np.linalg.solve(V, T) + precision0
        mean = np.linalg.solve(precision, T.T @ np.linalg.solve(V, d.y) + precision0 @ m0)
        out.append(stats.multivariate_normal(mean, np.linalg.inv(precision)).logpdf(own))
    return np.array(out)


def log_prior_of_structure(model: hp.Model, theta) -> np.ndarray:
    part, total = model.priors.residual_structure, 0.0
    if CORRELATION in theta.values:
        share = (theta.values[CORRELATION] - part.lower) / (1 - part.lower)
        a = part.shapes_of_beta
        total = total + (stats.beta(a, a).logpdf(share) - np.log(1 - part.lower)).sum(axis=1)
    if SPREAD in theta.values:
        total = total + stats.norm(0, part.spread_sd).logpdf(theta.values[SPREAD]).sum(axis=1)
    return total


@pytest.mark.parametrize("case", cases())
def test_joint_density_is_that_of_the_exact_engine(case: tuple[str, bool]) -> None:
    model = model_of(case)
    design, priors = model.design, model.priors
    p = evaluate(pymc_model.build(design, priors), design, priors)
    theta = pymc_model.theta_of(p.posterior, design, priors)
    target = LogPosterior.from_design(design, priors)
    working = target.theta_map.working(theta)
    marginal = target.integrated.log_density(working)
    roots = root_of(p.priors, theta) if design.groups else np.zeros((N_POINTS, 0, 0))
    conditional = log_conditional(p, theta, working.phi, roots)
    prior = log_prior(p, theta) + log_prior_of_structure(model, theta)
    gap = p.log_density - conditional - marginal - prior
    np.testing.assert_allclose(gap, gap[0], rtol=0, atol=1e-8)
    reported = design.residual.structure.reported(working.phi, theta.sigma)
    for name, values in reported.items():
        np.testing.assert_allclose(p[name], values, atol=1e-12)


@pytest.mark.parametrize("structure", ["ar1(time | pig)", "csh(time | pig)"])
def test_simulated_residuals_have_the_covariance(structure: str) -> None:
    s = made(structure, False).design.residual.structure
    phi = np.full(s.size, 0.5)
    z = np.random.default_rng(1).standard_normal((4_000, len(s.groups)))
    sd = np.exp(s.log_sds(phi[None])[0])[s.classes]
    expected = np.outer(sd, sd) * correlation(s, phi)
    found = np.cov(noise(s, np.tile(phi, (4_000, 1)), z).T)
    np.testing.assert_allclose(found, expected, atol=6 * sd.max() ** 2 / np.sqrt(4_000))
