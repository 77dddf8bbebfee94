"""Sentences of the brief report, as a reader who runs no code would read them."""

import pytest

from hierpool.core.findings import Finding
from hierpool.core.group_nouns import called
from hierpool.report.brief import without_calls


def test_the_brief_report_names_no_function_of_the_package() -> None:
    finding = Finding(
        "few-levels",
        "warning",
        "There are only 3 schools.",
        "Shrinkage depends on the priors. hp.sensitivity(fit) shows how much. Consider school as a "
        "fixed effect.",
    )
    said = without_calls(finding)
    assert said.meaning == "Shrinkage depends on the priors. Consider school as a fixed effect."
    assert said.text == finding.text


def test_a_finding_without_code_stays_as_it_is() -> None:
    meaning = "Use a logistic model: lme4::glmer(family = binomial), or brms."
    finding = Finding("binary-response", "warning", "y has only two values.", meaning)
    assert without_calls(finding) == finding


@pytest.mark.parametrize(
    ("factor", "level", "said"),
    [
        ("Block:Variety", "I:Victory", "variety Victory in block I"),
        ("a:b:c", "1:2:3", "c 3 in b 2 in a 1"),
        ("school:class", "St. Mary: north:2", "school:class St. Mary: north:2"),
    ],
)
def test_a_group_within_another_is_called_by_both(factor: str, level: str, said: str) -> None:
    assert called(factor, level) == said
