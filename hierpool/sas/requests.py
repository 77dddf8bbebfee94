"""What a program asks of the fit: LSMEANS, ESTIMATE and CONTRAST, as calls of hierpool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hierpool.algebra.integrated_posterior import IntegratedPosterior
from hierpool.answers.contrasts import contrast
from hierpool.answers.marginal_means import marginal_means
from hierpool.core.fitted import Optimum


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes
    ----------
    label
        Of its table: ``"lsmeans a"``, or the label that the program gives.
    call
        ``"marginal_means"``, ``"contrast"`` or ``"f_test"``.
    what
        Predictors, or label -> {term: weight}.
    arguments
        Others of the call.
    """

    label: str
    call: str
    what: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """As one would type it."""
        if self.call == "f_test":
            return f"joint test of {len(self.what)} combinations"
        more = "".join(f", {k}={v!r}" for k, v in self.arguments.items())
        return f"hp.{self.call}(fit, {self.what!r}{more})"

    def answer(self, fit: IntegratedPosterior | Optimum) -> pd.DataFrame:
        """The table."""
        if self.call == "marginal_means":
            return marginal_means(fit, self.what, **self.arguments)
        if self.call == "contrast":
            return contrast(fit, self.what, **self.arguments)
        return self._f_test(fit)

    def _f_test(self, fit: IntegratedPosterior | Optimum) -> pd.DataFrame:
        """All combinations at once; of a posterior each alone."""
        if not isinstance(fit, Optimum):
            return contrast(fit, self.what)
        terms = fit.design.terms
        H = np.zeros((len(self.what), len(terms)))
        for row, weights in zip(H, self.what.values(), strict=True):
            for term, weight in weights.items():
                row[terms.index(term)] = weight
        keep = _independent(H)
        num_df, den_df, F, p = fit.f_test(H[keep])
        return pd.DataFrame(
            {"num_df": [num_df], "den_df": [den_df], "F": [F], "p": [p]},
            index=pd.Index([self.label], name="contrast"),
        )


def _independent(H: np.ndarray) -> list[int]:
    """Rows that say something which those before do not."""
    kept: list[int] = []
    for k in range(len(H)):
        if np.linalg.matrix_rank(H[[*kept, k]]) > len(kept):
            kept.append(k)
    return kept
