"""Standard deviations and correlations on the edge: the optimum and the posterior told together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hierpool.core.findings import Finding


def boundary(blup: Any) -> Iterator[Finding]:
    """An optimum on the boundary."""
    if blup.status.word == "singular":
        text = (
            f"{blup.method}: {blup.status.sentence} Its BLUPs take that for certain; the posterior "
            "does not."
        )
        yield Finding("singular-reml", "warning", text)
