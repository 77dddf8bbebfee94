"""Parameters drawn from the priors of a model, and responses simulated from parameters.

Everything is in the user's coding, so that draws of any engine can be set beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from hierpool.algebra.correlated.residuals import drawn as drawn_residuals
from hierpool.algebra.covariance_root import sd_and_corr
from hierpool.algebra.moments import Coordinates
from hierpool.algebra.triangular import solve_lower
from hierpool.bayes.exact.coordinates import PriorCoordinates
from hierpool.bayes.priors.coefficients import CoefficientPriors
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.run import thresholds_for_user
from hierpool.bayes.theta import into_user, root_of
from hierpool.core.arguments import check_count, check_seed
from hierpool.core.design import Design
from hierpool.core.errors import PriorError, listed
from hierpool.core.results import (
    OBS_DIM,
    RESPONSE,
    coords,
    observed_data,
    row_labels,
    variable_dims,
)
from hierpool.core.theta import Theta


@dataclass(frozen=True)
class Parameters:
    """One value of every parameter of a model, in the user's coding.

    Attributes
    ----------
    beta
        Shape (p,).
    sigma
        Residual sd; 1 where those of the rows are known.
    spread_roots
        For each pooled factor, shape (q, q): a root of the covariance of a level's deviations.
    levels
        For each factor, shape (J, q): deviations u of the levels; own coefficients for no pooling.
    theta
        sigma, sds and correlations in the coordinates of the priors; None where they were given
        and not drawn.
    par
        Shape (P,): parameters of the family, thresholds where all predictors are 0; None for a
        Gaussian response.
    phi
        Shape (m,): parameters of a residual structure, as ``RowStructure`` orders them; None without.
    """

    beta: np.ndarray
    sigma: float
    spread_roots: tuple[np.ndarray, ...] = ()
    levels: tuple[np.ndarray, ...] = ()
    theta: Theta | None = None
    par: np.ndarray | None = None
    phi: np.ndarray | None = None

    def named(self, design: Design) -> dict[str, np.ndarray]:
        """Name of each variable in the vocabulary -> its value."""
        out: dict[str, np.ndarray] = {}
        schema, structure = design.schema, design.residual.structure
        if structure is not None and self.phi is not None:
            found = structure.reported(self.phi[None], np.array([self.sigma]))
            out |= {name: values[0] for name, values in found.items()}
        if schema.has_sigma:
            out["sigma"] = np.asarray(self.sigma)
        if schema.family is not None and self.par is not None:
            names = schema.family.parameters
            out |= {name: np.asarray(v) for name, v in zip(names, self.par, strict=False)}
            if schema.family.has_thresholds:
                out["thresholds"] = self.par
        if schema.terms:
            out["beta"] = self.beta
        if schema.groups and not schema.groups[0].is_pooled:
            return {**out, f"coef_{schema.groups[0].factor}": self.levels[0]}
        for group, root, u in zip(schema.groups, self.spread_roots, self.levels, strict=True):
            sd, corr = sd_and_corr(root)
            population = np.append(self.beta, 0.0)[group.population]
            out |= {f"sd_{group.factor}": sd, f"u_{group.factor}": u}
            out[f"coef_{group.factor}"] = population + u
            if group.has_correlation:
                out[f"corr_{group.factor}"] = corr
        return out


def draw_parameters(design: Design, priors: ModelPriors, rng: np.random.Generator) -> Parameters:
    """Every parameter drawn from its prior.

    Raises
    ------
    PriorError
        A flat prior, from which nothing can be drawn.
    """
    if not priors.is_proper:
        block = priors.population
        flat = [t for t, p in zip(block.terms, block.priors, strict=True) if p.family == "Flat"]
        raise PriorError(
            f"the flat prior of {listed(flat)} cannot be simulated from: give it a distribution.",
            "improper-prior",
        )
    coordinates = PriorCoordinates.from_priors(priors)
    theta = coordinates.theta(rng.standard_normal((1, coordinates.size)))
    sigma = float(theta.sigma[0])
    block = priors.population
    beta = block.coding.to_user @ _draw(block, 1, rng)[0]
    par = _parameters_of_family(design, theta, beta)
    if priors.unpooled is not None:
        n_levels, coding = design.groups[0].grouping.n_levels, priors.unpooled.coding
        levels = _draw(priors.unpooled.coefficients, n_levels, rng) @ coding.to_user.T
        common = Coordinates.from_design(design).x
        has_thresholds = design.family is not None and design.family.has_thresholds
        if (
            not common.has_constant and not has_thresholds
        ):  # common columns are centred at the cost of the intercepts
            levels = levels - (common.means @ beta) * coding.constant
        return Parameters(beta, sigma, (), (levels,), theta, par)
    if not design.groups:
        return Parameters(beta, sigma, theta=theta, par=par, phi=_phi(priors, theta))
    whole = (into_user(priors) @ root_of(priors, theta))[0]
    roots = tuple(whole[at, at] for at in design.group_columns)
    levels = _draw_levels(design, roots, rng)
    return Parameters(beta, sigma, roots, levels, theta, par, _phi(priors, theta))


def _phi(priors: ModelPriors, theta: Theta) -> np.ndarray | None:
    own = priors.residual_structure
    return None if own is None else own.phi(theta)[0]


def _parameters_of_family(design: Design, theta: Theta, beta: np.ndarray) -> np.ndarray | None:
    """Shape (P,): of one value of theta, thresholds where all predictors are 0."""
    family = design.family
    if family is None:
        return None
    if family.has_thresholds:
        return thresholds_for_user(design, theta, beta[None])["thresholds"][0]
    return np.array([theta.values[name][0] for name in family.parameters])


def draw_spreads(
    design: Design, priors: ModelPriors, draws: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Standard deviations, correlations and sigma from their priors, by name, draws first."""
    coordinates = PriorCoordinates.from_priors(priors)
    theta = coordinates.theta(rng.standard_normal((draws, coordinates.size)))
    out = {"sigma": theta.sigma} if design.residual.has_sigma else {}
    if design.family is not None:
        out |= {name: theta.values[name] for name in design.family.parameters}
    own, structure = priors.residual_structure, design.residual.structure
    if own is not None and structure is not None:
        out |= structure.reported(own.phi(theta), theta.sigma)
    if not any(group.is_pooled for group in design.groups):
        return out
    whole = into_user(priors) @ root_of(priors, theta)
    for group, at in zip(design.groups, design.group_columns, strict=True):
        sd, corr = sd_and_corr(whole[:, at, at])
        out[f"sd_{group.factor}"] = sd
        if group.has_correlation:
            out[f"corr_{group.factor}"] = corr
    return out


def _draw_levels(
    design: Design, roots: Sequence[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Deviations of the levels of each factor, given roots of their covariances."""
    out = []
    for group, root in zip(design.groups, roots, strict=True):
        related = group.schema.related
        if related is None:
            z = rng.standard_normal((group.grouping.n_levels, len(root)))
        else:
            z = related.draw(rng, len(root))
        out.append(z @ root.T)
    return tuple(out)


def _draw(block: CoefficientPriors, n: int, rng: np.random.Generator) -> np.ndarray:
    """Shape (n, k): draws of a block's coefficients, in the coordinates of its coding."""
    k = len(block.terms)
    if k == 0:
        return np.zeros((n, 0))
    if block.is_normal:
        noise = rng.standard_normal((k, n))
        return np.asarray(block.mean + solve_lower(block.precision_root, noise).T)
    columns = [p.distribution.ppf(rng.uniform(size=n)) for p in block.priors]
    return np.stack(columns, axis=1)


def at_parameters(design: Design, parameters: Parameters, rng: np.random.Generator) -> Parameters:
    """The same population with its levels drawn anew (own coefficients of no pooling stay)."""
    phi, structure = parameters.phi, design.residual.structure
    if phi is not None and structure is not None and structure.scale is not None:
        z = rng.standard_normal((1, len(structure.scale.labels)))
        parameters = replace(parameters, phi=structure.with_new_groups(phi[None], z)[0], theta=None)
    if not parameters.spread_roots:
        return parameters
    levels = _draw_levels(design, parameters.spread_roots, rng)
    return replace(parameters, levels=levels, theta=None)


def simulate(design: Design, parameters: Parameters, rng: np.random.Generator) -> np.ndarray:
    """Shape (n,): a response drawn at these parameters, in the rows of the design."""
    mean = design.X @ parameters.beta + design.offset
    for group, levels in zip(design.groups, parameters.levels, strict=True):
        mean = mean + (group.Z * levels[group.grouping.codes]).sum(axis=1)
    if design.family is not None:
        assert parameters.par is not None
        drawn = design.family.draw(mean[None], parameters.par[None], design.trials, rng)
        return np.asarray(drawn[0])
    z = rng.standard_normal(design.n)
    phi = None if parameters.phi is None else parameters.phi[None]
    return np.asarray(mean + drawn_residuals(design, np.array([parameters.sigma]), phi, z[None])[0])


def covariance_root(sd: np.ndarray, corr: np.ndarray) -> np.ndarray:
    """Shape (q, q): a root of the covariance with these sds and correlations, singular or not."""
    # eigh and not Cholesky: correlations of one are allowed, and leave eigenvalues of -1e-17.
    values, vectors = np.linalg.eigh(np.asarray(corr, dtype=float))
    return np.asarray(sd)[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))


def prior_tree(design: Design, priors: ModelPriors, draws: int, seed: int) -> xr.DataTree:
    """DataTree with the groups prior, prior_predictive and observed_data; one chain."""
    rng = np.random.default_rng(check_seed(seed))
    drawn, responses = [], []
    for _ in range(check_count("draws", draws)):
        parameters = draw_parameters(design, priors, rng)
        drawn.append(parameters.named(design))
        responses.append(simulate(design, parameters, rng))
    dims, labels = variable_dims(design.schema), coords(design.schema)
    prior = {
        name: (("chain", "draw", *dims[name]), np.stack([d[name] for d in drawn])[None])
        for name in drawn[0]
    }
    used = {dim for name in prior for dim in dims[name]}
    sampled = {"chain": [0], "draw": np.arange(draws)}
    observed = {**sampled, OBS_DIM: row_labels(design)}
    predicted = {RESPONSE: (("chain", "draw", OBS_DIM), np.stack(responses)[None])}
    return xr.DataTree.from_dict(
        {
            "prior": xr.Dataset(
                prior, {**sampled, **{k: v for k, v in labels.items() if k in used}}
            ),
            "prior_predictive": xr.Dataset(predicted, observed),
            "observed_data": observed_data(design),
        }
    )


def prior_spread(design: Design, priors: ModelPriors, draws: int, seed: int) -> xr.Dataset:
    """Standard deviations, correlations and sigma from their priors; one chain."""
    rng = np.random.default_rng(check_seed(seed))
    drawn = draw_spreads(design, priors, check_count("draws", draws), rng)
    dims, labels = variable_dims(design.schema), coords(design.schema)
    used = {dim for name in drawn for dim in dims[name]}
    return xr.Dataset(
        {name: (("chain", "draw", *dims[name]), values[None]) for name, values in drawn.items()},
        {
            "chain": [0],
            "draw": np.arange(draws),
            **{k: v for k, v in labels.items() if k in used},
        },
    )
