"""No pooling of a response that is not Gaussian: coefficients of its own for each group, by likelihood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from hierpool.algebra.choose import working_design
from hierpool.algebra.moments import Coordinates, single_group
from hierpool.core.design import Design, GroupDesign
from hierpool.core.errors import UnsupportedModelError, listed
from hierpool.core.results import Estimate, FactorEstimate, FamilyEstimate, Status
from hierpool.reml.families import separation
from hierpool.reml.families.glm import Glm, GlmRows, maximise
from hierpool.reml.families.parameters import FamilyParameters
from hierpool.reml.pooling_limits import OwnLines


def no_pooling(design: Design) -> Estimate:
    """Own coefficients of each level, common ones for what does not vary; NaN where none is told.

    Standard errors are given the family's parameters.

    Raises
    ------
    UnsupportedModelError
        Ratings: the thresholds and a level of each group cannot be told apart.
    """
    group = single_group(design)
    assert group is not None
    assert design.family is not None
    if design.family.has_thresholds:
        raise UnsupportedModelError(
            f"{design.spec.formula}: the likelihood cannot tell the thresholds of the ratings from an "
            "intercept for each group. Use model.fit(), which has priors, or hp.varying_intercept(...)",
            "no-pooling-of-ratings",
        )
    coordinates = Coordinates.from_design(design)
    known = _known(design, group)
    columns, places = _columns(design, group, coordinates, known)
    rows = GlmRows(
        design.family,
        np.asarray(design.observations.y, dtype=float),
        design.trials,
        design.likelihood_weights,
        np.zeros(len(design.observations.y)) + design.offset,
        columns,
    )
    parameters = FamilyParameters(design.family)
    found = maximise(rows, _start(design, group, coordinates, places), parameters.start(design))
    runs = separation.direction(rows, found)
    return _estimate(design, group, rows, found, places, runs)


def _known(design: Design, group: GroupDesign) -> tuple[np.ndarray, np.ndarray]:
    """Shapes (p,), (J, q): which coefficients the rows can tell."""
    n = len(design.observations.y)
    ones = FamilyEstimate(
        (), *(np.zeros(0),) * 2, np.zeros(n), np.zeros(n), np.ones(n),
        *(np.zeros((0, 0)),) * 3, (), np.nan,
    )  # fmt: skip
    plain = Estimate(
        "ML", np.zeros(0), np.zeros((0, 0)), 1.0, np.nan, (), np.zeros(0), 0.0, 0, np.zeros((0, 0)),
        Status("converged", ""), family=ones,
    )  # fmt: skip
    solved = OwnLines.from_design(working_design(design, plain))
    return solved.estimable, solved.swept.is_estimable


def _columns(
    design: Design,
    group: GroupDesign,
    coordinates: Coordinates,
    known: tuple[np.ndarray, np.ndarray],
) -> tuple[sparse.csr_array, np.ndarray]:
    """Columns (n, m) of what the rows can tell, and their places among beta and then the levels' own."""
    X, Z = coordinates.x.work(design.observations.X), coordinates.zs[0].work(group.Z)
    n, q = Z.shape
    at = np.repeat(np.arange(n), q)
    own = (group.codes[:, None] * q + np.arange(q)).reshape(-1)
    wide = sparse.csr_array((Z.reshape(-1), (at, own)), shape=(n, group.grouping.n_levels * q))
    whole = sparse.hstack([sparse.csr_array(X), wide], format="csc")
    places = np.flatnonzero(np.concatenate([known[0], known[1].reshape(-1)]))
    return sparse.csr_array(whole[:, places]), places


def _start(
    design: Design, group: GroupDesign, coordinates: Coordinates, places: np.ndarray
) -> np.ndarray:
    """Each level at the centre of the response."""
    z = coordinates.zs[0]
    own = z.to_working @ z.constant * design.schema.response_scale.mean
    whole = np.concatenate([np.zeros(len(design.terms)), np.tile(own, group.grouping.n_levels)])
    return np.asarray(whole[places])


def _estimate(
    design: Design,
    group: GroupDesign,
    rows: GlmRows,
    found: Glm,
    places: np.ndarray,
    runs: np.ndarray | None,
) -> Estimate:
    parameters, p = rows.parameters, len(design.terms)
    par = parameters.par(found.free)
    slope, curvature, safe = rows.derivatives(found.eta, found.free)
    if rows.family.name == "student":
        curvature = safe * (par[1] + 1) / (par[1] + 3)
    J, q, P = group.grouping.n_levels, len(group.terms), parameters.size
    information = found.information.tocsc()[len(places) :, len(places) :].toarray()
    with np.errstate(invalid="ignore", divide="ignore"):
        by = parameters.jacobian(found.free) if P else np.zeros((0, 0))
        spread = np.sqrt(np.diag(by @ np.linalg.pinv(information) @ by.T)) if P else np.zeros(0)
    own = FamilyEstimate(
        tuple(parameters.names), spread, par, found.eta, slope, np.where(curvature > 0, curvature, safe),
        np.zeros((P, P)), np.zeros((p, P)), by, (), np.nan,
    )  # fmt: skip
    none1, none2, none3 = np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0, 0))
    estimate = Estimate(
        method="ML",
        beta=np.zeros(p),
        beta_covariance=np.zeros((p, p)),
        sigma=1.0,
        sigma_se=np.nan,
        factors=(),
        fitted=np.asarray(rows.family.mean(found.eta[None], par[None])[0]),
        loglik=found.loglik,
        n_parameters=len(places) + P,
        relative_covariance_factor=none2,
        status=_status(design, group, found, places, runs),
        par=par,
        family=own,
    )
    solved = OwnLines.from_design(working_design(design, estimate))
    beta, coef = solved.in_user_coding
    beta_covariance, coef_covariance = solved.covariances
    if runs is not None:
        far = np.zeros(p + J * q, dtype=bool)
        far[places] = runs[: len(places)] != 0
        away, own_away = far[:p], far[p:].reshape(J, q).any(axis=1)
        beta = np.where(away, np.nan, beta)
        beta_covariance = np.where(away[:, None] | away, np.nan, beta_covariance)
        coef = np.where(own_away[:, None], np.nan, coef)
        coef_covariance = np.where(own_away[:, None, None], np.nan, coef_covariance)
    lines = FactorEstimate(
        group.factor,
        none1,
        none1,
        none2,
        none2,
        np.zeros((0, q)),
        coef,
        none3,
        none3,
        coef_covariance,
    )
    return replace(estimate, beta=beta, beta_covariance=beta_covariance, factors=(lines,))


def _status(
    design: Design, group: GroupDesign, found: Glm, places: np.ndarray, runs: np.ndarray | None
) -> Status:
    p, q, n = len(design.terms), len(group.terms), int((places >= len(design.terms)).sum())
    if runs is not None:
        far = places[runs[: len(places)] != 0]
        levels = np.unique((far[far >= p] - p) // q)
        names = [str(group.grouping.levels[j]) for j in levels]
        names += [design.terms[k] for k in far[far < p]]
        return Status(
            "failed",
            f"separation in {len(names)} of the groups of {group.factor} "
            f"({listed(names, most=5)}): their coefficients run to infinity and are shown as missing; "
            "model.fit() has a posterior of them under its priors.",
        )
    if not found.ended:
        return Status("failed", "the search for the maximum of the likelihood did not converge.")
    return Status(
        "converged",
        f"maximum likelihood, {n} separate coefficients for {group.grouping.n_levels} groups of "
        f"{group.factor}.",
    )
