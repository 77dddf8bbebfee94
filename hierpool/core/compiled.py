"""The decorator of compiled loops: cached on disk, and one process compiles what all wait for. Numba.

Where nothing is cached yet, each process of a pool would compile every loop by itself, and a pool of
eight keep a small machine busy for many minutes. A loop is compiled under a lock, so that the
others find it in the cache; loops are shared out, as whoever is first compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numba import njit

OPTIONS = {"cache": True, "error_model": "numpy", "nogil": True}
PATIENCE = 60.0  # seconds after which a process compiles by itself: the lock only saves work


def compiled(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` for this signature, by one process at a time."""

    def decorate(function: Callable[..., Any]) -> Any:
        lock = _lock(function)
        try:
            lock.acquire(timeout=PATIENCE)
        except (Timeout, OSError, NotImplementedError):  # slow, or a folder without locks
            return njit(signature, **{**OPTIONS, **options})(function)
        try:
            return njit(signature, **{**OPTIONS, **options})(function)
        finally:
            lock.release()

    return decorate


def _lock(function: Callable[..., Any]) -> FileLock:
    """Lock of the module, beside what numba caches of it."""
    folder = Path(njit(**OPTIONS)(function).stats.cache_path)
    return FileLock(folder / f"{function.__module__}.lock")
