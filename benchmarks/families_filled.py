"""The posterior of a small table by lattices filled from the inside out, to judge the exact engine by.

Where ``families_dense`` looks for places on a lattice along the axes, here theta (through the cdfs of its
priors, z) and the coefficients (e, in units of a Laplace approximation at each z) are turned and scaled
until they are uncorrelated. A lattice, turned so that no quantity is constant on its planes, is filled from
every place that a scatter finds, as far as nodes matter, again with the origin moved, and all nodes are
taken together. What lattices with different origins say is compared: where they do not agree the step is
made smaller, or there are more of them, and a judge that stays in doubt says so. Five dimensions take
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from families_dense import Right, _off_at, _summed, scalars_of
from scipy import special

from hierpool.bayes.quadrature.target import FamilyPosterior
from hierpool.model import Model

DROP = 11.0  # log density below its top from which nothing counts
STEP, FINER = 1.25, 0.6  # in posterior sds, and times what where lattices do not agree
ORIGINS = {1: 128, 2: 64, 3: 32}  # by dimensions
FEWEST_ORIGINS, ATTEMPTS = 12, 4
TURNS, SHORT = 300, 2.6  # rotations tried, and dual vectors that none should be along a quantity
CLOSE, CLOSE_EVIDENCE = 0.08, 0.02  # halves of the lattices: in posterior sds; log evidences
SCATTERED, WIDE = 3000, 1.4  # points, and their prior sds
ROUNDS, POINTS = 4, 800  # of importance sampling that finds the scale of z
LARGEST_Z = 7.5
MOST = 200_000  # nodes of a lattice
CHECKED = 4
BITS = 9  # of an integer coordinate


class UnsureError(Exception):
    """The judge does not know."""


@dataclass(frozen=True)
class Space:
    """x = (z, e) = centre + u root', u uncorrelated and in posterior sds.

    Attributes
    ----------
    posterior
        What is integrated.
    centre, root
        Shapes (D,) and (D, D).
    """

    posterior: FamilyPosterior
    centre: np.ndarray
    root: np.ndarray

    def x(self, u: np.ndarray) -> np.ndarray:
        """Shape (K, D)."""
        return np.asarray(self.centre + u @ self.root.T)

    def u(self, x: np.ndarray) -> np.ndarray:
        """Shape (K, D)."""
        return np.asarray(np.linalg.solve(self.root, (x - self.centre).T).T)

    def at(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (K, p) and log density with respect to u (K,)."""
        d, x = self.posterior.dimension, self.x(u)
        z, e = x[:, :d], x[:, d:]
        gamma, density = e, np.zeros(len(x))
        with np.errstate(all="ignore"):
            if e.shape[1]:
                laplace = self.posterior.laplace(z)
                root = np.swapaxes(laplace.root, 1, 2)
                gamma = laplace.gamma + np.linalg.solve(root, e[..., None])[..., 0]
                density -= np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
            working = self.posterior.theta(z)[1]
            density += self.posterior.model.log_density(gamma, working, finer=True)
            density += self.posterior.log_prior(gamma) - 0.5 * (z**2).sum(axis=1)
        density += np.linalg.slogdet(self.root)[1] - 0.5 * d * np.log(2 * np.pi)
        is_in = np.isfinite(density) & (np.abs(z) < LARGEST_Z).all(axis=1)
        return gamma, np.where(is_in, density, -np.inf)


@dataclass(frozen=True)
class Nodes:
    """Nodes of a lattice: u (K, D), coefficients (K, p), log density (K,)."""

    u: np.ndarray
    gamma: np.ndarray
    density: np.ndarray


def filled(model: Model) -> Right:
    """The posterior by quadrature over theta and the coefficients."""
    posterior = FamilyPosterior.from_design(model.design, model.priors)
    scatter = _scatter(posterior)
    space = _scaled(posterior, scatter)
    first = _fill(space, STEP, np.zeros(len(space.centre)), space.u(scatter))
    space = _rescaled(space, first)
    step, seeds, parts, asked = STEP, space.u(scatter), list[Nodes](), 0
    D, further = len(space.centre), ORIGINS.get(len(space.centre), FEWEST_ORIGINS)
    for _ in range(ATTEMPTS):
        asked += further
        parts += [_fill(space, step, own, seeds) for own in _origins(D, asked)[len(parts) :]]
        sums = [special.logsumexp(part.density) for part in parts]
        evidences = np.array(sums) + D * np.log(step)
        whole, halves = _scalars(space, parts), [_scalars(space, parts[k::2]) for k in (0, 1)]
        apart = max(_apart(halves[0][k], halves[1][k]) for k in whole)
        if np.std(evidences) > CLOSE_EVIDENCE:
            step, parts, asked = FINER * step, [], 0
        elif apart < CLOSE:
            break
    else:
        raise UnsureError(f"halves differ by {apart:.3f}, log evidences {np.std(evidences):.3f}")
    evidence = special.logsumexp(evidences) - np.log(len(evidences))
    return Right(float(evidence), whole, _checked(model, space, parts[0]))


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference of mean, 5 and 95 % quantile in posterior sds."""
    return float(np.abs(a - b)[[0, 2, 3]].max() / a[1])


def _scatter(posterior: FamilyPosterior) -> np.ndarray:
    """Points x (K, D) all over the prior, and about where a Laplace approximation has the mass."""
    rng, d = np.random.default_rng(7), posterior.dimension
    z = WIDE * rng.standard_normal((SCATTERED, d))
    proposals = [(np.zeros(d), WIDE**2 * np.eye(d))]
    density = _laplace(posterior, z)
    for _ in range(ROUNDS):
        mixed = np.logaddexp.reduce([_normal(z, *own) for own in proposals], axis=0)
        # With a part of the weights at the best points even a mode that few points see is followed.
        weights = _softened(density - mixed)
        mean = weights @ z
        scale = (z - mean).T @ ((z - mean) * weights[:, None]) + 1e-6 * np.eye(d)
        proposals.append((mean, 2 * scale))
        more = mean + rng.standard_normal((POINTS, d)) @ np.linalg.cholesky(2 * scale).T
        z, density = np.vstack([z, more]), np.append(density, _laplace(posterior, more))
    z = z[np.argsort(-density)]
    return np.hstack([z, np.zeros((len(z), posterior.model.n_gamma))])


def _laplace(posterior: FamilyPosterior, z: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        found = posterior.laplace(z).log_density - 0.5 * (z**2).sum(axis=1)
    return np.where(np.isfinite(found), found, -np.inf)


def _normal(z: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    root = np.linalg.cholesky(scale)
    white = np.linalg.solve(root, (z - mean).T)
    return np.asarray(-0.5 * (white**2).sum(axis=0) - np.log(np.diag(root)).sum())


def _softened(log_weights: np.ndarray, part: float = 0.02) -> np.ndarray:
    weights = np.exp(log_weights - log_weights.max())
    for _ in range(40):
        weights = np.minimum(weights, part * weights.sum())
    return np.asarray(weights / weights.sum())


def _scaled(posterior: FamilyPosterior, scatter: np.ndarray) -> Space:
    """Scales by the exact density at scattered points."""
    D, d = scatter.shape[1], posterior.dimension
    density = Space(posterior, np.zeros(D), np.eye(D)).at(scatter)[1]
    heavy = scatter[density > density.max() - 0.5 * DROP][:, :d]
    weights = np.exp(density[density > density.max() - 0.5 * DROP] - density.max())
    weights = _softened(np.log(weights), 0.05)
    mean = weights @ heavy
    scale = (heavy - mean).T @ ((heavy - mean) * weights[:, None]) + 1e-5 * np.eye(d)
    root = np.eye(D)
    root[:d, :d] = np.linalg.cholesky(scale)
    return Space(posterior, np.append(mean, np.zeros(D - d)), root)


def _rescaled(space: Space, nodes: Nodes) -> Space:
    """Scales by the nodes of a lattice."""
    weights, x = special.softmax(nodes.density), space.x(nodes.u)
    mean = weights @ x
    scale = (x - mean).T @ ((x - mean) * weights[:, None])
    root = np.linalg.cholesky(scale + 1e-9 * np.eye(len(mean)))
    return replace(space, centre=mean, root=root @ _turned(root))


def _turned(root: np.ndarray) -> np.ndarray:
    """The rotation (D, D), of those tried, whose planes cross all coordinates of x best."""
    D, rng = len(root), np.random.default_rng(11)
    if D == 1:
        return np.eye(1)
    axis = np.arange(-2, 3)
    dual = np.stack(np.meshgrid(*[axis] * D, indexing="ij"), -1).reshape(-1, D)
    dual = dual[(np.linalg.norm(dual, axis=1) < SHORT) & (dual != 0).any(axis=1)]
    best, turn = -1.0, np.eye(D)
    for _ in range(TURNS):
        tried = np.linalg.qr(rng.standard_normal((D, D)))[0]
        across = root @ tried
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        off = (dual**2).sum(axis=1) - (across @ dual.T) ** 2
        if off.min() > best:
            best, turn = float(off.min()), tried
    return turn


def _origins(D: int, n: int) -> np.ndarray:
    """Shape (n, D): spread evenly over a cell in every coordinate and together."""
    golden = 2.0
    for _ in range(50):
        golden = (1 + golden) ** (1 / (D + 1))
    return np.arange(n)[:, None] * golden ** -np.arange(1, D + 1) % 1


def _fill(space: Space, step: float, origin: np.ndarray, seeds: np.ndarray) -> Nodes:
    """A lattice filled from the seeds (K, D), neighbour by neighbour."""
    half = 2 ** (BITS - 1)
    powers = 2 ** (BITS * np.arange(seeds.shape[1], dtype=np.int64))
    around = np.concatenate([powers, -powers])
    wanted = np.round(seeds / step - origin).astype(np.int64)
    wanted = wanted[(np.abs(wanted) < half - 2).all(axis=1)]
    front = np.unique((wanted + half) @ powers)
    known, top, parts = np.zeros(0, dtype=np.int64), -np.inf, []
    while len(front):
        cells = front[:, None] // powers % 2**BITS - half
        u = (cells + origin) * step
        gamma, density = space.at(u)
        parts.append((u, gamma, density))
        known = np.union1d(known, front)
        top = max(top, float(density.max()))
        if len(known) > MOST:
            raise UnsureError(f"more than {MOST:,} nodes")
        heavy = front[density > top - DROP]
        front = np.setdiff1d(np.unique(heavy[:, None] + around), known)
    u, gamma, density = (np.concatenate(own) for own in zip(*parts, strict=True))
    keep = density > top - DROP - 5
    return Nodes(u[keep], gamma[keep], density[keep])


def _scalars(space: Space, parts: list[Nodes]) -> dict[str, np.ndarray]:
    """Mean, sd, 5 and 95 % quantile of every scalar."""
    u, gamma, density = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("u", "gamma", "density")
    )
    weights, z = special.softmax(density), space.x(u)[:, : space.posterior.dimension]
    beta = space.posterior.model.coordinates.beta_to_user(gamma)
    found = {f"beta{k}": beta[:, k] for k in range(beta.shape[1])}
    found |= scalars_of(space.posterior.coordinates.theta(z).values)
    return {name: _summed(values, weights) for name, values in found.items()}


def _checked(model: Model, space: Space, nodes: Nodes) -> float:
    """Largest error of the log likelihood at some points of the posterior, by brute force."""
    some = np.random.default_rng(1).choice(len(nodes.u), CHECKED, p=special.softmax(nodes.density))
    z = space.x(nodes.u[some])[:, : space.posterior.dimension]
    return _off_at(model, space.posterior, nodes.gamma[some], z)
