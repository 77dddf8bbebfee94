"""Pools of processes, forked and spawned: models go in, fits and errors come out, in good time."""

from __future__ import annotations

import multiprocessing
import operator
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core import errors
from tests.support.cases import each
from tests.support.tables import grouped

LIMIT = 120  # seconds: of a busy machine, whose loops are compiled
METHODS = [
    pytest.param(method, marks=[pytest.mark.slow] if position else [])
    for position, method in enumerate(multiprocessing.get_all_start_methods())
]
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, (errors.HierpoolError, errors.HierpoolWarning))
]
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return grouped(np.random.default_rng(3), 5, 8, sd=(1.0, 0.0))


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_gives_the_numbers_of_this_process(table, method):
    model = hp.Model("y ~ x + (1 | g)", table)
    draw = operator.methodcaller("fit", engine="exact", draws=50, seed=4, progress=False)
    with get_context(method).Pool(2) as pool:
        optimum = pool.apply_async(operator.methodcaller("reml"), (model,))
        posterior = pool.apply_async(draw, (model,))
        optimum, posterior = optimum.get(LIMIT), posterior.get(LIMIT)
    assert optimum.loglik == model.reml().loglik
    pd.testing.assert_frame_equal(posterior.summary(), draw(model).summary())


@pytest.mark.parametrize("method", METHODS)
def test_an_error_in_a_pool_is_told_and_does_not_leave_it_waiting(table, method):
    with get_context(method).Pool(1) as pool:
        waiting = pool.apply_async(hp.Model, ("y ~ z + (1 | g)", table))
        with pytest.raises(errors.HierpoolError, match="'z'") as told:
            waiting.get(LIMIT)
    with pytest.raises(type(told.value)) as here:
        hp.Model("y ~ z + (1 | g)", table)
    assert str(told.value) == str(here.value)
    assert told.value.code == here.value.code


@pytest.mark.slow
def test_an_executor_of_spawned_processes_fits_many_tables(table):
    tables = [table.assign(y=table["y"] * scale) for scale in (1.0, 10.0)]
    models = [hp.Model("y ~ x + (x | g)", t) for t in tables]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        fits = list(pool.map(operator.methodcaller("reml"), models, timeout=LIMIT))
    assert [f.loglik for f in fits] == [m.reml().loglik for m in models]


@each("kind", KINDS)
def test_every_error_survives_pickling(kind):
    code = ["some-code"] if issubclass(kind, errors.HierpoolError) else []
    error = kind("the column is empty", *code)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_an_error_about_a_fit_keeps_the_fit_when_pickled(table):
    fit = hp.Model("y ~ x + (1 | g)", table).reml()
    again = pickle.loads(pickle.dumps(errors.FitError("not to be trusted", "some-code", fit)))
    assert again.fit.loglik == fit.loglik
