"""The PyMC model with several factors is the one that the exact engine integrates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

import hierpool as hp
from hierpool.bayes.nuts import pymc_model
from hierpool.bayes.theta import integrate, root_of
from tests.bayes.nuts.test_pymc_model import N_POINTS, evaluate, log_lkj

CASES = {
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "nested": ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    "slopes and interaction": (
        "Machines",
        "score ~ Machine + (Machine | Worker) + (1 | Worker:Machine)",
    ),
    "uncorrelated": (
        "Machines",
        "score ~ Machine + (1 | Worker) + (0 + Machine || Machine:Worker)",
    ),
}


def log_prior(priors, theta) -> np.ndarray:
    """Log prior of theta over (sigma, sds, partial correlations)."""
    total = priors.sigma.distribution.logpdf(theta.sigma)
    for part in priors.group_terms:
        for k, prior in enumerate(part.sd):
            total = total + prior.distribution.logpdf(part.sds(theta)[:, k])
        if part.eta is not None:
            total = total + log_lkj(theta.values[f"corr_chol_{part.name}"], part.eta)
    return total


def log_conditional(p, theta) -> np.ndarray:
    """log p(beta, z | theta, y) as one dense normal, z the standard normals of every factor."""
    design, priors = p.design, p.priors
    block = priors.population
    beta = p["beta_centred" if "beta_centred" in p.posterior else "beta"]
    out = []
    jacobian = np.zeros(N_POINTS)
    for k in range(N_POINTS):
        columns, values, precision = [block.coding.centre(design.X)], [beta[k]], []
        precision.append(block.precision_root.T @ block.precision_root)
        for group, at in zip(design.groups, design.group_columns, strict=True):
            spread = priors.of_factor(group.factor)
            Z = np.hstack([b.coding.centre(group.Z[:, b.columns]) for b in spread])
            root = root_of(priors, theta)[k, at, at]
            hot = np.eye(group.grouping.n_levels)[group.grouping.codes]
            columns.append(np.einsum("nj,nq->njq", hot, Z @ root).reshape(design.n, -1))
            u = (
                p[f"u_{group.factor}"][k]
                @ linalg.block_diag(*(b.coding.to_centred for b in spread)).T
            )
            values.append(linalg.solve_triangular(root, u.T, lower=True).T.ravel())
            at_once, by_term = f"z_{group.factor}", f"z_{group.factor}[{group.terms[0]}]"
            if not {at_once, by_term} & set(p.posterior):  # the density is that of the deviations
                jacobian[k] += group.grouping.n_levels * np.log(np.diag(root)).sum()
            precision.append(np.eye(columns[-1].shape[1]))
        T, c, prior = np.hstack(columns), np.concatenate(values), linalg.block_diag(*precision)
        mean0 = np.concatenate([block.mean, np.zeros(len(c) - len(block.mean))])
        total = T.T @ T / theta.sigma[k] ** 2 + prior
        away = c - np.linalg.solve(total, T.T @ design.y / theta.sigma[k] ** 2 + prior @ mean0)
        log_det = np.linalg.slogdet(total)[1]
        out.append(0.5 * (log_det - len(c) * np.log(2 * np.pi) - away @ total @ away))
    return np.array(out) - jacobian


@pytest.mark.parametrize(
    "parameterization",
    [
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("noncentered", "centered")),
        "partial",
        "auto",
    ],
)
@pytest.mark.parametrize("name", CASES)
def test_joint_density_is_that_of_the_exact_engine(name, parameterization):
    dataset, formula = CASES[name]
    model = hp.Model(formula, hp.datasets.load(dataset))
    p = evaluate(model.to_pymc(parameterization), model.design, model.priors)
    theta = pymc_model.theta_of(p.posterior, model.design, model.priors)
    algebra, theta_map = integrate(model.design, model.priors)
    marginal = algebra.log_density(theta_map.working(theta))
    gap = p.log_density - log_conditional(p, theta) - marginal - log_prior(model.priors, theta)
    np.testing.assert_allclose(gap, gap[0], rtol=0, atol=1e-8)


def test_variables_are_named_by_factor():
    dataset, formula = CASES["nested"]
    names = set(hp.Model(formula, hp.datasets.load(dataset)).to_pymc().named_vars)
    for factor in ("batch", "batch:cask"):
        assert {f"u_{factor}", f"coef_{factor}", f"sd_{factor}"} <= names
