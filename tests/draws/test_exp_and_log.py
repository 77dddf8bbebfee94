"""exp and log that are vectorised agree with numpy's."""

from __future__ import annotations

import numpy as np

from hierpool.algebra.one_factor_kernels import log_near_one
from hierpool.draws.psis import exp_negative

CLOSE = {"rtol": 1e-15, "atol": 0.0}


def test_exp_of_negative_numbers():
    x = -np.concatenate([[0.0, 1e-300, 1e-9, 0.3465, 0.3466, 699.9], np.geomspace(1e-6, 700, 5000)])
    np.testing.assert_allclose([exp_negative(v) for v in x], np.exp(x), **CLOSE)


def test_exp_stays_at_its_lowest():
    assert exp_negative(-1e4) == exp_negative(-700.0) > 0


def test_log_near_one():
    x = np.concatenate([np.linspace(0.5, 2, 5000), 1 + np.geomspace(-1e-16, -0.4, 50)])
    np.testing.assert_allclose([log_near_one(v) for v in x], np.log(x), **CLOSE)
