"""Decorator of compiled loops (numba): cached on disk, and one process compiles for all.

Where nothing is cached yet, each process of a pool would compile every loop by itself, and a pool of
eight keep a small machine busy for many minutes. A loop is compiled under a lock, so that the
others find it in the cache; loops are shared out, as whoever is first compiles. An interrupt waits
until the loop at hand is compiled: inside the compiler it would be lost, or leave a broken loop.

numba gives every loop a copy of all functions that it calls, and compiles the copies again, at each
depth of calls. Large functions are therefore ``shared``: compiled once, and called where they stand.
Small ones are ``inner``: copied, so that they can be inlined.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from llvmlite import binding
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

OPTIONS = {"cache": True, "error_model": "numpy", "nogil": True}
_CALLED_BY_LOOPS_ALONE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
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


inner = njit(error_model="numpy", **_CALLED_BY_LOOPS_ALONE)


def shared(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """A function for compiled loops alone, of which all share one copy."""

    def decorate(function: Callable[..., Any]) -> Any:
        built = compiled(signature, **_CALLED_BY_LOOPS_ALONE)(function)
        [result] = built.overloads.values()
        own, symbol = result.signature, f"{function.__module__}.{function.__name__}"
        address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        binding.add_symbol(symbol, address)  # the linker finds it, whatever was cached of the loop

        def generate(context: Any, builder: Any, given: Any, values: Any) -> Any:
            calling = context.call_conv
            kind = calling.get_function_type(own.return_type, own.args)
            code = cgutils.get_or_insert_function(builder.module, kind, symbol)
            values = [
                context.cast(builder, value, was, wanted)
                for value, was, wanted in zip(
                    cgutils.unpack_tuple(builder, values[0]), given.args[0], own.args, strict=True
                )
            ]
            status, out = calling.call_function(builder, code, own.return_type, own.args, values)
            with cgutils.if_unlikely(builder, status.is_error):
                calling.return_status_propagate(builder, status)
            return out

        def call(typing_context: Any, *arguments: Any) -> Any:
            return own.return_type(types.StarArgTuple(arguments)), generate

        return intrinsic(call)

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
