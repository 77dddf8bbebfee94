"""Which findings are consequences of which: a root cause is named, and what comes of it is not."""

from __future__ import annotations

from collections.abc import Iterable

from hierpool.core.findings import Finding

PREDICTIVE = frozenset({"loo-pit", "predictive-check"})
SHAPES = frozenset({"skewed-residuals", "heavy-tails", "light-tails"})
VARIANCES = frozenset({"unequal-variance", "unequal-variance-of-levels"})
INFLUENCE = frozenset({"influential-level", "influential-design", "influential-level-sd"})
MEAN = frozenset({"numeric-code", "curvature", "contextual-effect", "coefficient-varies"})
GROUPS = frozenset({"level-coverage", "outlying-level", "correlation-near-one"})
UNCERTAIN = frozenset(
    {
        "singular-reml",
        "variance-near-zero",
        "correlation-near-one",
        "posterior-differs-from-blups",
    }
)

_SCALE = SHAPES | VARIANCES | PREDICTIVE | INFLUENCE | {"level-coverage", "outlying-row"}
_ALL = _SCALE | MEAN | GROUPS | {"autocorrelation"}

CAUSES: dict[str, frozenset[str]] = {
    # What the response is decides what residuals look like.
    "binary-response": _ALL,
    "count-response": _ALL,
    "bounded-response": _ALL,
    "few-values": _SCALE | GROUPS | {"curvature"},
    # What the rows cannot tell.
    "not-identified": UNCERTAIN | {"prior-dominates", "many-coefficients"},
    "few-levels": UNCERTAIN | INFLUENCE | {"prior-dominates"},
    "slope-of-few-levels": UNCERTAIN | {"prior-dominates"},
    "prior-dominates": UNCERTAIN,
    "prior-against-data": PREDICTIVE | INFLUENCE | {"level-coverage", "outlying-level"},
    "singular-reml": UNCERTAIN - {"singular-reml"},
    "log-response": SHAPES | VARIANCES | PREDICTIVE | INFLUENCE | {"level-coverage"},
    # A mean or slopes that are wrong leave residuals that are alike, and of unequal size.
    "numeric-code": (_ALL - MEAN - {"unequal-variance"}) | {"curvature"},
    "curvature": (_ALL - MEAN - {"outlying-row", "unequal-variance"}) | {"contextual-effect"},
    "coefficient-varies": _ALL - MEAN - {"outlying-row"},
    "contextual-effect": PREDICTIVE | INFLUENCE | {"level-coverage"},
    # One row or group.
    "outlying-row": PREDICTIVE | INFLUENCE,
    "influential-level": PREDICTIVE | {"influential-level-sd", "outlying-level"},
    "outlying-level": PREDICTIVE | {"influential-level-sd", "influential-design", "level-coverage"},
    # Variances, then the shape that a mixture of them has.
    "autocorrelation": VARIANCES | PREDICTIVE | INFLUENCE | {"level-coverage"},
    "unequal-variance": _SCALE - {"unequal-variance", "outlying-row", "level-coverage"},
    "unequal-variance-of-levels": SHAPES | PREDICTIVE | INFLUENCE | {"outlying-row"},
    "skewed-residuals": PREDICTIVE | INFLUENCE | {"outlying-row"},
    "heavy-tails": PREDICTIVE | INFLUENCE | {"outlying-row"},
    "loo-pit": frozenset({"predictive-check"}),
    "level-coverage": frozenset({"predictive-check"}),
}
"""Code of a cause -> codes of findings that come of it; the first causes first."""


def root_causes(findings: Iterable[Finding]) -> list[Finding]:
    """Findings about one model less those that come of another, the causes first.

    A finding that is withheld withholds nothing itself: the reader solves the cause, and checks
    again.
    """
    left = list(findings)
    for cause, consequences in CAUSES.items():
        if any(finding.code == cause for finding in left):
            left = [finding for finding in left if finding.code not in consequences]
    order = {code: k for k, code in enumerate(CAUSES)}
    return sorted(left, key=lambda finding: order.get(finding.code, -1))
