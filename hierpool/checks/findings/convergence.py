"""Whether the draws, and the search for the optimum, ended well."""

from __future__ import annotations

from collections.abc import Iterator

from hierpool.core.findings import Finding
from hierpool.core.fitted import Optimum, Posterior
from hierpool.core.text import capital


def draws(fit: Posterior, _: object) -> Iterator[Finding]:
    """Draws that cannot be trusted, and an engine that was not the one asked for."""
    if not fit.status.is_trustworthy:
        yield Finding(
            "doubtful-draws",
            "problem",
            f"The draws did not pass the checks: {fit.status.sentence}",
            "None of its numbers should be used: fit with more draws, or with engine='nuts'.",
        )
    elif reason := fit.info.get("reason"):
        yield Finding("engine-fallback", "note", f"It was sampled by NUTS: {reason}.")


def optimum(blup: Optimum) -> Iterator[Finding]:
    """A search for the optimum that did not end well; one of many optima is told by ``variances``."""
    if not blup.status.is_trustworthy and blup.status.word != "not identified":
        yield Finding(
            "doubtful-blups",
            "warning",
            capital(blup.status.sentence),
            "Do not use these BLUPs and tests; scale or drop predictors, or trust the posterior.",
        )
