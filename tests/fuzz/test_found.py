"""What the made-up cases found, each by the smallest case that shows it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import hierpool as hp
from hierpool.bayes.priors.prior import HalfT
from hierpool.core.errors import DataError

RNG = np.random.default_rng(1)
TABLE = pd.DataFrame(
    {"y": RNG.normal(size=40), "x": RNG.normal(size=40), "g": np.tile(range(5), 8)}
)


def test_a_response_that_its_own_columns_fit_is_refused_whatever_the_search_ran_into():
    with pytest.raises(DataError, match="fits I\\(y \\* 2\\) exactly"):
        hp.Model("I(y * 2) ~ y + (0 + y | g)", TABLE).reml()


def test_a_category_of_arrow_whose_labels_are_bins_is_read_past_or_refused_by_name():
    bins = pd.cut(TABLE["x"], [-9, 0, 9])
    table = pa.Table.from_pandas(TABLE.assign(w=bins), preserve_index=False)
    assert hp.Model("y ~ x", table).design.n == 40
    with pytest.raises(DataError, match="'w'"):
        hp.Model("y ~ w", table)


def test_the_half_t_has_a_quantile_in_the_farthest_tail():
    assert np.isinf(HalfT(4.0, 1.0).at_normal(np.array([39.0]))).all()
