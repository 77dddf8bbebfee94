"""Work spread over the cores, in threads; and BLAS kept on one of them."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import AbstractContextManager
from contextvars import copy_context
from typing import Any

import numpy as np

from hierpool.core.progress import named_steps

_ALONE = 64  # values of theta that one thread does by itself


@functools.cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Context in which BLAS uses one thread: on matrices this small more of them cost ten times."""
    limited: AbstractContextManager[Any] = _blas().limit(limits=1, user_api="blas")
    return limited


def over_threads(kernel: Callable[..., None], n: int, *arrays: Any, alone: int = _ALONE) -> None:
    """Call ``kernel(start, stop, *arrays)`` on slices of range(n), one slice a core.

    The kernels release the interpreter and write to slices of their own. Up to ``alone`` values one
    thread does by itself.
    """
    workers = min(os.cpu_count() or 1, max(1, n // alone))
    if workers == 1:
        kernel(0, n, *arrays)
        return
    edges = np.linspace(0, n, workers + 1).astype(int).tolist()
    over_pieces(lambda run: kernel(*run, *arrays), list(itertools.pairwise(edges)))


def over_pieces(work: Callable[[Any], None], pieces: Sequence[Any]) -> None:
    """Call ``work`` on every piece, on all cores; the work must release the interpreter."""
    workers = min(os.cpu_count() or 1, len(pieces))
    if workers <= 1:
        for piece in pieces:
            work(piece)
        return
    begun = [_threads(workers).submit(work, piece) for piece in pieces]
    try:
        for done in begun:
            done.result()
    except BaseException:  # an interrupt too: nothing of ours goes on behind the caller's back
        for waiting in begun:
            waiting.cancel()
        wait(begun)
        raise


@functools.cache
def _threads(workers: int) -> ThreadPoolExecutor:
    """Threads that wait for work, made once."""
    return ThreadPoolExecutor(workers, thread_name_prefix="hierpool")


if hasattr(os, "register_at_fork"):  # a forked process has no threads, only the memory of them
    os.register_at_fork(after_in_child=_threads.cache_clear)


def in_threads[Job, Done](
    work: Callable[[Job], Done],
    jobs: Sequence[Job],
    what: str,
    cores: int | None = None,
    progress: bool = True,
) -> list[Done]:
    """What ``work`` returns for each of the jobs, in their order.

    The heavy parts of a fit are compiled and release the interpreter. Jobs see the options of the
    caller (``with hp.options``). The first error stops the
    jobs that have not begun.

    Parameters
    ----------
    work
        Takes one job; must not depend on which thread or in which order it is called.
    jobs
        What it is called with.
    what
        Words beside the bar.
    cores
        Threads; None for as many as there are cores.
    progress
        Whether to show a bar.
    """
    workers = max(1, min(cores or os.cpu_count() or 1, len(jobs)))
    with named_steps(len(jobs), progress) as begin, ThreadPoolExecutor(workers) as pool:
        begin(what)
        futures = [pool.submit(copy_context().run, work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                begin(what)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]
