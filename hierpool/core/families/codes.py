"""Numbers by which compiled loops know a family with its link."""

from __future__ import annotations

LOGIT, PROBIT, CLOGLOG, POISSON, NEGBINOMIAL, STUDENT, GAMMA, BETA = range(8)
ORDINAL_LOGIT, ORDINAL_PROBIT, ZERO_POISSON, ZERO_NEGBINOMIAL = range(8, 12)
HURDLE_POISSON, HURDLE_NEGBINOMIAL, BETA_PROBIT = range(12, 15)

LARGEST_SHAPE = 1e10  # of a negative binomial or Gamma distribution; beyond, digits are lost
