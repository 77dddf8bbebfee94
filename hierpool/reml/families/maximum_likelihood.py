"""Maximum likelihood of a response that is not Gaussian: estimates, standard errors, modes, status."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from hierpool.algebra.choose import at_working_rows
from hierpool.algebra.covariance_root import sd_and_corr
from hierpool.algebra.quadrature.laplace import Laplace, Start
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import UnsupportedModelError, listed
from hierpool.core.group_nouns import nouns
from hierpool.core.results import Estimate, FactorEstimate, FamilyEstimate, Status
from hierpool.reml.estimate import SINGULAR, singular_text
from hierpool.reml.families import search, separation
from hierpool.reml.families.criterion import FamilyCriterion
from hierpool.reml.families.glm import Glm, GlmRows, maximise
from hierpool.reml.families.own_lines import no_pooling
from hierpool.reml.families.parameters import FamilyParameters
from hierpool.reml.families.search import Maximum

MOST_OTHERS = 600  # coefficients of all factors but the largest, beyond which Laplace is too slow
STEP = 1e-4  # of the free numbers, in differences of the modes
_FLAT = 1e-7  # curvature, of the largest, below which a direction is not identified
_POSTERIOR = "model.fit() has a posterior under its priors"


def maximum_likelihood(design: Design) -> Estimate:
    """ML fit of a design with a family.

    Raises
    ------
    UnsupportedModelError
        Several factors that are too large, related groups, or ratings without pooling.
    """
    if design.schema.is_only_sampled:
        assert design.family is not None
        raise UnsupportedModelError(
            f"{design.spec.formula}: relationship= beside family={design.family.name!r} has no maximum "
            "likelihood here, since related groups cannot be integrated one by one. model.fit() has the "
            "posterior, by NUTS",
            "relationship-unsupported",
        )
    if design.spec.pooling == "none":
        return no_pooling(design)
    rows, found = complete(design)
    runs = separation.direction(rows, found)
    if runs is not None:
        return _separated(design, rows, found, runs)
    if not design.groups:
        return _without_groups(design, found)
    criterion = FamilyCriterion.from_design(design)
    if criterion.model.rows.others.n_effects > MOST_OTHERS:
        sizes = listed(f"{g.factor} ({g.grouping.n_levels})" for g in design.groups)
        raise UnsupportedModelError(
            f"{design.spec.formula} has several large factors ({sizes}), too many for maximum "
            f"likelihood of family={rows.family.name!r}. Use model.fit(), or leave all but one of the "
            "large factors out",
            "too-large-for-ml",
        )
    best = search.maximise(criterion, found.coefficients, found.free)
    return _estimate(criterion, best)


def complete(design: Design) -> tuple[GlmRows, Glm]:
    """The model without groups, in working coordinates."""
    assert design.family is not None
    x = design.schema.coding
    A = sparse.csr_array(x.work(design.observations.X))
    rows = rows_of(design, A)
    parameters = FamilyParameters(design.family)
    centre = 0.0 if design.family.has_thresholds else design.schema.response_scale.mean
    start = x.to_working @ x.constant * centre if len(x.constant) else np.zeros(0)
    return rows, maximise(rows, start, parameters.start(design))


def rows_of(design: Design, columns: sparse.csr_array) -> GlmRows:
    """Rows of a design with these columns."""
    assert design.family is not None
    y = np.asarray(design.observations.y, dtype=float)
    offset = np.zeros(len(y)) + design.offset
    return GlmRows(design.family, y, design.trials, design.likelihood_weights, offset, columns)


def _separated(design: Design, rows: GlmRows, found: Glm, runs: np.ndarray) -> Estimate:
    """What is left where coefficients run to infinity: they are NaN, and the status names them."""
    estimate = _without_groups(design, found)
    p = len(design.terms)
    x = design.schema.coding
    user = x.from_working @ runs[:p]
    away = np.abs(user * x.scales) > 1e-6 * np.abs(user * x.scales).max(initial=0.0)
    names = [t for t, far in zip(design.terms, away, strict=True) if far]
    far_par = runs[p:] != 0
    names += [n for n, far in zip(FamilyParameters(rows.family).names, far_par, strict=True) if far]
    beta = np.where(away, np.nan, estimate.beta)
    covariance = np.where(away[:, None] | away, np.nan, estimate.beta_covariance)
    verb = "runs" if len(names) == 1 else "run"
    said = (
        f"separation: {listed(names, most=6)} {verb} to infinity, since the likelihood grows "
        f"without end along the way; {_POSTERIOR}"
    )
    factors = tuple(_unknown(group) for group in design.groups)
    return replace(
        estimate,
        beta=beta,
        beta_covariance=covariance,
        status=Status("failed", f"{said}."),
        factors=factors,
    )


def _unknown(group: GroupDesign) -> FactorEstimate:
    """A factor of which nothing is known."""
    q, J = len(group.terms), group.grouping.n_levels
    nan = np.full
    return FactorEstimate(
        group.factor,
        *(nan(q, np.nan), nan(q, np.nan), nan((q, q), np.nan), nan((q, q), np.nan)),
        *(nan((J, q), np.nan), nan((J, q), np.nan)),
        *(nan((J, q, q), np.nan), nan((J, q, q), np.nan), nan((J, q, q), np.nan)),
    )


def _without_groups(design: Design, found: Glm) -> Estimate:
    """The estimate of complete pooling."""
    assert design.family is not None
    x, p = design.schema.coding, len(design.terms)
    parameters = FamilyParameters(design.family)
    par = parameters.par(found.free)
    limits = parameters.at_limit(par)
    information = found.information.toarray()
    covariance = inverse(information, [p + k for k, _ in limits])
    beta_by, par_by = reported(design, parameters, found.free, p, 0)
    se = np.sqrt(np.maximum(np.einsum("pd,de,pe->p", par_by, covariance, par_by), 0.0))
    se[[k for k, _ in limits]] = np.nan
    beta = x.from_working @ found.coefficients
    none = sparse.csr_array((len(found.eta), 0))
    slope = rows_of(design, none).derivatives(found.eta, found.free)[0]
    own = FamilyEstimate(
        tuple(parameters.names),
        se,
        par,
        found.eta,
        slope,
        found.curvature,
        covariance,
        beta_by,
        par_by,
        (),
        np.nan,
    )
    sentence = "maximum likelihood on all rows, one line for all groups."
    status = (
        Status("converged", sentence)
        if found.ended
        else Status("failed", "the search did not converge.")
    )
    if limits:
        status = Status("singular", f"{_limit_text(parameters, limits)}.")
    return Estimate(
        method="ML",
        beta=beta,
        beta_covariance=beta_by @ covariance @ beta_by.T,
        sigma=1.0,
        sigma_se=np.nan,
        factors=(),
        fitted=_fitted(design, found.eta, par),
        loglik=found.loglik,
        n_parameters=p + parameters.size,
        relative_covariance_factor=np.zeros((0, 0)),
        status=status,
        par=_moved(design, par, beta),
        threshold_covariance=_with_thresholds(design, own),
        family=own,
    )


def inverse(information: np.ndarray, held: list[int]) -> np.ndarray:
    """Inverse of an information (D, D), zero for what is held; NaN where it has none."""
    out = np.zeros_like(information)
    free = np.setdiff1d(np.arange(len(information)), held)
    block = information[np.ix_(free, free)]
    size = np.sqrt(np.abs(np.diag(block)))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(block / np.outer(size, size))
    if (values <= 0).any():
        out[np.ix_(free, free)] = np.nan
        return out
    root = vectors / np.sqrt(values) / size[:, None]
    out[np.ix_(free, free)] = root @ root.T
    return out


def reported(
    design: Design, parameters: FamilyParameters, free: np.ndarray, p: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of beta (p, D) and of the parameters (P, D) in the user's coding by the free numbers."""
    x, P = design.schema.coding, parameters.size
    beta_by = np.hstack([x.from_working, np.zeros((p, k + P))])
    par_by = np.hstack([np.zeros((P, p + k)), parameters.jacobian(free) if P else np.zeros((0, 0))])
    if parameters.family.has_thresholds:
        par_by = par_by + x.means @ beta_by
    return beta_by, par_by


def _moved(design: Design, par: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Parameters in the user's coding: thresholds where all predictors are 0."""
    assert design.family is not None
    if not design.family.has_thresholds:
        return par
    return par + float(beta @ design.schema.coding.means)


def _with_thresholds(design: Design, own: FamilyEstimate) -> np.ndarray | None:
    """Shape (p + C - 1, p + C - 1): covariance of the coefficients and the thresholds of ratings."""
    assert design.family is not None
    if not design.family.has_thresholds:
        return None
    both = np.vstack([own.beta_by, own.par_by])
    return np.asarray(both @ own.covariance @ both.T)


def _fitted(design: Design, eta: np.ndarray, par: np.ndarray) -> np.ndarray:
    """Shape (n,): expected response of each row, per trial."""
    assert design.family is not None
    return np.asarray(design.family.mean(eta[None], par[None])[0])


def _limit_text(parameters: FamilyParameters, limits: list[tuple[int, str]]) -> str:
    return "; ".join(
        f"the {parameters.names[k]} runs to its limit, where {text}" for k, text in limits
    )


def _estimate(c: FamilyCriterion, best: Maximum) -> Estimate:
    """Everything that a maximum says, in the user's coding."""
    design, x, p, at = c.design, best.x, c.p, c.spread
    theta, free = x[at], x[at.stop :]
    par = c.parameters.par(free)
    limits = c.parameters.at_limit(par)
    T = c.matrix(theta)
    singular = [
        text
        for group, own in zip(design.groups, design.group_columns, strict=True)
        if (text := singular_text(T[own, own], group))
    ]
    held = [at.stop + k for k, _ in limits]
    if singular:  # those variances count as known
        whole = not np.allclose(theta[np.abs(theta) < SINGULAR], 0.0) or bool(np.tril(T, -1).any())
        held += (
            list(range(at.start, at.stop))
            if whole
            else [p + int(k) for k in np.flatnonzero(np.abs(theta) < SINGULAR)]
        )
    covariance = inverse(-best.hessian, held)
    beta = c.model.coordinates.beta_to_user(x[:p])
    beta_by, par_by = reported(design, c.parameters, free, p, c.k)
    modes = c.laplace(x)
    modes_by = _modes_by(c, x, modes)
    spread_se = _spread_se(c, x, covariance, bool(singular))
    par_se = np.sqrt(np.maximum(np.einsum("pd,de,pe->p", par_by, covariance, par_by), 0.0))
    par_se[[k for k, _ in limits]] = np.nan
    eta, slope, curvature = _at_modes(c, x, modes)
    laplace = float(modes.log_density[0])
    own = FamilyEstimate(
        tuple(c.parameters.names),
        par_se,
        par,
        eta,
        slope,
        curvature,
        covariance,
        beta_by,
        par_by,
        modes_by,
        laplace,
        _root_by(c),
    )
    of_largest = np.nan if c.by_quadrature else c.gap_of_largest(x, modes)
    status = _status(c, best, singular, limits, laplace, of_largest)
    Lambda = c.basis @ T
    estimate = Estimate(
        method="ML",
        beta=beta,
        beta_covariance=beta_by @ covariance @ beta_by.T,
        sigma=1.0,
        sigma_se=np.nan,
        factors=(),
        fitted=_fitted(design, eta, par),
        loglik=best.value,
        n_parameters=c.size,
        relative_covariance_factor=Lambda,
        status=status,
        par=_moved(design, par, beta),
        threshold_covariance=_with_thresholds(design, own),
        family=own,
    )
    return replace(estimate, factors=_factors(c, estimate, modes, spread_se))


def _status(
    c: FamilyCriterion,
    best: Maximum,
    singular: list[str],
    limits: list[tuple[int, str]],
    laplace: float,
    of_largest: float,
) -> Status:
    """Whether to trust it, and what the Laplace approximation would have done."""
    far = np.abs(best.x[c.spread]).max(initial=0.0) > search.FAR
    scale = c.design.schema.response_scale.sd if _on_scale(c) else 1.0
    if far and scale == 1.0:
        names = nouns(c.design.groups[c.model.integrated].factor)
        return Status(
            "failed",
            f"the sd between {names} runs to infinity: the responses within a group are all alike; "
            f"{_POSTERIOR}.",
        )
    if not best.ended or not np.isfinite(best.value):
        return Status(
            "failed",
            f"the search for the maximum of the likelihood did not converge; {_POSTERIOR}.",
        )
    if c.by_quadrature:
        gap = laplace - best.value
        how = (
            "maximum likelihood by quadrature. The Laplace approximation of the log-likelihood is "
            f"{_off(gap)}"
        )
    else:
        how = (
            f"maximum of the Laplace approximation of the likelihood. {_partly_off(c, of_largest)}"
        )
    said = singular + ([_limit_text(c.parameters, limits)] if limits else [])
    if said:
        return Status(
            "singular",
            f"the ML optimum is on the boundary: {' and '.join(said)}. {how[0].upper()}{how[1:]}.",
        )
    values = np.linalg.eigvalsh(-best.hessian)
    if values.min() < _FLAT * values.max():
        return Status(
            "not identified",
            f"the likelihood is flat along some combination of parameters, so that their standard errors "
            f"mean nothing; {_POSTERIOR}.",
        )
    return Status("converged", f"{how}.")


def _on_scale(c: FamilyCriterion) -> bool:
    return c.parameters.family.is_on_response_scale


def _partly_off(c: FamilyCriterion, gap: float) -> str:
    """What is known of the error where quadrature does not take all factors."""
    largest = c.design.groups[c.model.integrated].factor
    if not np.isfinite(gap):
        return "Its error is not known here; model.fit() does without"
    rest = listed(
        [g.factor for k, g in enumerate(c.design.groups) if k != c.model.integrated], most=3
    )
    return (
        f"For {listed([largest])} alone, with the effects of {rest} held, it is {_off(gap)}; the error "
        f"for {rest} is not known here, and model.fit() does without"
    )


def _off(gap: float) -> str:
    if abs(gap) < 5e-4:
        return "right to three digits"
    return f"{'too high' if gap > 0 else 'too low'} by {abs(gap):.2g}"


def _spread_se(
    c: FamilyCriterion, x: np.ndarray, covariance: np.ndarray, is_singular: bool
) -> np.ndarray:
    """Standard errors of (sds (Q,), correlations (Q, Q) as a flat vector), by the delta method."""
    into, at, Q = c.model.coordinates.u_from_working @ c.basis, c.spread, len(c.basis)

    def of(theta: np.ndarray) -> np.ndarray:
        sd, corr = sd_and_corr(into @ c.matrix(theta), undefined=np.nan)
        return np.concatenate([sd, corr.reshape(-1)])

    if is_singular:
        return np.full(Q + Q * Q, np.nan)
    steps = 1e-6 * np.eye(c.k)
    J = np.array([(of(x[at] + e) - of(x[at] - e)) / 2e-6 for e in steps]).T
    variance = np.einsum("ia,ab,ib->i", J, covariance[at, at], J)
    return np.sqrt(np.where(variance >= 0, variance, np.nan))


def _u(c: FamilyCriterion, Lambda: np.ndarray, modes: Laplace) -> list[np.ndarray]:
    """Conditional modes of each factor (J, q) in the user's coding, Lambda (Q, Q)."""
    model = c.model
    out, first = [], 0
    for f, (group, at) in enumerate(zip(c.design.groups, c.design.group_columns, strict=True)):
        q, J = len(group.terms), group.grouping.n_levels
        if f == model.integrated:
            v = modes.start.v[model.rows.level_of]
        else:
            v = modes.gamma[0, first : first + J * q].reshape(J, q)
            first += J * q
        out.append(v @ Lambda[at, at].T @ model.coordinates.zs[f].from_working.T)
    return out


def _modes_by(c: FamilyCriterion, x: np.ndarray, modes: Laplace) -> tuple[np.ndarray, ...]:
    """Derivatives (J, q, D) of each factor's conditional modes by the free numbers."""
    begin = Start(modes.gamma[0], modes.start.v)
    columns = []

    def at(x: np.ndarray) -> list[np.ndarray]:
        return _u(c, c.basis @ c.matrix(x[c.spread]), c.laplace(x, begin))

    for e in STEP * np.eye(c.size):
        up, down = at(x + e), at(x - e)
        columns.append([(a - b) / (2 * STEP) for a, b in zip(up, down, strict=True)])
    return tuple(np.stack(each, axis=-1) for each in zip(*columns, strict=True))


def _root_by(c: FamilyCriterion) -> np.ndarray:
    """Shape (Q, Q, D): derivatives of the root in the user's coding by the free numbers."""
    Q, out = len(c.basis), np.zeros((len(c.basis), len(c.basis), c.size))
    each = c.model.coordinates.u_from_working @ c.basis @ c.matrix(np.eye(c.k))
    out[..., c.spread] = np.moveaxis(each.reshape(c.k, Q, Q), 0, -1)
    return out


def _at_modes(
    c: FamilyCriterion, x: np.ndarray, modes: Laplace
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear predictors (n,) at the conditional modes, slopes and curvatures of the rows there."""
    design, coordinates = c.design, c.model.coordinates
    X = coordinates.x.work(design.observations.X)
    eta = design.offset + X @ x[: c.p]
    for group, z, u in zip(
        design.groups, coordinates.zs, _u(c, c.basis @ c.matrix(x[c.spread]), modes), strict=True
    ):
        working = u @ z.to_working.T
        eta = eta + np.einsum("nq,nq->n", z.work(group.Z), working[group.codes])
    rows = rows_of(design, sparse.csr_array((len(eta), 0)))
    slope, curvature, safe = rows.derivatives(eta, x[c.spread.stop :])
    if c.parameters.family.name == "student":
        nu = c.parameters.par(x[c.spread.stop :])[1]
        curvature = safe * (nu + 1) / (nu + 3)
    return eta, slope, np.where(curvature > 0, curvature, safe)


def _factors(
    c: FamilyCriterion, estimate: Estimate, modes: Laplace, spread_se: np.ndarray
) -> tuple[FactorEstimate, ...]:
    """Sds, correlations, conditional modes and their variances of every factor."""
    design, own, Q = c.design, estimate.family, len(c.basis)
    assert own is not None
    root = c.model.coordinates.u_from_working @ estimate.relative_covariance_factor
    sd_se, corr_se = spread_se[:Q], spread_se[Q:].reshape(Q, Q)
    point = at_working_rows(design, estimate)
    modes_of = _u(c, estimate.relative_covariance_factor, modes)
    out = []
    parts = zip(
        design.groups, design.group_columns, c.model.coordinates.zs, point.levels(), strict=True
    )
    for f, (group, at, z, levels) in enumerate(parts):
        sd, corr = sd_and_corr(root[at, at], undefined=np.nan)
        index, u_by = group.population, own.u_by[f]
        conditional = z.from_working @ levels.conditional @ z.from_working.T
        padded = np.vstack([own.beta_by, np.zeros((1, own.beta_by.shape[1]))])
        coef_by = u_by + padded[index]
        error = conditional + u_by @ own.covariance @ np.swapaxes(u_by, 1, 2)
        whole = conditional + coef_by @ own.covariance @ np.swapaxes(coef_by, 1, 2)
        u = modes_of[f]
        out.append(
            FactorEstimate(
                factor=group.factor,
                sd=sd,
                sd_se=sd_se[at],
                corr=corr,
                corr_se=corr_se[at, at],
                u=u,
                coef=np.append(estimate.beta, 0.0)[index] + u,
                u_pev=error,
                u_condvar=conditional,
                coef_covariance=whole,
            )
        )
    return tuple(out)
