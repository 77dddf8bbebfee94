"""The posterior of a small table by dense quadrature, to judge the exact engine of families by.

Theta (through the cdfs of its priors, z) and the coefficients are integrated on a lattice, the
coefficients in units of a Laplace approximation at each z; where the mass is, is found on a coarse
lattice first. The levels' effects are those of the engine's finer grid: ``brute_force`` does them
anew, with densities from scipy and some thousand nodes a level, at any values of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import interpolate, ndimage, optimize, special, stats

from hierpool.bayes.quadrature.target import FamilyPosterior
from hierpool.model import Model

STEP_Z, STEP_Z_IN_SDS = 0.5, 0.75  # the smaller of the two, the latter in posterior sds
STEP_E = {1: 0.5, 2: 0.75}  # by the number of coefficients
PASSES, FINER_Z = 8, 4  # refinements of the steps of z, and by how much each at most
FINER_E = 5  # nodes in place of one where quantiles are taken, interpolated
REACH_Z, REACH_E = 6.5, 9.0
DROP = 12.0  # log density below its top from which nothing counts
DROP_LAPLACE = 18.0  # the same of a Laplace approximation, by which places are chosen
CHECKED = 4  # points at which the likelihood is done again by brute force
LINE = 1001  # nodes on which a marginal of one z is interpolated
AS_SPREAD = (
    "shape",
    "precision",
)  # parameters given as 1 / sqrt, which is near zero without spread


@dataclass(frozen=True)
class Right:
    """What quadrature says.

    Attributes
    ----------
    evidence
        Log marginal likelihood.
    scalars
        Mean, sd, 5 and 95 % quantile by quantity.
    off
        Largest error of the log likelihood at some points of the posterior, by brute force.
    """

    evidence: float
    scalars: dict[str, np.ndarray]
    off: float


def dense(model: Model) -> Right:
    """The posterior by quadrature over theta and the coefficients."""
    posterior = FamilyPosterior.from_design(model.design, model.priors)
    step, at = _places(posterior)
    z, p = at * step, posterior.model.n_gamma
    conditional = Coefficients(posterior, z)
    values = conditional.log_density()
    total = special.logsumexp(values)
    mass = np.exp(values - total).reshape(len(z), -1)
    gammas, weights, owners = conditional.interpolated(values)
    beta = posterior.model.coordinates.beta_to_user(gammas)
    scalars = {f"beta{k}": _summed(beta[:, k], weights) for k in range(p)}
    scalars |= _of_theta(posterior, at, step, mass.sum(axis=1))
    some = np.random.default_rng(1).choice(len(weights), CHECKED, p=weights)
    off = _off_at(model, posterior, gammas[some], z[owners[some]])
    return Right(float(total + np.log(step.prod() * STEP_E[p] ** p)), scalars, off)


def _off_at(model: Model, posterior: FamilyPosterior, gamma: np.ndarray, z: np.ndarray) -> float:
    """Largest error of the log likelihood of the finer grid at some points."""
    theta, working = posterior.theta(z)
    found = posterior.model.log_density(gamma, working, finer=True)
    par = {name: theta.values[name] for name in model.design.family.parameters}
    if "thresholds" in theta.values:
        par["thresholds"] = theta.values["thresholds"]
    beta = posterior.model.coordinates.beta_to_user(gamma)
    sd = np.asarray(theta.values["sd_g"])
    if sd.shape[1] == 2:
        root = theta.values.get("corr_chol_g")
        rho = np.zeros(len(sd)) if root is None else np.asarray(root)[:, 1, 0]
        again = brute_force_two(model, beta, sd, rho, par)
    else:
        again = brute_force(model, beta, sd[:, 0], par)
    return float(np.abs(found - again).max())


def _places(posterior: FamilyPosterior) -> tuple[np.ndarray, np.ndarray]:
    """Steps of z (d,), and in whole numbers of them where there is mass (K, d)."""
    d = posterior.dimension
    step = np.full(d, STEP_Z)
    at = _lattice(np.arange(-round(REACH_Z / STEP_Z), round(REACH_Z / STEP_Z) + 1), d)
    log_density = _laplace_density(posterior, at * step)
    for _ in range(PASSES):
        mass = np.exp(log_density - log_density.max())
        mean, second = ((mass @ (at * step) ** k) / mass.sum() for k in (1, 2))
        sd = np.sqrt(np.maximum(second - mean**2, 0.0))
        # Between two nodes an sd is not seen: step by step.
        by = np.clip(np.ceil(step / (STEP_Z_IN_SDS * sd + 1e-9)), 1, FINER_Z).astype(int)
        heavy, step = at[log_density > log_density.max() - DROP_LAPLACE] * by, step / by
        around = np.stack(np.meshgrid(*[np.arange(-b, b + 1) for b in by], indexing="ij"), -1)
        at = np.unique((heavy[:, None] + around.reshape(-1, d)).reshape(-1, d), axis=0)
        log_density = _laplace_density(posterior, at * step)
        if (by == 1).all():
            break
    return step, at[log_density > log_density.max() - DROP_LAPLACE]


def _lattice(axis: np.ndarray, d: int) -> np.ndarray:
    return np.stack(np.meshgrid(*[axis] * d, indexing="ij"), -1).reshape(-1, d)


def _laplace_density(posterior: FamilyPosterior, z: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        found = posterior.laplace(z).log_density - 0.5 * (z**2).sum(axis=1)
    return np.where(np.isfinite(found), found, -np.inf)


class Coefficients:
    """The coefficients at each z (K, d), on one lattice in units of their Laplace approximation."""

    def __init__(self, posterior: FamilyPosterior, z: np.ndarray) -> None:
        self.posterior, self.z, self.laplace = posterior, z, posterior.laplace(z)
        self.p = posterior.model.n_gamma
        self.step = STEP_E[self.p]
        most = 2 * round(REACH_E / self.step / 2)
        self.axis = np.arange(-most, most + 1)

    def log_density(self) -> np.ndarray:
        """Shape (K, n, ...): of z and e, and the data; very low where nothing counts."""
        steps = _lattice(self.axis, self.p)
        shape = (len(self.z), *[len(self.axis)] * self.p)
        coarse = np.flatnonzero((steps % 2 == 0).all(axis=1))
        own = np.repeat(np.arange(len(self.z)), len(coarse))
        seen = np.full((len(self.z), len(steps)), -np.inf)
        seen[own, np.tile(coarse, len(self.z))] = self._at(own, steps[np.tile(coarse, len(self.z))])
        heavy = (seen > seen.max() - DROP).reshape(shape)
        near = ndimage.binary_dilation(heavy, np.ones((1, *[3] * self.p))).reshape(seen.shape)
        own, place = np.nonzero(near & np.isinf(seen))
        seen[own, place] = self._at(own, steps[place])
        return np.maximum(seen, seen.max() - DROP - 8).reshape(shape)

    def _gamma(self, own: np.ndarray, place: np.ndarray) -> np.ndarray:
        root = np.swapaxes(self.laplace.root, 1, 2)
        spread = np.linalg.inv(root)[own]
        return self.laplace.gamma[own] + np.einsum("kab,kb->ka", spread, place * self.step)

    def _at(self, own: np.ndarray, place: np.ndarray) -> np.ndarray:
        gamma, z = self._gamma(own, place), self.z[own]
        with np.errstate(all="ignore"):
            theta = self.posterior.theta(z)[1]
            density = self.posterior.model.log_density(gamma, theta, finer=True)
            density = density + self.posterior.log_prior(gamma)
        density -= np.log(np.diagonal(self.laplace.root, axis1=1, axis2=2)).sum(axis=1)[own]
        density -= 0.5 * (z**2).sum(axis=1) + 0.5 * z.shape[1] * np.log(2 * np.pi)
        return np.where(np.isfinite(density), density, -np.inf)

    def interpolated(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients on a finer lattice, their weights, and which z each belongs to."""
        fine = np.linspace(self.axis[0], self.axis[-1], FINER_E * (len(self.axis) - 1) + 1)
        for k in range(self.p):
            values = interpolate.CubicSpline(self.axis, values, axis=1 + k)(fine)
        values = values.reshape(len(self.z), -1)
        own, place = np.nonzero(values > values.max() - DROP)
        weights = np.exp(values[own, place] - values.max())
        gamma = self._gamma(own, _lattice(fine, self.p)[place])
        return gamma, weights / weights.sum(), own


def _of_theta(
    posterior: FamilyPosterior, at: np.ndarray, step: np.ndarray, mass: np.ndarray
) -> dict[str, np.ndarray]:
    """Marginals of the scalars of theta, each of which is a function of one z."""
    out = {}
    for c in range(at.shape[1]):
        low, high = at[:, c].min(), at[:, c].max()
        marginal = np.bincount(at[:, c] - low, mass, high - low + 1)
        nodes = np.arange(low, high + 1) * step[c]
        log_marginal = np.log(np.maximum(marginal, 1e-12))
        line = np.zeros((LINE, at.shape[1]))
        line[:, c] = np.linspace(nodes[0], nodes[-1], LINE)
        weights = np.exp(interpolate.CubicSpline(nodes, log_marginal)(line[:, c]))
        for name, values in scalars_of(posterior.coordinates.theta(line).values).items():
            if np.ptp(values) > 0:
                out[name] = _summed(values, weights / weights.sum())
    return out


def scalars_of(theta: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scalars of theta by name, spreads in place of shapes."""
    out = {}
    for name, values in theta.items():
        found = np.asarray(values).reshape(len(values), -1)
        if name.startswith("corr_"):  # of two effects: the matrix, or its root, has it below the 1
            name, found = name.replace("chol_", ""), found[:, 2:3]
        for k, column in enumerate(found.T):
            own = f"{name}[{k}]" if found.shape[1] > 1 else name
            out[own] = column**-0.5 if name in AS_SPREAD else column
    return out


def _summed(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean = weights @ values
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(weights[order]) - weights[order] / 2  # half of a node's mass lies on each side
    low, high = np.interp([0.05, 0.95], upto, values[order])
    return np.array([mean, np.sqrt(weights @ (values - mean) ** 2), low, high])


def brute_force(
    model: Model, beta: np.ndarray, sd: np.ndarray, par: dict[str, np.ndarray]
) -> np.ndarray:
    """Shape (K,): log p(y | parameters) at parameters in the user's coding (K, ...)."""
    design = model.design
    group = design.groups[0].grouping
    eta = design.X @ beta.T + np.reshape(design.offset, (-1, 1))  # (n, K)
    total = np.zeros(len(beta))
    for level in range(group.n_levels):
        rows = group.codes == level

        def log_joint(v: np.ndarray, rows: np.ndarray = rows) -> np.ndarray:  # v (K, M)
            linear = eta[rows][:, :, None] + sd[:, None] * v
            trials = None if design.trials is None else design.trials[rows][:, None, None]
            y = design.y[rows][:, None, None]
            given = {name: np.asarray(values)[:, None] for name, values in par.items()}
            with np.errstate(all="ignore"):
                own = _log_pmf(design.family.name, y, linear, trials, given).sum(axis=0)
            return np.where(np.isnan(own), -np.inf, own) - 0.5 * v**2 - 0.5 * np.log(2 * np.pi)

        total += _integrated(log_joint, len(beta), 20_001 if "nu" in par else 1_001)
    return total


def brute_force_two(
    model: Model, beta: np.ndarray, sd: np.ndarray, rho: np.ndarray, par: dict[str, np.ndarray]
) -> np.ndarray:
    """Shape (K,): the same with an intercept and a slope a group, sd (K, 2) and correlation (K,)."""
    design = model.design
    group, Z = design.groups[0].grouping, design.groups[0].Z
    eta = design.X @ beta.T + np.reshape(design.offset, (-1, 1))
    total = np.zeros(len(beta))
    for level in range(group.n_levels):
        rows = np.flatnonzero(group.codes == level)
        trials = None if design.trials is None else design.trials[rows][:, None]
        for k in range(len(beta)):
            given = {name: values[k] for name, values in par.items()}
            root = sd[k, :, None] * np.array([[1, 0], [rho[k], np.sqrt(1 - rho[k] ** 2)]])

            def log_pmf(
                u: np.ndarray, own: np.ndarray = rows, at: np.ndarray = eta[rows, k],
                m: np.ndarray | None = trials, given: dict = given,
            ) -> np.ndarray:  # fmt: skip
                linear = at[:, None] + Z[own] @ u
                return _log_pmf(design.family.name, design.y[own][:, None], linear, m, given)

            def log_joint(
                v: np.ndarray, root: np.ndarray = root, of: Callable = log_pmf
            ) -> np.ndarray:
                with np.errstate(all="ignore"):
                    own = of(root @ v)  # v (2, M)
                own = np.where(np.isnan(own), -np.inf, own).sum(axis=0)
                return own - 0.5 * (v**2).sum(axis=0) - np.log(2 * np.pi)

            total[k] += _integrated_in_plane(log_joint)
    return total


def _integrated_in_plane(log_joint: Callable[[np.ndarray], np.ndarray]) -> float:
    """Log of an integral over two variables: one mode, nodes in units of the curvature there."""
    v = np.zeros(2)
    for _ in range(3):
        v = optimize.minimize(lambda x: -log_joint(x[:, None])[0], v, method="Nelder-Mead").x
    h, at = 1e-4, np.array([[1, 1], [1, -1], [-1, 1], [-1, -1], [2, 0], [-2, 0], [0, 2], [0, -2]])
    g, top = log_joint(v[:, None] + h * at.T), log_joint(v[:, None])[0]
    mixed = (g[0] - g[1] - g[2] + g[3]) / (4 * h * h)
    own = (g[4::2] + g[5::2] - 2 * top) / (4 * h * h)
    root = np.linalg.cholesky(np.linalg.inv(-np.array([[own[0], mixed], [mixed, own[1]]])))
    axis = np.linspace(-20, 20, 401)
    nodes = v[:, None] + root @ _lattice(axis, 2).T
    found = special.logsumexp(log_joint(nodes)) + 2 * np.log(axis[1] - axis[0])
    return float(found + np.log(np.diag(root)).sum())


def _integrated(log_joint: object, n: int, nodes: int) -> np.ndarray:
    """Log of an integral over v, on nodes that close in on where the integrand is."""
    low, high = np.full(n, -14.0), np.full(n, 14.0)
    for _ in range(5):
        v = np.linspace(low, high, 201, axis=1)
        g = log_joint(v)
        near = g > g.max(axis=1, keepdims=True) - 35
        first, last = near.argmax(axis=1), 200 - near[:, ::-1].argmax(axis=1)
        rows = np.arange(n)
        low, high = v[rows, np.maximum(first - 1, 0)], v[rows, np.minimum(last + 1, 200)]
    v = np.linspace(low, high, nodes, axis=1)
    return special.logsumexp(log_joint(v), axis=1) + np.log((high - low) / (nodes - 1))


def _log_pmf(
    family: str, y: np.ndarray, eta: np.ndarray, trials: np.ndarray | None, par: dict
) -> np.ndarray:
    if family in ("bernoulli", "binomial"):
        m = 1 if trials is None else trials
        size = special.gammaln(m + 1) - special.gammaln(y + 1) - special.gammaln(m - y + 1)
        return size - y * np.logaddexp(0, -eta) - (m - y) * np.logaddexp(0, eta)
    mean = np.exp(np.minimum(eta, 300.0))
    if family == "poisson":
        return y * eta - mean - special.gammaln(y + 1)
    if family == "negbinomial":
        a = par["shape"]
        size = special.gammaln(y + a) - special.gammaln(a) - special.gammaln(y + 1)
        log_total = np.logaddexp(np.log(a), eta)
        return size + a * (np.log(a) - log_total) + y * (eta - log_total)
    if family == "student":
        return stats.t.logpdf(y, par["nu"], eta, par["sigma"])
    if family == "ordinal":
        ends = np.full((*par["thresholds"].shape[:-1], 1), np.inf)
        cuts = np.concatenate([-ends, par["thresholds"], ends], axis=-1)
        below, above = (np.stack([cuts[..., int(c) + k] for c in y.ravel()]) - eta for k in (0, 1))
        narrow = np.log1p(-np.exp(below - above))
        return special.log_expit(above) + special.log_expit(-below) + narrow
    if family == "gamma":
        return stats.gamma.logpdf(y, par["shape"], scale=mean / par["shape"])
    if family == "beta":
        p, phi = special.expit(eta), par["precision"]
        return stats.beta.logpdf(y, p * phi, (1 - p) * phi)
    if family == "zero_inflated_poisson":
        zero, count = par["zero_inflation"], y * eta - mean - special.gammaln(y + 1)
        return np.where(y == 0, np.log(zero + (1 - zero) * np.exp(-mean)), np.log1p(-zero) + count)
    raise NotImplementedError(family)
