"""One case: a table and a formula end in a result with an honest status, or in a HierpoolError."""

from __future__ import annotations

import resource
import signal
import tempfile
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import hierpool as hp
from hierpool.core.errors import HierpoolError, HierpoolWarning

SECONDS = 60
MEMORY = 2 * 2**30  # bytes that a case may add
WORDS = {"converged", "singular", "not identified", "failed", "exact", "doubtful", "good"}


class TooLong(BaseException):
    """A case that did not end in time; no ``except Exception`` can take it for an answer."""


@contextmanager
def limited() -> Iterator[None]:
    """A minute and 2 GB for what is done inside."""

    def stop(*_: object) -> None:
        raise TooLong

    held = signal.signal(signal.SIGALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_held() + MEMORY, hard))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, held)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_held() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData"))


def run(formula: str, table: Any, depth: int) -> str:
    """What became of it: ``"error CODE"``, or the status of the fit.

    Parameters
    ----------
    depth
        0: the model, its findings and REML. 1: predictions too. 2: a posterior, its scores, and a
        file and back.
    """
    with limited(), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("always", HierpoolWarning)
        try:
            return _worked(formula, table, depth)
        except HierpoolError as caught:
            error = caught
    assert error.message.strip()
    assert error.code in str(error)
    check_printable(str(error))
    return f"error {error.code}"


def _worked(formula: str, table: Any, depth: int) -> str:
    model = hp.Model(formula, table)
    check_printable(repr(model))
    check_printable(repr(hp.check(model)))
    reml = model.reml()
    check_printable(repr(reml))
    check_honest(reml)
    if depth >= 1:
        again = reml.predict(table)
        assert again.index.size == (len(table) if not isinstance(table, dict) else len(again))
    if depth >= 2:
        fit = model.fit(draws=50, chains=2, seed=1, progress=False, engine="exact")
        check_printable(repr(fit))
        assert np.isfinite(fit.loo(exact=False).elpd)
        with tempfile.TemporaryDirectory() as folder:
            fit.save(Path(folder) / "fit.nc")
            back = hp.load_fit(Path(folder) / "fit.nc")
        np.testing.assert_allclose(back.fitted(), fit.fitted(), rtol=1e-9, atol=1e-300)
    return str(reml.status.word)


def check_honest(reml: Any) -> None:
    """A fit that may be trusted has numbers; one without says so."""
    assert reml.status.word, reml.status
    if not reml.status.is_trustworthy:
        return
    fixed = reml.fixed_effects(df="normal")
    assert np.isfinite(reml.loglik), reml
    assert np.isfinite(fixed["estimate"]).all(), reml
    assert (fixed["se"] >= 0).all(), reml
    if reml.design.spec.pooling != "none":
        assert np.isfinite(reml.fitted()).all(), reml


def check_printable(text: str) -> None:
    """No character that acts on a terminal or hides."""
    bad = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"}
    assert not bad, f"{bad} in {text!r}"
