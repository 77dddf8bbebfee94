"""Where proposals start: around the mode, with components that stay where the posterior may have an arm."""

from __future__ import annotations

import numpy as np

from hierpool.bayes.exact.proposal import Student
from hierpool.bayes.exact.theta_proposal import ADAPTED_NU, WIDE_NU, ThetaProposal
from hierpool.bayes.quadrature.polish import Polished
from hierpool.bayes.quadrature.proposal import REACH, Line, ProductProposal

JOINT_UP_TO = 2  # coefficients up to which they have components of their own in every arm
VANISHED, VANISHED_VARIANCE = -1.5, 1.2  # of z of an sd that is close to zero
PRIOR_NU = 10.0  # of the prior's component, beside which coefficients are not known well
WIDER_THETA, WIDER_E = 9.0, 4.0  # variances of the rest beside it, over those around the mode


def first_proposal(
    start: Polished, widen: float, is_exact: bool = True
) -> ThetaProposal | ProductProposal:
    """The first proposal: around the mode, the coefficients by their covariance given theta.

    A few coefficients are proposed together with theta, since in another arm of the posterior (much
    spread between rows in place of much between groups) they are elsewhere, and more uncertain: a
    line through the mode does not reach them. Where a polynomial stands in for the target (not
    ``is_exact``) there are rows enough for one normal.
    """
    d, P = start.target.posterior.dimension, start.target.map.n_gamma
    if is_exact and d and P <= JOINT_UP_TO:
        return _together(start, widen)
    return _product(start, widen)


def _product(start: Polished, widen: float) -> ProductProposal:
    coordinates = start.target.posterior.coordinates
    d, scale, mode = coordinates.size, start.scale, start.mode
    of_theta, across, of_e = scale[:d, :d], scale[d:, :d], scale[d:, d:]
    theta, slope = None, np.zeros((d, len(of_e)))
    if d:
        vanishing = [_vanished(mode[:d], of_theta, at.position) for at in coordinates.vanishing]
        theta = ThetaProposal.around(mode[:d], widen**2 * of_theta, vanishing)
        slope = np.linalg.solve(of_theta, across.T)
    reach = REACH * np.sqrt(np.diag(of_theta))
    line = Line(mode[:d], reach, mode[d:], slope)
    return ProductProposal(theta, line, widen * (of_e - across @ slope))


def _together(start: Polished, widen: float) -> ThetaProposal:
    """Components of theta and coefficients: those that stay are wide in the coefficients."""
    coordinates = start.target.posterior.coordinates
    d, scale, mode = coordinates.size, start.scale, start.mode
    of_theta, across = scale[:d, :d], scale[d:, :d]
    given = scale[d:, d:] - across @ np.linalg.solve(of_theta, across.T)
    beside = np.diag(WIDER_E * np.concatenate([np.zeros(d), np.maximum(np.diag(given), 1.0)]))

    def staying(theta: np.ndarray, of: np.ndarray, nu: float) -> Student:
        covariance = beside.copy()
        covariance[:d, :d] = of
        return Student.with_scale(np.concatenate([theta, mode[d:]]), covariance, nu)

    first = Student.with_scale(mode, widen**2 * scale, ADAPTED_NU)
    wide = Student.with_scale(mode, 4 * scale + 0.05 * np.eye(len(mode)) + beside, WIDE_NU)
    prior = staying(np.zeros(d), np.eye(d), PRIOR_NU)
    thin = [
        _vanished(mode[:d], WIDER_THETA * of_theta, at.position) for at in coordinates.vanishing
    ]
    vanishing = [staying(c.location, c.factor @ c.factor.T, ADAPTED_NU) for c in thin]
    return ThetaProposal.starting(first, wide, prior, vanishing)


def _vanished(mode: np.ndarray, scale: np.ndarray, sd: int) -> Student:
    """Component where one sd is close to zero."""
    location, own = mode.copy(), scale.copy()
    location[sd] = VANISHED
    own[sd, :] = own[:, sd] = 0.0
    own[sd, sd] = VANISHED_VARIANCE
    return Student.with_scale(location, own, ADAPTED_NU)
