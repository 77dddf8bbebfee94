"""Whether draws by quadrature and weights can be trusted."""

from __future__ import annotations

from hierpool.bayes.exact.polynomial import CLOSE as CLOSE_POLYNOMIAL
from hierpool.bayes.quadrature.sampling import PointDraws

LEAST_SHARE = 0.10  # effective share of the final batch
CLOSE = 0.05  # sd of the quadrature's error of the log likelihood over the posterior


def doubts(draws: PointDraws) -> tuple[str, ...]:
    """Why draws are not to be trusted, apart from what their chains and weights show."""
    out = []
    if not draws.effective_share >= LEAST_SHARE:
        out.append(
            f"only {100 * draws.effective_share:.1f} % of the proposals count, "
            f"fewer than {100 * LEAST_SHARE:.0f} %"
        )
    if not draws.quadrature_sd <= CLOSE:
        out.append(
            "the quadrature over the groups' effects is not accurate enough: on a finer grid the "
            f"log likelihood differs with an sd of {draws.quadrature_sd:.2g}, more than {CLOSE:g}"
        )
    if not draws.discrepancy <= CLOSE_POLYNOMIAL:
        out.append(
            "the polynomial approximation of the log posterior was not accurate enough: it is off "
            f"with an sd of {draws.discrepancy:.2g}, more than {CLOSE_POLYNOMIAL:g}"
        )
    return tuple(out)
