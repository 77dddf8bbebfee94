"""Which models are not even tried by quadrature."""

from __future__ import annotations

from hierpool.core.design import Design

LARGEST_EFFECTS = 3  # of the integrated factor
LARGEST_BESIDE = 100  # coefficients of the other factors that may have few rows a level
ROWS_A_LEVEL = 10


def beyond(design: Design) -> str:
    """Why a model is beyond this engine; empty where it is not."""
    if not design.groups:
        return ""
    related = [g.factor for g in design.groups if g.schema.related is not None]
    if related:
        return (
            f"groups of {related[0]} are related, and the exact engine integrates groups of a family that "
            "is not Gaussian one by one"
        )
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
