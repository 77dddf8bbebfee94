"""Whether the draws and the optimizer converged."""

from __future__ import annotations

from collections.abc import Iterator

from hierpool.core.findings import Finding
from hierpool.core.fitted import Optimum, Posterior
from hierpool.core.text import capital


def draws(fit: Posterior, _: object) -> Iterator[Finding]:
    """Draws that failed their checks, and a fall-back to another engine."""
    if not fit.status.is_trustworthy:
        yield Finding(
            "doubtful-draws",
            "problem",
            f"The draws failed the convergence checks: {fit.status.sentence}",
            "Do not use this fit. Fit again with more draws, or with engine='nuts'.",
        )
    elif reason := fit.fallback:
        yield Finding("engine-fallback", "note", f"The model was sampled with NUTS: {reason}.")


def optimum(blup: Optimum) -> Iterator[Finding]:
    """An optimizer that did not converge; many equal optima are a finding of ``boundary``."""
    what = "BLUPs" if blup.design.family is None else "estimates, conditional modes"
    if not blup.status.is_trustworthy and blup.status.word != "not identified":
        yield Finding(
            "doubtful-blups",
            "warning",
            capital(blup.status.sentence),
            f"Do not use these {what} and tests. Scale or drop predictors, or use the posterior.",
        )
