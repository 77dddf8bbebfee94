"""Work over the cores, also in a process that was forked from one that had threads."""

from __future__ import annotations

import multiprocessing
import threading

import numpy as np
import pytest

from hierpool.core.threads import over_threads


def square(n: int) -> np.ndarray:
    out = np.zeros(n)

    def kernel(start: int, stop: int, values: np.ndarray) -> None:
        values[start:stop] = np.arange(start, stop) ** 2

    over_threads(kernel, n, out, alone=1)
    return out


def test_every_slice_is_worked_once():
    np.testing.assert_array_equal(square(1001), np.arange(1001) ** 2)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    square(100)
    assert any(t.name.startswith("hierpool") for t in threading.enumerate())
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply_async(square, (100,)).get(20), np.arange(100) ** 2)
