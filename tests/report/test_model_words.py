"""Models in words that a reader without formulas understands."""

from __future__ import annotations

import pytest

import hierpool as hp
from hierpool.report.model_words import model_in_words, reference_categories
from tests.support.cases import each


@each(
    "formula, words",
    [
        ("Reaction ~ Days", "All subjects alike"),
        ("Reaction ~ Days + (1 | Subject)", "Subjects differ in level"),
        (
            "Reaction ~ Days + (Days | Subject)",
            "Subjects differ in level and effect of Days (may be correlated)",
        ),
        (
            "Reaction ~ Days + (Days || Subject)",
            "Subjects differ in level and effect of Days (independent)",
        ),
        ("Reaction ~ Days + (0 + Days | Subject)", "Subjects differ in effect of Days"),
    ],
)
def test_each_pooling_has_its_words(formula, words):
    design = hp.Model(formula, hp.datasets.load("sleepstudy")).design
    assert model_in_words(design, ["Subject"]) == words


def test_several_factors_are_told_one_after_the_other():
    data = hp.datasets.load("Pastes")
    formula = "strength ~ 1 + (1 | batch) + (1 | batch:cask)"
    assert model_in_words(hp.Model(formula, data).design, ["batch"]) == (
        "Batches differ in level; combinations of batch and cask differ in level"
    )


@pytest.mark.parametrize(
    ("formula", "base"),
    [
        ("distance ~ age * Sex + (1 | Subject)", {"Sex": "Male"}),
        ("distance ~ 0 + Sex + (1 | Subject)", {}),
        ("distance ~ age + (1 | Subject)", {}),
    ],
)
def test_the_category_that_others_are_compared_with_is_found(formula, base):
    design = hp.Model(formula, hp.datasets.load("Orthodont")).design
    assert reference_categories(design.schema) == base


def test_groups_as_fixed_effects_are_each_by_itself():
    plates = hp.datasets.load("Penicillin")
    design = hp.Model("diameter ~ C(sample) + (1 | plate)", plates).design
    words = model_in_words(design, ["plate", "sample"])
    assert words == "Each sample by itself; plates differ in level"
