"""The data sets and models that are timed, and what issue 3 asks of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """Varying intercept and slope on one bundled table.

    Attributes
    ----------
    data
        Name of the table.
    response, predictor, group
        Its columns; the model is ``response ~ predictor + (predictor | group)``.
    whole
        The formula itself, of a model of another kind; ``predictor`` and ``group`` are empty then.
    times_to_reach
        Smallest bulk ESS a second of the exact engine over that of Bambi + nutpie.
    loo_to_reach
        Seconds that ``fit.loo()`` may take; None where no limit was set.
    exact_elpd
        elpd with every row left out and the model refitted, hierpool's default priors; None where
        nobody has done it.
    """

    data: str
    response: str
    predictor: str
    group: str
    times_to_reach: float
    loo_to_reach: float | None = None
    exact_elpd: float | None = None
    whole: str = ""

    @property
    def formula(self) -> str:
        """In lme4's notation, which Bambi reads as well."""
        if self.whole:
            return self.whole
        return f"{self.response} ~ {self.predictor} + ({self.predictor} | {self.group})"


QUESTIONS = {
    q.data: q
    for q in (
        Question("boars", "volume", "time", "boar", 300),
        Question("sleepstudy", "Reaction", "Days", "Subject", 100, exact_elpd=-861.86),
        Question("radon", "log_radon", "floor", "county", 60),
        Question("Exam", "normexam", "standLRT", "school", 60, loo_to_reach=0.5),
        Question("Chem97", "score", "gcsecnt", "school", 25, loo_to_reach=3.0),
        Question(
            "Penicillin", "diameter", "", "", 10, whole="diameter ~ 1 + (1 | plate) + (1 | sample)"
        ),
        Question(
            *("InstEval", "y", "", "", 10),
            loo_to_reach=60.0,
            whole="y ~ 1 + (1 | s) + (1 | d) + (1 | dept)",
        ),
    )
}
MEMORY_TO_REACH = 2.0  # GB, for Chem97
