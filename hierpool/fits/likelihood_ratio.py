"""hp.lrt: the likelihood ratio test of two nested fits."""

from __future__ import annotations

from functools import partial

from hierpool.core.errors import ArgumentError
from hierpool.core.threads import in_threads
from hierpool.fits.optimum import LikelihoodFit
from hierpool.reml import likelihood_ratio


def lrt(
    smaller: LikelihoodFit,
    larger: LikelihoodFit,
    *,
    null: likelihood_ratio.Null = "auto",
    simulations: int = 500,
    seed: int | None = None,
    cores: int | None = None,
    progress: bool = True,
) -> likelihood_ratio.LikelihoodRatio:
    """Likelihood ratio test of two nested REML, ML or least-squares fits of the same rows.

    Models that differ in their fixed effects are compared by ML, and refitted if necessary; with
    equal fixed effects REML fits are compared by REML. A variance that is zero in the smaller
    model is on the boundary, where a plain chi-squared is conservative. For one more variance the
    null distribution is a 50:50 mixture of chi-squareds, with 0 and 1 df for a variance alone,
    and with q and q + 1 df for a variance with q covariances. The mixture is correct for many
    groups, and conservative for few. For several more variances the null is simulated.

    Parameters
    ----------
    smaller, larger
        ``model.reml()`` or ``model.ml()``; the first model is a special case of the second.
    null
        ``"auto"``: as above. ``"simulated"``: responses from the smaller fit, both models fitted
        to each; correct for few groups too.
    simulations, seed, cores, progress
        Of a simulated null.

    Raises
    ------
    ComparisonError
        Other rows, another response, or models that are not nested.
    UnsupportedModelError
        One of them has no pooling.

    References
    ----------
    Self, Liang (1987), J. Am. Stat. Assoc. 82, 605-610.
    Stram, Lee (1994), Biometrics 50, 1171-1177.

    Examples
    --------
    >>> import hierpool as hp
    >>> dyes = hp.datasets.load("Dyestuff")
    >>> one = hp.Model("Yield ~ 1", dyes).reml()
    >>> hp.lrt(one, hp.Model("Yield ~ 1 + (1 | Batch)", dyes).reml())
    Likelihood ratio test by REML
      Yield ~ 1                 restricted log-likelihood -163.0116
      Yield ~ 1 + (1 | Batch)   restricted log-likelihood -159.8271
    statistic 6.369, 1 more parameter, p = 0.00581
    null: 50:50 mixture of chi-squareds with 0 and 1 df (Self and Liang 1987)
    """
    for fit in (smaller, larger):
        if not isinstance(fit, LikelihoodFit):
            raise ArgumentError(
                f"lrt() takes model.reml() or model.ml(); given: {type(fit).__name__}. Posteriors "
                "are compared by hp.compare().",
                "fit-needed",
            )
    each = partial(in_threads, what="null distribution", cores=cores, progress=progress)
    how = likelihood_ratio.Simulating(null, simulations, seed, each)
    one, other = ((fit.design, fit.estimate) for fit in (smaller, larger))
    return likelihood_ratio.likelihood_ratio(one, other, how)
