"""An interrupt while a loop is compiled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hierpool.core.compiled import interrupt_held

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


@posix
def test_interrupt_takes_effect_after_the_block_and_the_handler_is_back():
    before, done = signal.getsignal(signal.SIGINT), []

    def compile_one():
        with interrupt_held():
            signal.raise_signal(signal.SIGINT)
            done.append("compiled")

    with pytest.raises(KeyboardInterrupt):
        compile_one()
    assert done == ["compiled"]
    assert signal.getsignal(signal.SIGINT) is before


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
