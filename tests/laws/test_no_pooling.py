"""Without pooling, coefficients of levels may be all that a posterior has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hierpool as hp

SCHOOLS = pd.DataFrame(
    {"g": list("ABCD"), "y": [28.0, 8.0, -3.0, 7.0], "se": [15.0, 10.0, 16.0, 11.0]}
)
COUNTS = pd.DataFrame({"g": np.repeat(list("ABCD"), 6), "y": np.arange(24) % 5})


@pytest.mark.parametrize(
    ("data", "kind"), [(SCHOOLS, {"known_se": "se"}), (COUNTS, {"family": "poisson"})]
)
def test_levels_are_kept_where_there_is_nothing_else(data, kind, monkeypatch):
    model = hp.no_pooling("y ~ 1", data, group="g", **kind)
    kept = model.fit("exact", seed=1, draws=200, progress=False)
    monkeypatch.setattr("hierpool.bayes.exact.engine.LARGEST_STORED", 1)
    monkeypatch.setattr("hierpool.bayes.quadrature.engine.LARGEST_WORK", 1)
    fit = model.fit("exact", seed=1, draws=200, progress=False)
    assert fit.keeps_levels
    pd.testing.assert_frame_equal(fit.coefficients(), kept.coefficients())
