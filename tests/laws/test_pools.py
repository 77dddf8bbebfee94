"""Pools of processes, forked and spawned: models go in, fits and errors come out, in good time."""

from __future__ import annotations

import multiprocessing
import operator
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core import errors

LIMIT = 120  # seconds: of a busy machine, whose loops are compiled
METHODS = [
    pytest.param(method, marks=[pytest.mark.slow] if method == "forkserver" else [])
    for method in multiprocessing.get_all_start_methods()
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
    rng = np.random.default_rng(3)
    group = np.repeat([f"g{i}" for i in range(8)], 5)
    x = np.tile(np.arange(5.0), 8)
    y = 2 + 0.5 * x + np.repeat(rng.normal(size=8), 5) + rng.normal(size=40)
    return pd.DataFrame({"y": y, "x": x, "g": group})


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


@pytest.mark.parametrize("kind", KINDS)
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


def test_one_process_compiles_and_the_others_find_it(tmp_path):
    ask = (
        "from hierpool.draws import psis as f;"
        "print(sum(f.exp_negative.stats.cache_misses.values()))"
    )
    asked = [
        subprocess.Popen(
            [sys.executable, "-c", ask],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    misses = [int(process.communicate(timeout=LIMIT)[0]) for process in asked]
    assert sum(misses) == 1


def test_a_folder_without_locks_does_not_stop_compiling(tmp_path, monkeypatch):
    from filelock import FileLock

    from hierpool.core.compiled import compiled

    def refuse(*args, **kwargs):
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", refuse)

    def twice(x):
        return 2 * x

    assert compiled("f8(f8)", cache=False)(twice)(4.0) == 8.0
