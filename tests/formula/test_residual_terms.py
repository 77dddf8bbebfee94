"""Residual structures that cannot be are refused in words that can be followed."""

import duckdb
import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.design import exact_fit
from hierpool.core.errors import HierpoolError
from hierpool.reml.criterion import Criterion
from hierpool.reml.estimate import Optimum, _status


def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"pig": np.repeat(list("abcdef"), 4), "time": np.tile(range(4), 6)})
    return rows.assign(y=rng.normal(size=24), row=range(24), diet=np.repeat(list("pq"), 12))


WRONG = {
    "there is no structure 'un': here it is 'us'": {"residual": "un(time | pig)"},
    "there is no structure 'corAR1': here it is 'ar1'": {"residual": "corAR1(time | pig)"},
    "leave residual= out": {"residual": "independent"},
    r"residual='us\(time \| pig\)'. Structures": {"residual": "us"},
    "each of the rows has one row": {"residual": "ar1(time | row)"},
    r"the response 'y' is also in ar1\(y \| pig\)": {"residual": "ar1(y | pig)"},
    r"the response 'y' is also in cs\(time \| y\)": {"residual": "cs(time | y)"},
    r"the response 'y' is also in sigma='~ log\(y\)'": {"sigma": "~ log(y)"},
    r"the response 'y' is also in sigma='~ \(1 \| y\)'": {"sigma": "~ (1 | y)"},
}


@pytest.mark.parametrize("words", WRONG)
def test_messages(words):
    with pytest.raises(HierpoolError, match=words):
        hp.Model("y ~ diet", table(), **WRONG[words])


@pytest.mark.parametrize("structures", ["cs", []])
def test_a_ladder_takes_a_list(structures):
    model = hp.Model("y ~ diet", table(), residual="ar1(time | pig)")
    with pytest.raises(HierpoolError, match="a list of names is needed"):
        hp.residual_ladder(model, structures)


def test_a_search_without_an_end_says_so():
    design = hp.Model("y ~ diet", table(), residual="us(time | pig)").design
    assert "us(time | pig): the likelihood has no maximum" in str(exact_fit(design.schema, np.nan))
    criterion = Criterion.from_design(design, "REML")
    optimum = Optimum(np.zeros(9), 1.0, np.full(9, 9e9), np.eye(9), 2)  # 3 ratios, 6 correlations
    status = _status(criterion, optimum, design, unknown="")
    assert status.word == "failed"
    assert "is 9e+09. The likelihood may have no maximum" in status.sentence


def test_what_is_no_table_is_told_what_to_ask():
    with duckdb.connect() as connection, pytest.raises(HierpoolError, match=r"connection\.sql"):
        hp.Model("y ~ 1", connection)
    with pytest.raises(HierpoolError, match=r"no file a\.parquet"):
        hp.Model("y ~ 1", ["a.parquet", "b.parquet"])
