"""exp and log1p of compiled loops, against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from hierpool.core.elementary import fast_exp, fast_log1p


@pytest.mark.parametrize("sign", [-1, 1])
def test_exp(sign):
    x = [0.0, 1e-300, 1e-9, 0.3465, 0.3466, 699.9, *np.geomspace(1e-6, 700, 5000)]
    x = sign * np.array(x)
    np.testing.assert_allclose([fast_exp(v) for v in x], np.exp(x), rtol=1e-15, atol=0)


def test_exp_is_cut_off():
    assert fast_exp(-1e4) == fast_exp(-700.0) > 0
    assert fast_exp(1e4) == fast_exp(700.0) < np.inf


def test_log1p():
    x = np.concatenate([[0.0], np.geomspace(1e-300, 1e300, 4000), np.linspace(0, 4, 4000)])
    np.testing.assert_allclose([fast_log1p(v) for v in x], np.log1p(x), rtol=1e-15, atol=0)
