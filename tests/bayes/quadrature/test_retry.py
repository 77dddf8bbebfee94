"""Another attempt proposes where the failed one has found the posterior."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.bayes.exact.proposal import Student
from hierpool.bayes.exact.theta_proposal import ThetaProposal
from hierpool.bayes.quadrature import engine
from hierpool.bayes.quadrature.sampling import FOUND, sample_points
from hierpool.core.errors import FitError
from tests.bayes.quadrature.test_sampling import rows
from tests.bayes.quadrature.toy import posterior


def test_another_attempt_proposes_where_points_were_found():
    rng = np.random.default_rng(1)
    proposal = ThetaProposal.around(np.zeros(2), 0.01 * np.eye(2), [])
    arm = Student.with_scale(np.array([3.0, -2.0]), 0.05 * np.eye(2), np.inf)
    found = np.concatenate([0.1 * rng.standard_normal((450, 2)), arm.draw(50, rng)])
    again = proposal.also_at(found, rng)
    there = arm.location[None]
    assert proposal.log_density(there)[0] < -8
    assert again.log_density(there)[0] > -4
    assert again.log_density(np.zeros((1, 2)))[0] > proposal.log_density(np.zeros((1, 2)))[0] - 0.8
    assert proposal.also_at(found[:0], rng) is proposal


def test_the_evidence_is_the_same_with_what_an_attempt_has_found():
    of = posterior(rows())
    first = sample_points(of, 4, 500, np.random.default_rng(1))
    again = sample_points(of, 4, 500, np.random.default_rng(2), 1.5, first.found)
    error = np.hypot(first.log_evidence_error, again.log_evidence_error)
    assert abs(first.log_evidence - again.log_evidence) < 4 * error


def test_each_attempt_is_given_what_the_one_before_found(monkeypatch):
    seen: list[np.ndarray | None] = []

    def sampled(of, chains, draws, rng, widen, before):
        seen.append(before)
        return sample_points(of, chains, draws, rng, widen, before)

    monkeypatch.setattr(engine, "sample_points", sampled)
    monkeypatch.setattr(engine, "doubts", lambda draws: ("it is never good enough",))
    table = pd.DataFrame({"y": [0, 1, 1, 0, 1, 1], "g": list("aabbcc")})
    model = hp.Model("y ~ 1 + (1 | g)", table, family="bernoulli")
    with pytest.raises(FitError, match="never good enough"):
        model.fit("exact", seed=1, draws=300, progress=False)
    assert [before is None for before in seen] == [True, False, False]
    assert seen[1].shape == (FOUND, 2)
    assert np.isfinite(seen[2]).all()
