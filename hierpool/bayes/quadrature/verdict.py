"""Whether draws by quadrature and weights can be trusted, and which models are not even tried."""

from __future__ import annotations

from hierpool.bayes.quadrature.sampling import PointDraws
from hierpool.core.design import Design

LEAST_SHARE = 0.10  # effective share of the final batch
CLOSE = 0.05  # sd of the quadrature's error of the log likelihood over the posterior
LARGEST_EFFECTS = 3  # of the integrated factor
LARGEST_BESIDE = 100  # coefficients of the other factors that may have few rows a level
ROWS_A_LEVEL = 10


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
    return tuple(out)


def why_not(design: Design) -> str:
    """Why a model is beyond this engine; empty where it is not."""
    if not design.groups:
        return ""
    sizes = [group.grouping.n_levels for group in design.groups]
    first = sizes.index(max(sizes))
    largest = design.groups[first]
    if len(largest.terms) > LARGEST_EFFECTS:
        return (
            f"{len(largest.terms)} coefficients vary over {largest.factor}, and the exact engine "
            f"integrates at most {LARGEST_EFFECTS} of a family that is not Gaussian"
        )
    others = [g for k, g in enumerate(design.groups) if k != first]
    beside = sum(g.grouping.n_levels * len(g.terms) for g in others)
    thin = [g for g in others if design.n < ROWS_A_LEVEL * g.grouping.n_levels]
    if beside > LARGEST_BESIDE and thin:
        return (
            f"{largest.factor} and {thin[0].factor} both have many levels with few rows each, of "
            "which the exact engine can integrate only one in a family that is not Gaussian"
        )
    return ""
