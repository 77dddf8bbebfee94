"""REML and ML fits of a partially pooled design: optimum and its status, standard errors, BLUPs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hierpool.algebra.covariance_root import sd_and_corr
from hierpool.algebra.factorisation import Factorisation
from hierpool.algebra.identified import named, not_identified_text, usable
from hierpool.core.design import EXACT_FIT, Design, GroupDesign, exact_fit
from hierpool.core.errors import UnsupportedModelError
from hierpool.core.group_nouns import nouns
from hierpool.core.results import Estimate, FactorEstimate, Status
from hierpool.core.threads import one_blas_thread
from hierpool.reml.criterion import Criterion, Free, Method
from hierpool.reml.no_maximum import Valley, check_has_maximum
from hierpool.reml.residual_status import limits_text, told_apart_text
from hierpool.reml.starts import finite_values, first_looks, quasi_newton, starts, surveyed

SINGULAR = 1e-4  # relative sd, per sd of its column, below which a direction has no variance
SNAP_TO_BOUNDARY = 1e-2  # directions below this are tried at exactly zero
SNAP_GAIN = 1e-7  # deviance a direction of variance must buy to be kept off zero
LIMIT_GAIN = 1e-9  # deviance that a correlation at its limit must gain
GRADIENT_TOLERANCE = 1e-4  # largest gradient of the deviance (per unit theta) at an optimum
STOP_AT_SLOPE = (
    1e-3,
    1e-5,
)  # slopes that end quasi-Newton; the second where hardly a residual is left
NEARLY_EXACT = 1e-2  # share of the total sum of squares that is hardly a residual
LOOSE = 1.0  # standard error of sigma, of sigma, beyond which there is no half a df to tell it by
_NOISE = 400 * np.finfo(float).eps  # what rounding moves the deviance by, for each row
_TAKES_PART = 0.3  # share of a parameter in the flattest direction from which it is named
_NEWTON_STEPS = 25  # at most; the sixth and later ones where a slope of 1e-6 is left
SAME_HESSIAN_WITHIN = 1e-5  # moves of theta after which the Hessian is still the same
_AS_LOW = 0.05  # deviance above the best optimum from which a short search may still come lower
_FAR = 6.0  # free coordinate of a correlation beyond which its limit is tried
_LIMITS = np.array(
    [8.0, 12.0, 18.0]
)  # free coordinates that are tried there; 18: 1e-8 from the limit


@dataclass(frozen=True)
class Optimum:
    """Where the deviance is smallest, and how sure that is.

    Attributes
    ----------
    theta
        Shape (k,).
    deviance
        Profiled deviance in the user's coding.
    gradient
        Shape (k,): gradient there.
    hessian
        Shape (k, k), by differences of the analytic gradient.
    starts
        How many starts were used.
    ran_away
        Whether the deviance has no minimum: it kept falling as correlations went to 1.
    """

    theta: np.ndarray
    deviance: float
    gradient: np.ndarray
    hessian: np.ndarray
    starts: int
    ran_away: bool = False

    @property
    def is_doubtful(self) -> bool:
        """Whether gradient or curvature leave a doubt that this is a minimum."""
        if not np.isfinite(self.hessian).all():
            return True
        scale = max(1.0, float(np.abs(self.hessian).max(initial=0.0)))
        curvature = np.linalg.eigvalsh(self.hessian).min(initial=0.0)
        # A slope g at a curvature c means a deviance g^2 / 2c too high: g may grow with sqrt(c).
        steep = np.abs(self.gradient).max(initial=0.0) > GRADIENT_TOLERANCE * np.sqrt(scale)
        return bool(steep or curvature < -1e-4 * scale)


def estimate(design: Design, method: Method) -> Estimate:
    """REML or ML fit of a partially pooled design.

    Raises
    ------
    DataError
        The response is fitted exactly, so that no residual sd can be estimated; or an unstructured
        covariance has more freedom than its groups can tell.
    UnsupportedModelError
        Residual sds of groups that differ at random.
    """
    if design.scale_factor:
        raise UnsupportedModelError(
            f"{design.spec.shown} has residual sds that differ between {nouns(design.scale_factor)} at "
            "random, over which there is no REML: use model.ml() or model.fit()",
            "no-reml",
        )
    check_has_maximum(design, method)
    unknown = not_identified_text(design)
    criterion = Criterion.from_design(design, method)
    related = any(group.schema.related is not None for group in design.groups)
    threads = one_blas_thread() if related else nullcontext()
    with np.errstate(all="ignore"), threads:  # a response that is fitted exactly is refused below
        optimum = minimise(criterion)
        point = criterion.at(optimum.theta)
    sigma = 1.0
    if design.residual.has_sigma:
        sigma = float(np.sqrt(max(point.marginal.penalized_ss[0], 0.0) / criterion.df))
        if not sigma > EXACT_FIT * design.schema.response_scale.largest_sigma:
            raise exact_fit(design.schema, sigma)
    status = _status(criterion, optimum, design, unknown)
    spread = _spread_standard_errors(criterion, optimum, point, sigma)
    if status.word == "converged" and design.residual.has_sigma and not spread[-1] <= LOOSE * sigma:
        status = _hardly_identified(criterion, optimum, point, sigma, design)
    phi = criterion.phi(optimum.theta)
    if phi is not None and status.word in ("converged", "singular"):
        root = root_in_user_coding(criterion, optimum.theta) * sigma
        sds = np.sqrt(np.square(root).sum(axis=1))
        if alike := told_apart_text(design, phi, sds, spread[: len(sds)]):
            status = Status("not identified", f"{alike}. {usable(True)}")
    if status.word != "converged":
        spread = np.full_like(spread, np.nan)
    x, Q = criterion.coordinates.x, criterion.size
    beta = criterion.coordinates.beta_to_user(point.marginal.beta)[0]
    covariance = x.from_working @ point.marginal.beta_covariance[0] @ x.from_working.T
    return Estimate(
        method=method,
        beta=beta,
        beta_covariance=sigma**2 * covariance,
        sigma=sigma,
        sigma_se=spread[-1] if design.residual.has_sigma else np.nan,
        factors=_factors(criterion, optimum, point, design, beta, sigma, spread),
        fitted=design.observations.y - point.residuals(),
        loglik=-optimum.deviance / 2,
        n_parameters=criterion.moments.p + len(optimum.theta) + design.residual.has_sigma,
        relative_covariance_factor=point.Lambda,
        status=status,
        residual_parameters=phi,
        residual_se=(None if criterion.structure is None else spread[Q + Q * (Q - 1) // 2 : -1]),
    )


def minimise(criterion: Criterion) -> Optimum:
    """Smallest deviance: quasi-Newton from the best of a few scales, Newton steps to finish.

    A second and third start are used where gradient or curvature of the first optimum leave a
    doubt, or where it lies on the boundary; the best is kept. Correlations of residuals often have
    several optima: each of their starts is followed until it is seen to lead to the first optimum, and
    those that come lower to the end.
    """
    looks = first_looks(criterion)
    first, *others = starts(criterion, looks)
    best = _at_limits(criterion, _descend(criterion, first, starts=1))
    if best.ran_away:
        return best
    if criterion.structure is not None and criterion.structure.n_correlations:
        known = Valley(best.theta, best.deviance, best.hessian, criterion.moments.n)
        for end in surveyed(criterion, looks, known):
            if end.deviance < best.deviance + _AS_LOW:
                other = _at_limits(criterion, _descend(criterion, end.theta, starts=1))
                best = other if other.deviance < best.deviance - 1e-9 else best
        if best.ran_away:
            return best
    if best.is_doubtful or _smallest_direction(criterion, best.theta) < SNAP_TO_BOUNDARY:
        for i, start in enumerate(others):
            other = _at_limits(criterion, _descend(criterion, start, starts=i + 2))
            best = other if other.deviance < best.deviance - 1e-9 else best
    return _snapped(criterion, best)


def _at_limits(criterion: Criterion, optimum: Optimum) -> Optimum:
    """The optimum with correlations that run away to their limits taken there, if it is no worse.

    A search goes towards a limit in ever smaller steps, as the slope of a free coordinate vanishes.
    """
    s = criterion.structure
    n = 0 if s is None else s.n_correlations
    own = optimum.theta[criterion.n_free : criterion.n_free + n]
    best = optimum
    if optimum.ran_away:
        return optimum
    running = criterion.n_free + np.flatnonzero(np.abs(own) > _FAR)
    for at in [[k] for k in running] + ([list(running)] if len(running) > 1 else []):
        tried = np.repeat(best.theta[None], len(_LIMITS), axis=0)
        tried[:, at] *= np.maximum(_LIMITS / np.abs(best.theta[at]).max(), 1.0)[:, None]
        far = _descend(criterion, tried[np.argmin(finite_values(criterion, tried))], optimum.starts)
        best = far if far.deviance < best.deviance - LIMIT_GAIN else best
    return best


def _descend(criterion: Criterion, start: np.ndarray, starts: int) -> Optimum:
    theta = start
    # A slope of a hundred thousand groups buys less than rounding loses long before it is small: the
    # curvature is of the order of their number. Newton's steps go on by the slope alone.
    noise = _NOISE * criterion.df
    lost = float(np.sqrt(noise * criterion.algebra.n_random_effects))
    for slope in STOP_AT_SLOPE:
        end = quasi_newton(criterion, start, max(slope, lost))
        theta = end.theta
        if end.ran_away:
            value, gradient = criterion.value_and_gradient(theta)
            nothing = np.full((len(gradient),) * 2, np.nan)
            return Optimum(theta, value, gradient, nothing, starts, ran_away=True)
        left = criterion.population(theta[None]).penalized_ss[0]
        if left > NEARLY_EXACT * criterion.moments.yy:
            break
    value, gradient = criterion.value_and_gradient(theta)
    hessian, at = hessian_at(criterion, theta), theta
    for step in range(_NEWTON_STEPS):
        steep = np.abs(gradient).max(initial=0.0)
        if steep < (1e-9 if step < 5 else 1e-6) or not np.isfinite(hessian).all():
            break
        if np.abs(theta - at).max(initial=0.0) > SAME_HESSIAN_WITHIN:
            hessian, at = hessian_at(criterion, theta), theta
        eigenvalues, vectors = np.linalg.eigh(hessian)
        # Absolute values: a Newton step from a saddle would otherwise climb along its negative curvature.
        damped = np.maximum(np.abs(eigenvalues), 1e-6 * max(1.0, np.abs(eigenvalues).max()))
        trial = theta - vectors @ ((vectors.T @ gradient) / damped)
        trial_value, trial_gradient = criterion.value_and_gradient(trial)
        if not trial_value <= value + max(1e-9, noise) or (
            np.abs(trial_gradient).max() > np.abs(gradient).max()
        ):
            break
        theta, value, gradient = trial, trial_value, trial_gradient
    if np.abs(theta - at).max(initial=0.0) > SAME_HESSIAN_WITHIN:
        hessian = hessian_at(criterion, theta)
    return Optimum(theta, value, gradient, hessian, starts)


def hessian_at(criterion: Criterion, theta: np.ndarray) -> np.ndarray:
    """Hessian of the profiled deviance: central differences of the analytic gradient, shape (k, k)."""
    # Near the cube root of eps, where truncation h^2 and rounding eps / h of a difference balance.
    steps = 1e-5 * np.maximum(1.0, np.abs(theta))
    rows = []
    for i, h in enumerate(steps):
        shift = np.zeros_like(theta)
        shift[i] = h
        up = criterion.value_and_gradient(theta + shift)[1]
        down = criterion.value_and_gradient(theta - shift)[1]
        rows.append((up - down) / (2 * h))
    H = np.array(rows).reshape(len(theta), len(theta))
    return (H + H.T) / 2


def _smallest_direction(criterion: Criterion, theta: np.ndarray) -> float:
    """Smallest singular value of T: the relative sd of the direction that varies least."""
    return float(np.linalg.svd(criterion.matrix(theta), compute_uv=False).min(initial=np.inf))


def _snapped(criterion: Criterion, optimum: Optimum) -> Optimum:
    """The optimum with directions of negligible variance set to exactly zero, signs made positive."""
    best, theta = optimum, on_boundary(criterion, optimum.theta)
    if theta is not None:
        theta = np.concatenate([theta, optimum.theta[criterion.n_free :]])
        value, gradient = criterion.value_and_gradient(theta)
        # The deviance is even in an sd, so its slope is zero at the boundary and descent stops short of it:
        # the value there decides, not the gradient.
        if value <= optimum.deviance + SNAP_GAIN:
            best = Optimum(theta, value, gradient, hessian_at(criterion, theta), optimum.starts)
    positive = criterion.theta(lower_root(criterion.matrix(best.theta)), best.theta)
    return Optimum(positive, best.deviance, best.gradient, best.hessian, best.starts)


class HasRoot(Protocol):
    """A criterion with a root T of the relative covariance."""

    @property
    def free(self) -> Free:
        """The free entries of T."""

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        """T from its free entries."""

    def theta(self, T: np.ndarray) -> np.ndarray:
        """The free entries of T."""


def on_boundary(criterion: HasRoot, theta: np.ndarray) -> np.ndarray | None:
    """theta with directions of negligible variance set to exactly zero; None where there are none."""
    T = criterion.matrix(theta)
    # A direction, not an sd: a correlation of one is a singular value of zero with both sds positive.
    U, values, _ = np.linalg.svd(T)
    if values.min(initial=np.inf) >= SNAP_TO_BOUNDARY:
        return None
    is_diagonal = bool((criterion.free.rows == criterion.free.columns).all())
    if is_diagonal:
        flat = np.diag(np.where(np.abs(np.diag(T)) < SNAP_TO_BOUNDARY, 0.0, np.diag(T)))
    else:
        flat = lower_root(U * np.where(values < SNAP_TO_BOUNDARY, 0.0, values))
    return criterion.theta(flat)


def lower_root(root: np.ndarray) -> np.ndarray:
    """Lower triangular L with non-negative diagonal and L L' = root root', also where singular."""
    # QR and not Cholesky of the product: that fails where the matrix is singular, as it is here.
    R = np.linalg.qr(root.T, mode="r")
    signs = np.where(np.diag(R) < 0, -1.0, 1.0)
    return (R * signs[:, None]).T


def root_in_user_coding(criterion: Criterion, theta: np.ndarray) -> np.ndarray:
    """Shape (Q, Q): F with F F' = Sigma / sigma^2 in the user's coding, block diagonal."""
    return criterion.coordinates.u_from_working @ criterion.factor(theta)


def information_of(
    criterion: Criterion, hessian: np.ndarray, point: Factorisation, sigma: float
) -> np.ndarray:
    """Shape (k + 1, k + 1): Hessian of the deviance by (theta, log sigma) at an optimum.

    The deviance is log dets + df log(2 pi sigma^2) + r2 / sigma^2; ``hessian`` (k, k) is that of
    the profiled one. Of a known sigma the last row means nothing.
    """
    k, df = len(hessian), criterion.df
    _, by_ss = criterion.gradient_parts(point)
    ss = float(point.marginal.penalized_ss[0])
    information = np.empty((k + 1, k + 1))
    # the profiled Hessian has had the cross term squared away; put it back
    cross = -2 * by_ss / sigma**2
    profiled = np.outer(cross, cross) / (4 * ss / sigma**2) if criterion.has_sigma else 0.0
    information[:k, :k] = hessian + profiled
    information[k, :k] = information[:k, k] = cross
    # 4 r2 / sigma^2, and r2 = df sigma^2 at the optimum.
    information[k, k] = 4 * df
    return information


def _spread_standard_errors(
    criterion: Criterion, optimum: Optimum, point: Factorisation, sigma: float
) -> np.ndarray:
    """Standard errors of (sds, correlations below the diagonal, residuals, sigma), observed information.

    Sds and correlations of all factors side by side; the delta method takes the information to the
    user's coding.
    """
    k = len(optimum.theta)
    information = information_of(criterion, optimum.hessian, point, sigma)
    free = slice(None) if criterion.has_sigma else slice(k)
    covariance = np.zeros((k + 1, k + 1))
    try:
        # 2, as the deviance is twice the negative log-likelihood.
        covariance[free, free] = 2 * np.linalg.inv(information[free, free])
    except np.linalg.LinAlgError:
        covariance[free, free] = np.nan

    def reported(values: np.ndarray) -> np.ndarray:
        scale = np.exp(values[k])
        root = root_in_user_coding(criterion, values[:k]) * scale
        residual = residual_values(criterion, values[:k], scale)
        cov = root @ root.T
        sd = np.sqrt(np.diag(cov))
        low = np.tril_indices(len(sd), -1)
        with np.errstate(invalid="ignore", divide="ignore"):
            corr = (cov / np.outer(sd, sd))[low]
        return np.concatenate([sd, corr, residual, [scale]])

    here = np.append(optimum.theta, np.log(sigma))
    jacobian = np.array(
        [(reported(here + e) - reported(here - e)) / 2e-6 for e in 1e-6 * np.eye(k + 1)]
    ).T
    variance = np.einsum("ia,ab,ib->i", jacobian, covariance, jacobian)
    # Negative where the information is not positive definite: missing, not a number.
    return np.sqrt(np.where(variance >= 0, variance, np.nan))


def residual_values(criterion: Criterion, theta: np.ndarray, sigma: float) -> np.ndarray:
    """Shape (r,): what is reported of the structure of the residuals, one after the other."""
    phi = criterion.phi(theta)
    if criterion.structure is None or phi is None:
        return np.zeros(0)
    found = criterion.structure.reported(phi[None], np.array([sigma]))
    return np.concatenate([np.zeros(0), *(v.reshape(-1) for v in found.values())])


def _square(low: np.ndarray, q: int) -> np.ndarray:
    out = np.full((q, q), np.nan)
    out[np.tril_indices(q, -1)] = low
    return np.where(np.isnan(out), out.T, out)


def _hardly_identified(
    criterion: Criterion, optimum: Optimum, point: Factorisation, sigma: float, design: Design
) -> Status:
    """Status where all variances are identified in principle, but sigma hardly."""
    information = information_of(criterion, optimum.hessian, point, sigma)
    size = np.sqrt(np.abs(np.diag(information)))
    size[size == 0] = 1.0
    scaled = information / np.outer(size, size)
    flattest = np.abs(np.linalg.eigh(scaled)[1][:-1, 0])
    owner = np.searchsorted(
        [at.stop for at in design.group_columns], criterion.free.first_rows, "right"
    )
    takes_part = (flattest > _TAKES_PART * flattest.max())[: len(owner)]
    factors = np.unique(owner[takes_part]).tolist()
    if criterion.structure is not None and not factors:
        return Status(
            "not identified",
            "the parameters of the residuals can hardly be estimated separately: the residual sd has "
            f"a standard error larger than the residual sd itself. {usable(True)}",
        )
    return Status(
        "not identified",
        f"{named(design, True, factors)} can hardly be estimated separately: the residual sd has "
        f"a standard error larger than the residual sd itself. {usable(True)}",
    )


def _status(criterion: Criterion, optimum: Optimum, design: Design, unknown: str) -> Status:
    if unknown:
        return Status("not identified", unknown)
    T = criterion.matrix(optimum.theta)
    if optimum.ran_away:
        return Status(
            "failed",
            f"the {criterion.method} likelihood grows without bound as correlations of the residuals "
            "go to 1: too few groups are seen at the same occasions for so many parameters. toeph, ar1h "
            "and ar1 have fewer.",
        )
    if optimum.is_doubtful or not np.isfinite(optimum.deviance):
        steep = float(np.abs(optimum.gradient).max(initial=0.0))
        more = ""
        if criterion.structure is not None:
            more = (
                " The likelihood may have no maximum; ar1h or toeph has fewer parameters than us."
            )
        return Status(
            "failed",
            f"the search for the {criterion.method} optimum did not converge in {optimum.starts} "
            f"start(s): the largest slope of the criterion at its end is {steep:.2g}.{more}",
        )
    own = zip(design.groups, design.group_columns, strict=True)
    said = [text for group, at in own if (text := singular_text(T[at, at], group))]
    phi = criterion.phi(optimum.theta)
    if criterion.structure is not None and phi is not None:
        said += filter(None, [limits_text(criterion.structure, phi)])
    if not said:
        return Status("converged", f"the {criterion.method} optimum is not on the boundary.")
    return Status(
        "singular", f"the {criterion.method} optimum is on the boundary: {' and '.join(said)}."
    )


def singular_text(T: np.ndarray, group: GroupDesign) -> str:
    """What does not vary over the levels of one factor; empty where everything does."""
    if np.linalg.svd(T, compute_uv=False).min(initial=np.inf) >= SINGULAR:
        return ""
    spread = np.sqrt((T**2).sum(axis=1))
    zero = [t for t, s in zip(group.terms, spread, strict=True) if s < SINGULAR]
    if zero:
        names = " and ".join(zero)
        return f"the sd of {names} between {nouns(group.factor)} is estimated as zero"
    if len(group.terms) == 2:
        terms = " and ".join(group.terms)
        return f"the correlation of {terms} over {group.factor} is estimated as +-1"
    return (
        f"some combination of {', '.join(group.terms)} does not vary between {nouns(group.factor)}"
    )


def _factors(
    criterion: Criterion,
    optimum: Optimum,
    point: Factorisation,
    design: Design,
    beta: np.ndarray,
    sigma: float,
    spread: np.ndarray,
) -> tuple[FactorEstimate, ...]:
    """Sds, correlations, BLUPs and their variances of every factor, in the user's coding.

    ``spread`` holds the standard errors of all factors' sds, correlations and of sigma.
    """
    coordinates, Q = criterion.coordinates, criterion.size
    root = root_in_user_coding(criterion, optimum.theta) * sigma
    corr_se = _square(spread[Q : Q + Q * (Q - 1) // 2], Q)
    beta_covariance = point.marginal.beta_covariance[0]
    out = []
    parts = zip(design.groups, design.group_columns, coordinates.zs, point.levels(), strict=True)
    for group, at, z, levels in parts:
        sd, corr = sd_and_corr(root[at, at], undefined=np.nan)
        index = group.population
        into = np.zeros((len(group.terms), criterion.moments.p))
        into[index >= 0, index[index >= 0]] = 1.0
        # in working coordinates: coefficients beta + u in the user's coding, pulled back through Z
        own = z.to_working @ into @ coordinates.x.from_working - levels.sensitivity
        W = levels.sensitivity
        error = levels.conditional + W @ beta_covariance @ np.swapaxes(W, -1, -2)
        whole = levels.conditional + own @ beta_covariance @ np.swapaxes(own, -1, -2)
        u = levels.u @ z.from_working.T
        conditional, error, whole = (
            sigma**2 * z.from_working @ v @ z.from_working.T
            for v in (levels.conditional, error, whole)
        )
        out.append(
            FactorEstimate(
                factor=group.factor,
                sd=sd,
                sd_se=spread[at],
                corr=corr,
                corr_se=corr_se[at, at],
                u=u,
                coef=np.where(index >= 0, np.append(beta, 0.0)[index], 0.0) + u,
                u_pev=error,
                u_condvar=conditional,
                coef_covariance=whole,
            )
        )
    return tuple(out)
