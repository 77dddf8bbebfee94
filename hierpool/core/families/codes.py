"""Numbers of the compiled densities, and their bounds; compiling nothing by itself."""

from __future__ import annotations

LOGIT, PROBIT, CLOGLOG, POISSON, NEGBINOMIAL, STUDENT, GAMMA, BETA = range(8)
(
    ORDINAL_LOGIT,
    ORDINAL_PROBIT,
    ZERO_POISSON,
    ZERO_NEGBINOMIAL,
    HURDLE_POISSON,
    HURDLE_NEGBINOMIAL,
) = range(8, 14)
LARGEST_SHAPE = 1e10  # of a negative binomial or Gamma distribution; beyond, digits are lost
