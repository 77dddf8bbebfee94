"""Decorator of compiled loops (numba): cached on disk, and one process compiles for all.

Where nothing is cached yet, each process of a pool would compile every loop by itself, and a pool of
eight keep a small machine busy for many minutes. A loop is compiled under a lock, so that the
others find it in the cache; loops are shared out, as whoever is first compiles. An interrupt waits
until the loop at hand is compiled: inside the compiler it would be lost, or leave a broken loop.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numba import njit

OPTIONS = {"cache": True, "error_model": "numpy", "nogil": True}
PATIENCE = 60.0  # seconds after which a process compiles by itself: the lock only saves work


def compiled(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` for this signature, by one process at a time."""

    def build(function: Callable[..., Any]) -> Any:
        with interrupt_held():
            return njit(signature, **{**OPTIONS, **options})(function)

    def decorate(function: Callable[..., Any]) -> Any:
        lock = _lock(function)
        try:
            lock.acquire(timeout=PATIENCE)
        except (Timeout, OSError, NotImplementedError):  # slow, or a folder without locks
            return build(function)
        try:
            return build(function)
        finally:
            lock.release()

    return decorate


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Ctrl-C within the block takes effect at its end, by whatever handler was there before."""
    handler = signal.getsignal(signal.SIGINT)
    # Python runs handlers in the main thread alone; what is not Python's we could not put back.
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _lock(function: Callable[..., Any]) -> FileLock:
    """Lock of the module, beside what numba caches of it."""
    folder = Path(njit(**OPTIONS)(function).stats.cache_path)
    return FileLock(folder / f"{function.__module__}.lock")
