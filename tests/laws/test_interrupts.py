"""Ctrl-C, sent to a real process: what was done is kept, and the session stays usable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hierpool as hp
from hierpool.core import threads

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="another kind of signal")
# The third model of a study waits, so that the interrupt comes after two.
WAITS = """
import sys, time, warnings
import hierpool as hp
from hierpool.studies import run as workflow
fitted, begun = workflow._fitted, []
def slow(model, arguments):
    begun.append(model)
    if len(begun) == 3:
        print("ready", flush=True)
        time.sleep(100)
    return fitted(model, arguments)
workflow._fitted = slow
"""
SESSION = (
    WAITS
    + """
import code
session = code.InteractiveInterpreter({"hp": hp})
ask = 'hp.study("Yield ~ 1", hp.datasets.load("Dyestuff"), group="Batch", seed=1, draws=50, '
ask += 'chains=2, engine="exact", progress=False)'
session.runsource(ask)
session.runsource("import sys; kept = sys.last_value.study")
session.runsource("print(type(sys.last_value).__name__, list(kept.fits))")
session.runsource("print(kept.save('kept')); print(kept)")
workflow._fitted = fitted
session.runsource("again = " + ask)
session.runsource("print(again.headline)")
"""
)
COMMAND = (
    WAITS
    + """
from hierpool import cli
sys.argv = ["hierpool", "study", "dyes.csv", "Yield ~ 1", "-g", "Batch", "--engine", "exact"]
sys.argv += ["--draws", "50", "--chains", "2", "--seed", "1"]
cli.main()
"""
)


def interrupted(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The end of a process that gets an interrupt when it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@posix
@pytest.mark.slow
def test_interrupted_study_keeps_its_fits_and_the_session_goes_on(tmp_path):
    ran = interrupted(SESSION, tmp_path)
    assert "interrupted after 2 of 3 models: complete_pooling and varying_intercept" in ran.stderr
    first, folder, *printed = ran.stdout.splitlines()
    assert first == "StudyInterrupted ['complete_pooling', 'varying_intercept']"
    assert folder == "kept"
    assert printed[0] == "Dyestuff: Yield ~ 1 by Batch, seed 1"
    assert printed[-1] == "Dyestuff: Yield ~ 1, 30 observations of 6 batches"
    fit = hp.load_fit(tmp_path / "kept" / "fits" / "varying_intercept.nc")
    assert fit.design.spec.formula == "Yield ~ 1 + (1 | Batch)"
    assert "varying_intercept" in (tmp_path / "kept/tables/fixed_effects.csv").read_text()


@posix
@pytest.mark.slow
def test_interrupted_command_writes_what_was_done_and_names_it(tmp_path):
    hp.datasets.load("Dyestuff").to_csv(tmp_path / "dyes.csv", index=False)
    old = tmp_path / "dyes-hierpool" / "figures" / "old.png"
    old.parent.mkdir(parents=True)
    old.touch()
    os.utime(old, (1, 1))
    ran = interrupted(COMMAND, tmp_path)
    assert (ran.returncode, ran.stdout) == (130, "")
    assert ran.stderr.splitlines()[-1] == (
        "hierpool: interrupted after 2 of 3 models: complete_pooling and varying_intercept. Written "
        "to dyes-hierpool: 'fits/complete_pooling.nc', 'fits/varying_intercept.nc', 'summary.txt', "
        "'tables/fixed_effects.csv', 'tables/variance_components.csv'."
    )
    assert old.exists()


def test_interrupt_before_the_first_fit_is_a_plain_one(monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("hierpool.studies.run._fitted", stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        hp.study("Yield ~ 1", hp.datasets.load("Dyestuff"), group="Batch", progress=False)
    assert type(caught.value) is KeyboardInterrupt


def test_pieces_that_wait_are_not_begun_after_an_interrupt_and_the_threads_stay_usable(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    done = []

    def work(piece):
        if piece == 0:
            raise KeyboardInterrupt
        time.sleep(0.001)  # on a busy machine the others would all be done before it is noticed
        done.append(piece)

    with pytest.raises(KeyboardInterrupt):
        threads.over_pieces(work, range(1000))
    left = len(done)
    assert left < 999
    threads.over_pieces(done.append, range(5))
    assert sorted(done[left:]) == [0, 1, 2, 3, 4]
