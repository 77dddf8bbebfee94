"""Compiling: by one process for all, on a disk without locks, and with an interrupt meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from hierpool.core.compiled import compiled, interrupt_held

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="another kind of signal")
IMPORTS = """
print("ready", flush=True)
try:
    import hierpool.draws.psis
except KeyboardInterrupt:
    print("interrupted", flush=True)
from hierpool.draws import psis
loops = [loop for loop in vars(psis).values() if hasattr(loop, "nopython_signatures")]
print(len(loops) > 5 and all(len(loop.nopython_signatures) == 1 for loop in loops))
"""


LOOP = """
import math
from hierpool.core.compiled import compiled

@compiled("f8[:](f8[:, :])")
def loop(x):
    out = x[0].copy()
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j] += math.log(abs(x[i, j]) + 1.0) * math.erf(x[i, j]) + x[i].sum()
    return out
"""
AT_ONCE = """
import hierpool.core.compiled
print("ready", flush=True)
input()
import loop
print(sum(loop.loop.stats.cache_misses.values()))
"""


SHARED = """
from hierpool.core.compiled import compiled, shared

@shared("UniTuple(f8, 2)(i8, f8[::1])")
def sums(n, x):
    total = 0.0
    for i in range(n):
        total += x[i]
    return total, 2 * total

@compiled("f8(f8[::1])")
def loop(x):
    once, twice = sums(len(x), x)
    return once + twice
"""
FROM_THE_CACHE = """
import numpy as np
import shared_loop
print(shared_loop.loop(np.arange(5.0)), sum(shared_loop.loop.stats.cache_misses.values()))
"""


@pytest.mark.slow
def test_a_shared_function_is_found_by_a_loop_that_was_compiled_before(tmp_path):
    (tmp_path / "shared_loop.py").write_text(SHARED)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    found = [
        subprocess.run(
            [sys.executable, "-c", FROM_THE_CACHE],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert found == [["30.0", "1"], ["30.0", "0"]]


@pytest.mark.slow
def test_one_process_compiles_and_the_others_find_it(tmp_path):
    (tmp_path / "loop.py").write_text(LOOP)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    asked = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE],
            env={**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in asked:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in asked:
        assert process.stdin is not None
        process.stdin.write("now\n")
        process.stdin.flush()
    misses = [int(process.communicate(timeout=120)[0]) for process in asked]
    assert sum(misses) == 1


def test_a_folder_without_locks_does_not_stop_compiling(monkeypatch):
    def refuse(*args, **kwargs):
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", refuse)

    def twice(x):
        return 2 * x

    assert compiled("f8(f8)", cache=False)(twice)(4.0) == 8.0


@posix
def test_interrupt_takes_effect_after_the_block_and_the_handler_is_back():
    done = []

    def compile_one():
        with interrupt_held():
            signal.raise_signal(signal.SIGINT)
            done.append("compiled")

    found = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored behind a shell's &
    try:
        with pytest.raises(KeyboardInterrupt):
            compile_one()
        assert done == ["compiled"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, found)


@posix
def test_handler_of_the_user_gets_the_interrupt():
    got = []
    before = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        with interrupt_held():
            signal.raise_signal(signal.SIGINT)
            assert got == []
        assert got == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_the_handler_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with interrupt_held():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@posix
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2.0, 4.0])
def test_interrupt_of_the_first_compilation_is_not_lost_and_the_next_import_works(
    tmp_path, seconds
):
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (out, err) == ("interrupted\nTrue\n", "")
